#pragma once

#include <boost/system/result.hpp>
#include <string_view>

#include "fedagent/fedbiomed/error.hpp"

namespace fedagent::fedbiomed {

/// A version of the messages. A node takes its own version and no other.
enum class Version {
  /// Of Fed-BioMed 5.4 to 6.1.
  v5 = 5,
  /// Of Fed-BioMed 6.3 and newer.
  v7 = 7,
};

inline constexpr std::string_view to_string(Version version) noexcept {
  return version == Version::v5 ? "5" : "7";
}

/// The version of this name, as a node gives it when it polls.
/** @par Errors `version_mismatch` when it is not one of `Version`. */
inline boost::system::result<Version> parse_version(std::string_view name) {
  for (const auto version : {Version::v5, Version::v7}) {
    if (name == to_string(version)) {
      return version;
    }
  }
  return make_error_code(errc::version_mismatch);
}

}  // namespace fedagent::fedbiomed
