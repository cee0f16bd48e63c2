#pragma once

#include <doctest/doctest.h>
#include <string>

#include "fedagent/counters.hpp"
#include "fedagent/node_status.hpp"

// How a failed check prints the enumerations of the library; doctest finds these by their
// arguments.
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
