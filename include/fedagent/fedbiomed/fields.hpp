#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <type_traits>
#include <vector>

#include "fedagent/fedbiomed/version.hpp"

namespace fedagent::fedbiomed {

/// The bytes of a MessagePack binary.
using Bytes = std::vector<std::uint8_t>;

namespace detail {

/// What a member of type `Json` may be, in sum. An integer may be one of more than 64 bits.
enum JsonKind : unsigned { json_integer = 1, json_array = 2, json_map = 4, json_tuple = 8 };

template <class T>
inline constexpr bool is_optional = false;
template <class T>
inline constexpr bool is_optional<std::optional<T>> = true;

/// A line of a class's table (c.7): the name of a field, the member for it, and what holds for it.
/**
 * What may be nil need not be there. Nil is an empty `std::optional`, or a null `Json`.
 */
template <class Class, class T>
struct Field {
  std::string_view name;
  T Class::*member;
  unsigned kinds = 0;
  bool nullable = is_optional<T>;
  bool has_default = is_optional<T>;
  Version first = Version::v5;
  Version first_nil = Version::v5;

  /// The field is there from this version on.
  constexpr Field since(Version version) const {
    auto copy = *this;
    copy.first = version;
    return copy;
  }
  /// The field may be nil.
  constexpr Field or_nil() const {
    auto copy = *this;
    copy.nullable = true;
    copy.has_default = true;
    return copy;
  }
  /// The field may be nil from this version on; before it must have a value.
  constexpr Field nil_since(Version version) const {
    auto copy = *this;
    copy.first_nil = version;
    return copy;
  }
  /// The field need not be there.
  constexpr Field defaulted() const {
    auto copy = *this;
    copy.has_default = true;
    return copy;
  }

  constexpr bool is_in(Version version) const noexcept { return version >= first; }
  constexpr bool may_be_nil(Version version) const noexcept {
    return nullable && version >= first_nil;
  }
  constexpr bool may_be_missing(Version version) const noexcept {
    return has_default && (!nullable || version >= first_nil);
  }
};

template <class Class, class T>
constexpr Field<Class, T> field(std::string_view name, T Class::*member) {
  return {.name = name, .member = member};
}

/// A field of type `Json`. @param kinds Of `JsonKind`.
template <class Class, class T>
constexpr Field<Class, T> field(std::string_view name, T Class::*member, unsigned kinds) {
  return {.name = name, .member = member, .kinds = kinds};
}

}  // namespace detail
}  // namespace fedagent::fedbiomed
