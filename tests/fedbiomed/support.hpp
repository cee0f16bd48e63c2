#pragma once

#include <doctest/doctest.h>
#include <boost/system/error_code.hpp>
#include <boost/system/result.hpp>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "fedagent/fedbiomed/error.hpp"
#include "support/printing.hpp"

namespace fedagent::fedbiomed {

inline doctest::String toString(errc error) { return make_error_code(error).message().c_str(); }

}  // namespace fedagent::fedbiomed

namespace support {

inline std::string from_hex(std::string_view hex) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes += static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16));
  }
  return bytes;
}

inline std::string to_hex(std::string_view bytes) {
  static constexpr std::string_view digits = "0123456789abcdef";
  std::string hex;
  for (const char c : bytes) {
    const auto byte = static_cast<unsigned char>(c);
    hex += digits[byte >> 4U];
    hex += digits[byte & 15U];
  }
  return hex;
}

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
