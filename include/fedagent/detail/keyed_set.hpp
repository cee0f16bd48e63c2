#pragma once

#include <boost/unordered/unordered_flat_set.hpp>
#include <cstddef>
#include <functional>
#include <type_traits>

namespace fedagent::detail {

/// A set of pointers to what keeps its own key, and is found by it: a slot is a pointer.
/**
 * @tparam KeyOf `KeyOf()(pointer)` is the key, which does not change while the pointer is in the
 * set.
 */
template <class Pointer, class KeyOf>
struct Keyed {
  using Key = std::remove_cvref_t<std::invoke_result_t<KeyOf, const Pointer&>>;

  static const Key& key(const Key& key) noexcept { return key; }
  static decltype(auto) key(const Pointer& pointer) noexcept { return KeyOf()(pointer); }

  struct Hash {
    using is_transparent = void;
    std::size_t operator()(const auto& of) const noexcept { return std::hash<Key>()(key(of)); }
  };
  struct Same {
    using is_transparent = void;
    bool operator()(const auto& a, const auto& b) const noexcept { return key(a) == key(b); }
  };
};

template <class Pointer, class KeyOf>
using KeyedSet = boost::unordered_flat_set<Pointer, typename Keyed<Pointer, KeyOf>::Hash,
                                           typename Keyed<Pointer, KeyOf>::Same>;

}  // namespace fedagent::detail
