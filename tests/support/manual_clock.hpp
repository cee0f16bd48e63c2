#pragma once

#include <boost/asio/wait_traits.hpp>
#include <chrono>

namespace test {

/// A steady clock that only a test moves.
struct ManualClock {
  using duration = std::chrono::nanoseconds;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<ManualClock>;
  static constexpr bool is_steady = true;

  static time_point now() noexcept { return now_; }
  static void advance(duration by) noexcept { now_ += by; }
  static void reset() noexcept { now_ = time_point(std::chrono::hours{1}); }

 private:
  static inline time_point now_{std::chrono::hours{1}};
};

}  // namespace test

// Zero makes poll() look at the timers each time; with any other answer it would wait for real
// time.
template <>
struct boost::asio::wait_traits<test::ManualClock> {
  static test::ManualClock::duration to_wait_duration(const test::ManualClock::duration&) {
    return test::ManualClock::duration::zero();
  }
  static test::ManualClock::duration to_wait_duration(const test::ManualClock::time_point&) {
    return test::ManualClock::duration::zero();
  }
};
