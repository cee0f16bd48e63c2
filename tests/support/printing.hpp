#pragma once

#include <doctest/doctest.h>
#include <boost/system/result.hpp>
#include <string>

#include "fedagent/counters.hpp"
#include "fedagent/error.hpp"
#include "fedagent/node_status.hpp"

// A result is printed by its error; doctest's own way needs an operator<< of the value.
template <class T, class E>
struct doctest::StringMaker<boost::system::result<T, E>> {
  static doctest::String convert(const boost::system::result<T, E>& result) {
    return result.has_value() ? "a value" : ("error: " + result.error().message()).c_str();
  }
};

// The enumerations of the library, by name; doctest finds these by their arguments.
namespace fedagent {

inline doctest::String toString(NodeActiveStatus status) {
  return std::string(to_string(status)).c_str();
}

inline doctest::String toString(ReplyDisposition disposition) {
  static constexpr const char* names[] = {"delivered", "forwarded",  "duplicate",   "late",
                                          "stopped",   "unexpected", "uncorrelated"};
  return names[static_cast<int>(disposition)];
}

inline doctest::String toString(errc error) { return make_error_code(error).message().c_str(); }

}  // namespace fedagent
