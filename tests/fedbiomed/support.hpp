#pragma once

#include <doctest/doctest.h>
#include <boost/system/error_code.hpp>
#include <boost/system/result.hpp>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "fedagent/fedbiomed/error.hpp"
#include "fedbiomed/hex.hpp"
#include "support/printing.hpp"

namespace fedagent::fedbiomed {

inline doctest::String toString(errc error) { return make_error_code(error).message().c_str(); }

}  // namespace fedagent::fedbiomed

namespace support {

/// The bytes that c.8 has under this name.
inline std::string vector_of(const char* name) {
  static const auto vectors = nlohmann::json::parse(std::ifstream(FEDBIOMED_VECTORS));
  return from_hex(vectors.at(name).get<std::string>());
}

/// The error of a result, or none.
template <class T>
boost::system::error_code error_of(const boost::system::result<T>& result) {
  return result.has_value() ? boost::system::error_code() : result.error();
}

}  // namespace support
