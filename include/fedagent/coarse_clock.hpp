#pragma once

#include <chrono>

#if defined(__linux__)
#include <ctime>
#endif

namespace fedagent {

/// The time of the kernel's latest tick: a `clock_type` whose readings cost a fifth.
/**
 * Its time points are those of `std::chrono::steady_clock`, which it is behind by up to a tick:
 * 1 to 10 ms, as the kernel was built. Timers are that much late, and what takes less than a tick
 * seems to take no time. Where a system has no such clock, this is `steady_clock`.
 *
 * @par Thread safety
 * Safe.
 */
struct CoarseClock {
  using duration = std::chrono::steady_clock::duration;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::steady_clock::time_point;
  static constexpr bool is_steady = true;

  static time_point now() noexcept {
#if defined(__linux__)
    std::timespec time{};
    if (::clock_gettime(CLOCK_MONOTONIC_COARSE, &time) == 0) {
      return time_point(std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec));
    }
#endif
    return std::chrono::steady_clock::now();
  }
};

}  // namespace fedagent
