#pragma once

#include <cstddef>

namespace bench {

/// What this program has allocated since its start, by `operator new` of any kind.
struct Allocations {
  std::size_t count = 0;
  std::size_t bytes = 0;

  static Allocations now() noexcept;
  friend Allocations operator-(Allocations a, Allocations b) noexcept {
    return {a.count - b.count, a.bytes - b.bytes};
  }
};

}  // namespace bench
