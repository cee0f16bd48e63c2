#pragma once

#include <doctest/doctest.h>
#include <string>

#include "fedagent/counters.hpp"
#include "fedagent/node_status.hpp"

// How a failed check prints the enumerations of the library. Every test file that compares them
// includes this one.
namespace doctest {

template <>
struct StringMaker<fedagent::NodeActiveStatus> {
  static String convert(fedagent::NodeActiveStatus status) {
    return std::string(fedagent::to_string(status)).c_str();
  }
};

template <>
struct StringMaker<fedagent::ReplyDisposition> {
  static String convert(fedagent::ReplyDisposition disposition) {
    static constexpr const char* names[] = {"delivered", "forwarded",  "duplicate",   "late",
                                            "stopped",   "unexpected", "uncorrelated"};
    return names[static_cast<int>(disposition)];
  }
};

template <>
struct StringMaker<fedagent::errc> {
  static String convert(fedagent::errc error) {
    return fedagent::make_error_code(error).message().c_str();
  }
};

}  // namespace doctest
