#pragma once

#include <cstddef>
#include <cstdint>

namespace bench {

/// What the calling thread has taken from the heap and given back, by any kind of allocation.
/**
 * `malloc` itself is interposed: Asio takes the frames of its coroutines from `aligned_alloc`,
 * which no `operator new` sees. Sizes are those of the chunks, so they are what the heap really
 * loses.
 */
struct Allocations {
  std::uint64_t count = 0;
  std::uint64_t taken = 0;
  std::uint64_t given_back = 0;

  static Allocations now() noexcept;

  std::uint64_t live_bytes() const noexcept { return taken - given_back; }
  friend Allocations operator-(const Allocations& a, const Allocations& b) noexcept {
    return {a.count - b.count, a.taken - b.taken, a.given_back - b.given_back};
  }
};

/// The resident size of this process, in bytes.
std::size_t resident_bytes();

}  // namespace bench
