#include <doctest/doctest.h>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <ctime>
#include <memory>
#include <type_traits>

#include "fedagent/coarse_clock.hpp"
#include "fedagent/fedagent.hpp"
#include "fedagent/transport/stream.hpp"

namespace {

using fedagent::CoarseClock;
// [store]
using Transport = fedagent::stream::Transport<boost::asio::any_io_executor, fedagent::CoarseClock>;
using Store = fedagent::AgentStore<Transport>;
// [/store]

static_assert(std::chrono::is_clock_v<CoarseClock>);
static_assert(std::is_same_v<CoarseClock::time_point, std::chrono::steady_clock::time_point>);

}  // namespace

TEST_CASE("the coarse clock is never ahead of the steady one and never goes back") {
  auto before = CoarseClock::now();
  for (int i = 0; i < 1000; ++i) {
    const auto now = CoarseClock::now();
    CHECK(now >= before);
    CHECK(now <= std::chrono::steady_clock::now());
    before = now;
  }
}

#if defined(__linux__)
TEST_CASE("the coarse clock is that of the latest tick, and not the steady one") {
  const auto tick = [] {
    std::timespec time{};
    REQUIRE(::clock_gettime(CLOCK_MONOTONIC_COARSE, &time) == 0);
    return CoarseClock::time_point(std::chrono::seconds(time.tv_sec) +
                                   std::chrono::nanoseconds(time.tv_nsec));
  };
  for (int i = 0; i < 1000; ++i) {
    const auto before = tick();
    const auto now = CoarseClock::now();
    const auto after = tick();
    CHECK(before <= now);
    CHECK(now <= after);
  }
}
#endif

TEST_CASE("a store and a timer tell the time by the coarse clock, which is the steady one's") {
  boost::asio::io_context io{1};
  Store store(io.get_executor());
  const auto agent = store.retrieve("hospital").value();
  const auto send = [&](std::chrono::steady_clock::time_point deadline) {
    return agent.try_send(std::make_shared<const fedagent::stream::Message>(), {},
                          {.deadline = deadline});
  };
  CHECK(send(CoarseClock::now()).error() == fedagent::errc::deadline_passed);
  CHECK(send(std::chrono::steady_clock::now() + std::chrono::hours(1)));

  boost::asio::basic_waitable_timer<CoarseClock> timer(io, CoarseClock::now());
  bool due = false;
  timer.async_wait([&](auto) { due = true; });
  io.poll();
  CHECK(due);
}
