#pragma once

#include <doctest/doctest.h>
#include <boost/system/result.hpp>
#include <string>

// A result is printed by its error; doctest's own way needs an operator<< of the value.
template <class T, class E>
struct doctest::StringMaker<boost::system::result<T, E>> {
  static doctest::String convert(const boost::system::result<T, E>& result) {
    return result.has_value() ? "a value" : ("error: " + result.error().message()).c_str();
  }
};
