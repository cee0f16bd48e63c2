// What waits, below the agent: detail/deadlines.hpp, detail/watchdog.hpp and detail/waiter.hpp.
#include "fedagent/detail/watchdog.hpp"

#include <doctest/doctest.h>
#include <algorithm>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/post.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "fedagent/detail/deadlines.hpp"
#include "fedagent/detail/waiter.hpp"
#include "support/loop.hpp"
#include "support/printing.hpp"

using test::awaitable;
using test::errc;
using test::Executor;
using test::Loop;
using test::ManualClock;
using namespace std::chrono_literals;
using namespace boost::asio::experimental::awaitable_operators;

namespace {

using Deadlines = fedagent::detail::Deadlines<ManualClock>;
using Watchdog = fedagent::detail::Watchdog<ManualClock, Executor>;
using Waiter = fedagent::detail::Waiter<ManualClock, Executor>;
using WaitList = fedagent::detail::WaitList<ManualClock>;
using Log = std::vector<std::string>;

struct Entry final : Deadlines::Entry {
  explicit Entry(std::function<void()> what) : act(std::move(what)) {}
  void on_deadline() noexcept override { act(); }
  std::function<void()> act;
};

Entry logs(Log& log, std::string name) {
  return Entry([&log, name = std::move(name)] { log.push_back(name); });
}

void run_all(Deadlines& deadlines, ManualClock::time_point now) {
  while (deadlines.run_one(now)) {
  }
}

}  // namespace

// ---- deadlines.hpp

TEST_CASE("deadlines: they run in order of time, equal ones as they were armed, none early") {
  const ManualClock::time_point start{1h};
  Log log;
  Deadlines deadlines;
  auto a = logs(log, "a");
  auto b = logs(log, "b");
  auto c = logs(log, "c");
  auto d = logs(log, "d");
  CHECK(deadlines.next() == Deadlines::never);
  CHECK_FALSE(deadlines.run_one(start));
  deadlines.arm(a, start + 2s);
  deadlines.arm(b, start + 1s);
  deadlines.arm(c, start + 2s);
  deadlines.arm(d, start + 1s);
  CHECK(deadlines.next() == start + 1s);
  run_all(deadlines, start + 1s - 1ns);
  CHECK(log.empty());
  run_all(deadlines, start + 1s);
  CHECK(log == Log{"b", "d"});
  CHECK_FALSE(b.armed());
  run_all(deadlines, start + 1h);
  CHECK(log == Log{"b", "d", "a", "c"});
  CHECK(deadlines.next() == Deadlines::never);
}

TEST_CASE("deadlines: arming again moves an entry, disarming twice is no error") {
  const ManualClock::time_point start{1h};
  Log log;
  Deadlines deadlines;
  auto a = logs(log, "a");
  auto b = logs(log, "b");
  deadlines.arm(a, start + 1s);
  deadlines.arm(b, start + 2s);
  deadlines.arm(a, start + 3s);
  CHECK(a.deadline() == start + 3s);
  b.disarm();
  b.disarm();
  CHECK_FALSE(b.armed());
  run_all(deadlines, start + 2s);
  CHECK(log.empty());
  run_all(deadlines, start + 3s);
  CHECK(log == Log{"a"});
}

TEST_CASE("deadlines: an entry that is destroyed is out of the set") {
  const ManualClock::time_point start{1h};
  Log log;
  Deadlines deadlines;
  {
    auto gone = logs(log, "gone");
    deadlines.arm(gone, start);
  }
  CHECK(deadlines.next() == Deadlines::never);
  run_all(deadlines, start);
  CHECK(log.empty());
}

TEST_CASE("deadlines: an entry that runs may arm itself, disarm and destroy others, and itself") {
  const ManualClock::time_point start{1h};
  Log log;
  Deadlines deadlines;
  auto victim = logs(log, "victim");
  auto destroyed = std::make_unique<Entry>([&] { log.push_back("destroyed"); });
  Entry again([&] {
    log.push_back("again");
    if (log.size() < 3) {
      deadlines.arm(again, start + 1s * log.size());
    }
    victim.disarm();
    destroyed.reset();
  });
  auto suicide = std::make_unique<Entry>([] {});
  suicide->act = [&] {
    log.push_back("suicide");
    suicide.reset();
  };
  deadlines.arm(again, start);
  deadlines.arm(victim, start);
  deadlines.arm(*destroyed, start);
  run_all(deadlines, start);
  CHECK(log == Log{"again"});
  run_all(deadlines, start + 10s);
  CHECK(log == Log{"again", "again", "again"});
  deadlines.arm(*suicide, start);
  run_all(deadlines, start + 10s);
  CHECK(log.back() == "suicide");
  CHECK(deadlines.next() == Deadlines::never);
}

TEST_CASE(
    "deadlines: what was moved or disarmed keeps its place, and runs at its own time all the "
    "same") {
  const ManualClock::time_point start{1h};
  Log log;
  Deadlines deadlines;
  auto a = logs(log, "a");
  auto b = logs(log, "b");
  deadlines.arm(a, start + 2s);
  deadlines.arm(b, start + 4s);
  SUBCASE("later, and later again") {
    deadlines.arm(a, start + 5s);
    deadlines.arm(a, start + 6s);
    CHECK(deadlines.next() == start + 4s);
  }
  SUBCASE("later, when its place has been looked at, and later again") {
    deadlines.arm(a, start + 5s);
    run_all(deadlines, start + 2s);
    deadlines.arm(a, start + 6s);
  }
  SUBCASE("later, then back to before what it was moved to") {
    deadlines.arm(a, start + 9s);
    deadlines.arm(a, start + 6s);
  }
  SUBCASE("later, when its place has been looked at, then back to before that") {
    deadlines.arm(a, start + 9s);
    run_all(deadlines, start + 2s);
    deadlines.arm(a, start + 6s);
  }
  SUBCASE("disarmed, then armed for later") {
    a.disarm();
    CHECK_FALSE(a.armed());
    deadlines.arm(a, start + 6s);
  }
  SUBCASE("disarmed, its place looked at, then armed again") {
    a.disarm();
    CHECK(deadlines.next() == start + 4s);
    deadlines.arm(a, start + 6s);
  }
  SUBCASE("disarmed, then armed for earlier, then for later") {
    a.disarm();
    deadlines.arm(a, start + 1s);
    CHECK(deadlines.next() == start + 1s);
    deadlines.arm(a, start + 6s);
  }
  CHECK(a.armed());
  CHECK(a.deadline() == start + 6s);
  run_all(deadlines, start + 4s - 1ns);
  CHECK(log.empty());
  run_all(deadlines, start + 6s - 1ns);
  CHECK(log == Log{"b"});
  run_all(deadlines, start + 6s);
  CHECK(log == Log{"b", "a"});
  CHECK(deadlines.next() == Deadlines::never);
}

TEST_CASE("deadlines: of equal times, what was moved away to it comes last") {
  const ManualClock::time_point start{1h};
  Log log;
  Deadlines deadlines;
  auto moved = logs(log, "moved");
  auto a = logs(log, "a");
  auto b = logs(log, "b");
  deadlines.arm(moved, start + 1s);
  deadlines.arm(moved, start + 5s);
  deadlines.arm(a, start + 5s);
  deadlines.arm(b, start + 5s);
  run_all(deadlines, start + 5s);
  CHECK(log == Log{"a", "b", "moved"});
}

TEST_CASE("deadlines: moved to earlier than its place, it runs then, once") {
  const ManualClock::time_point start{1h};
  Log log;
  Deadlines deadlines;
  auto a = logs(log, "a");
  auto b = logs(log, "b");
  deadlines.arm(b, start + 2s);
  deadlines.arm(a, start + 3s);
  SUBCASE("at once") {}
  SUBCASE("after it was moved away") { deadlines.arm(a, start + 9s); }
  SUBCASE("after it was disarmed") { a.disarm(); }
  deadlines.arm(a, start + 1s);
  CHECK(deadlines.next() == start + 1s);
  run_all(deadlines, start + 1s);
  CHECK(log == Log{"a"});
  run_all(deadlines, start + 10s);
  CHECK(log == Log{"a", "b"});
}

TEST_CASE(
    "deadlines: what is disarmed is destroyed in its place, before, while and after others run") {
  const ManualClock::time_point start{1h};
  Log log;
  Deadlines deadlines;
  auto first = std::make_unique<Entry>([] {});
  auto last = std::make_unique<Entry>([] {});
  Entry middle([&] {
    log.push_back("middle");
    last.reset();
  });
  deadlines.arm(*first, start + 1s);
  deadlines.arm(middle, start + 2s);
  deadlines.arm(*last, start + 3s);
  first->disarm();
  last->disarm();
  first.reset();
  CHECK(deadlines.next() == start + 2s);
  run_all(deadlines, start + 2s);
  CHECK(log == Log{"middle"});
  CHECK(deadlines.next() == Deadlines::never);
}

TEST_CASE(
    "deadlines: they may be destroyed before what was armed or disarmed, which is free then") {
  const ManualClock::time_point start{1h};
  Log log;
  auto armed = logs(log, "armed");
  auto disarmed = logs(log, "disarmed");
  {
    Deadlines deadlines;
    deadlines.arm(armed, start + 1s);
    deadlines.arm(disarmed, start + 1s);
    disarmed.disarm();
  }
  Deadlines others;
  others.arm(disarmed, start + 2s);
  others.arm(armed, start + 1s);
  run_all(others, start + 2s);
  CHECK(log == Log{"armed", "disarmed"});
}

TEST_CASE("deadlines: in whatever way many are moved, each runs at its time, in order (seeded)") {
  struct Timed {
    std::unique_ptr<Entry> entry;
    ManualClock::time_point at = Deadlines::never;
  };
  for (std::uint32_t seed = 0; seed < 50; ++seed) {
    CAPTURE(seed);
    std::minstd_rand random(seed + 1);
    ManualClock::time_point now{1h};
    Deadlines deadlines;
    std::vector<Timed> all(20);
    for (auto& each : all) {
      each.entry = std::make_unique<Entry>([&each, &now] {
        CHECK(each.at <= now);
        each.at = Deadlines::never;
      });
    }
    for (int step = 0; step < 300; ++step) {
      auto& each = all[random() % all.size()];
      if (random() % 4 == 0) {
        each.entry->disarm();
        each.at = Deadlines::never;
      } else {
        each.at = now + 1s * (1 + random() % 20);
        deadlines.arm(*each.entry, each.at);
      }
      if (random() % 3 == 0) {
        now += 1s;
        run_all(deadlines, now);
      }
      const auto earliest = std::ranges::min_element(all, {}, &Timed::at)->at;
      CHECK(deadlines.next() == earliest);
      CHECK(earliest > now);
    }
  }
}

// ---- watchdog.hpp

TEST_CASE(
    "watchdog: what is armed runs at its time, not before, and the loop is then out of work") {
  Loop loop;
  Watchdog watchdog(loop.executor());
  Log log;
  auto a = logs(log, "a");
  auto b = logs(log, "b");
  watchdog.arm(a, loop.now() + 2s);
  loop.drain();
  // Earlier than what the coroutine sleeps for.
  watchdog.arm(b, loop.now() + 1s);
  loop.advance(1s - 1ns);
  CHECK(log.empty());
  loop.advance(1ns);
  CHECK(log == Log{"b"});
  CHECK_FALSE(loop.io.stopped());
  loop.advance(1s);
  CHECK(log == Log{"b", "a"});
  CHECK(loop.io.stopped());
  // It starts again.
  watchdog.arm(a, loop.now() + 1s);
  loop.advance(1s);
  CHECK(log == Log{"b", "a", "a"});
  CHECK(loop.io.stopped());
}

TEST_CASE("watchdog: a deadline of the past runs at the next turn of the loop, not within arm") {
  Loop loop;
  Watchdog watchdog(loop.executor());
  Log log;
  auto past = logs(log, "past");
  SUBCASE("armed from outside of the loop") {
    watchdog.arm(past, loop.now() - 1s);
    CHECK(log.empty());
  }
  SUBCASE("armed in the loop, where a coroutine that is spawned begins at once") {
    boost::asio::post(loop.io, [&] {
      watchdog.arm(past, loop.now() - 1s);
      log.push_back("after arm");
    });
    loop.drain();
    CHECK(log == Log{"after arm", "past"});
  }
  loop.drain();
  CHECK(log.back() == "past");
}

TEST_CASE("watchdog: what is disarmed or moved later does not run at its old time") {
  Loop loop;
  Watchdog watchdog(loop.executor());
  Log log;
  auto a = logs(log, "a");
  auto b = logs(log, "b");
  watchdog.arm(a, loop.now() + 1s);
  watchdog.arm(b, loop.now() + 1s);
  loop.drain();
  a.disarm();
  watchdog.arm(b, loop.now() + 3s);
  loop.advance(2s);
  CHECK(log.empty());
  loop.advance(1s);
  CHECK(log == Log{"b"});
}

TEST_CASE(
    "watchdog: asleep until the place of what was moved, it is in time for all that is armed "
    "then") {
  Loop loop;
  Watchdog watchdog(loop.executor());
  Log log;
  auto moved = logs(log, "moved");
  auto other = logs(log, "other");
  watchdog.arm(moved, loop.now() + 2s);
  loop.drain();
  SUBCASE("it was moved away") { watchdog.arm(moved, loop.now() + 9s); }
  SUBCASE("it was disarmed") { moved.disarm(); }
  SUBCASE("armed before the place") {
    watchdog.arm(moved, loop.now() + 9s);
    watchdog.arm(other, loop.now() + 1s);
    loop.advance(1s);
    CHECK(log == Log{"other"});
    log.clear();
  }
  SUBCASE("armed behind the place") {
    watchdog.arm(moved, loop.now() + 9s);
    watchdog.arm(other, loop.now() + 3s);
    loop.advance(3s - 1ns);
    CHECK(log.empty());
    loop.advance(1ns);
    CHECK(log == Log{"other"});
    log.clear();
  }
  SUBCASE("armed again before the place") {
    moved.disarm();
    watchdog.arm(moved, loop.now() + 1s);
    loop.advance(1s);
    CHECK(log == Log{"moved"});
    log.clear();
    watchdog.arm(moved, loop.now() + 5s);
  }
  loop.advance(2s);
  CHECK(log.empty());
  watchdog.arm(moved, loop.now() + 4s);
  loop.advance(4s - 1ns);
  CHECK(log.empty());
  loop.advance(1ns);
  CHECK(log == Log{"moved"});
  CHECK(loop.io.stopped());
}

TEST_CASE("watchdog: restarted again and again, a timer costs a turn once in its time") {
  Loop loop;
  Watchdog watchdog(loop.executor());
  Log log;
  auto a = logs(log, "a");
  watchdog.arm(a, loop.now() + 10s);
  loop.drain();
  std::size_t turns = 0;
  for (int i = 0; i < 100; ++i) {
    ManualClock::advance(1s);
    watchdog.arm(a, loop.now() + 10s);
    turns += loop.drain();
  }
  CHECK(log.empty());
  CHECK(turns <= 11);
  loop.advance(10s - 1ns);
  CHECK(log.empty());
  loop.advance(1ns);
  CHECK(log == Log{"a"});
}

TEST_CASE("B10: a timer that has fired and not yet run does not act on what was moved meanwhile") {
  Loop loop;
  Watchdog watchdog(loop.executor());
  Log log;
  auto a = logs(log, "a");
  watchdog.arm(a, loop.now() + 1s);
  loop.drain();
  // This handler runs first, in the same turn in which the timer fires: its cancellation would come
  // too late.
  boost::asio::post(loop.io, [&] {
    a.disarm();
    watchdog.arm(a, loop.now() + 5s);
  });
  ManualClock::advance(1s);
  loop.drain();
  CHECK(log.empty());
  loop.advance(5s);
  CHECK(log == Log{"a"});
}

TEST_CASE("watchdog: a deadline may arm another one, due at once or earlier than the rest") {
  Loop loop;
  Watchdog watchdog(loop.executor());
  Log log;
  auto last = logs(log, "last");
  auto next = logs(log, "next");
  auto at_once = logs(log, "at once");
  Entry first([&] {
    log.push_back("first");
    watchdog.arm(at_once, loop.now());
    watchdog.arm(next, loop.now() + 1s);
  });
  watchdog.arm(first, loop.now() + 1s);
  watchdog.arm(last, loop.now() + 10s);
  loop.advance(1s);
  CHECK(log == Log{"first", "at once"});
  loop.advance(1s);
  CHECK(log == Log{"first", "at once", "next"});
  loop.advance(8s);
  CHECK(log.back() == "last");
}

TEST_CASE(
    "watchdog: told to look when nothing is armed any more, it lets the loop run out of work") {
  Loop loop;
  Watchdog watchdog(loop.executor());
  Log log;
  auto a = logs(log, "a");
  auto b = logs(log, "b");
  watchdog.look();
  watchdog.arm(a, loop.now() + 1h);
  loop.drain();
  a.disarm();
  loop.drain();
  CHECK_FALSE(loop.io.stopped());
  watchdog.arm(b, loop.now() + 2h);
  watchdog.look();
  loop.drain();
  CHECK_FALSE(loop.io.stopped());
  b.disarm();
  watchdog.look();
  loop.drain();
  CHECK(loop.io.stopped());
  watchdog.arm(b, loop.now() + 2h);
  loop.advance(2h);
  CHECK(log == Log{"b"});
}

TEST_CASE("watchdog: destroyed, also by a deadline, it runs nothing more and keeps no work") {
  Loop loop;
  Log log;
  auto watchdog = std::make_unique<Watchdog>(loop.executor());
  auto never = logs(log, "never");
  SUBCASE("while its coroutine sleeps") {
    watchdog->arm(never, loop.now() + 1s);
    loop.drain();
    watchdog.reset();
  }
  SUBCASE("before its coroutine has begun") {
    watchdog->arm(never, loop.now() + 1s);
    watchdog.reset();
  }
  SUBCASE("by what it runs") {
    Entry killer([&] { watchdog.reset(); });
    watchdog->arm(killer, loop.now());
    watchdog->arm(never, loop.now());
    loop.drain();
    CHECK(watchdog == nullptr);
  }
  loop.advance(2s);
  CHECK(log.empty());
  CHECK(loop.io.stopped());
}

TEST_CASE("watchdog: the loop may be destroyed while its coroutine sleeps") {
  auto loop = std::make_unique<Loop>();
  Log log;
  auto never = logs(log, "never");
  auto watchdog = std::make_unique<Watchdog>(loop->executor());
  watchdog->arm(never, loop->now() + 1s);
  loop->drain();
  watchdog.reset();
  loop.reset();
  CHECK(log.empty());
}

// ---- waiter.hpp

namespace {

// Waits in line until it is told to leave, and says how often it looked.
awaitable<boost::system::error_code> wait_in_line(Executor executor, WaitList& line, int& looked) {
  Waiter waiter(executor);
  while (!waiter.verdict()) {
    if (!waiter.in_line()) {
      line.push_back(waiter);
    }
    co_await waiter.wait();
    ++looked;
  }
  co_return waiter.verdict();
}

awaitable<boost::system::error_code> wait_until(Executor executor, Watchdog& watchdog,
                                                ManualClock::time_point until) {
  Waiter waiter(executor, errc::poll_ended);
  watchdog.arm(waiter, until);
  while (!waiter.verdict()) {
    co_await waiter.wait();
  }
  co_return waiter.verdict();
}

}  // namespace

TEST_CASE("waiter: woken, it looks again and keeps its place; one wake-up too many is one look") {
  Loop loop;
  WaitList line;
  int first = 0;
  int second = 0;
  auto a = loop.spawn(wait_in_line(loop.executor(), line, first));
  auto b = loop.spawn(wait_in_line(loop.executor(), line, second));
  loop.drain();
  line.wake_first(1);
  line.wake_first(1);
  loop.drain();
  CHECK(first == 1);
  CHECK(second == 0);
  line.wake_first(1);
  loop.drain();
  CHECK(first == 2);
  line.wake_first(7);
  loop.drain();
  CHECK(first == 3);
  CHECK(second == 1);
  line.wake_first(0);
  loop.drain();
  CHECK(first == 3);
  line.wake_all();
  loop.drain();
  CHECK(first == 4);
  CHECK(second == 2);
  line.dismiss(make_error_code(errc::removed));
  CHECK(line.empty());
  loop.drain();
  CHECK(a.value() == errc::removed);
  CHECK(b.value() == errc::removed);
}

TEST_CASE("waiter: the first verdict stays") {
  Loop loop;
  Waiter waiter(loop.executor());
  CHECK_FALSE(waiter.verdict());
  waiter.leave(make_error_code(errc::superseded));
  waiter.leave(make_error_code(errc::stopped));
  CHECK(waiter.verdict() == errc::superseded);
}

TEST_CASE("waiter: a cancelled wait leaves with operation_aborted and is out of line") {
  Loop loop;
  WaitList line;
  int looked = 0;
  auto waiting = loop.spawn(wait_in_line(loop.executor(), line, looked));
  loop.drain();
  waiting.cancel();
  loop.drain();
  CHECK(waiting.value() == boost::asio::error::operation_aborted);
  CHECK(line.empty());
}

TEST_CASE("waiter: cancelled in the same turn as it is woken, it leaves (asio 1041, 1241)") {
  Loop loop;
  WaitList line;
  int looked = 0;
  auto waiting = loop.spawn(wait_in_line(loop.executor(), line, looked));
  loop.drain();
  SUBCASE("woken, then cancelled") {
    loop.in_one_turn([&] {
      line.wake_first(1);
      waiting.cancel();
    });
  }
  SUBCASE("cancelled, then woken") {
    loop.in_one_turn([&] {
      waiting.cancel();
      line.wake_first(1);
    });
  }
  CHECK(waiting.value() == boost::asio::error::operation_aborted);
  CHECK(looked == 1);
  CHECK(line.empty());
}

TEST_CASE("waiter: its deadline is a verdict, and none when it is destroyed before") {
  Loop loop;
  Watchdog watchdog(loop.executor());
  auto waiting = loop.spawn(wait_until(loop.executor(), watchdog, loop.now() + 1s));
  loop.advance(1s - 1ns);
  CHECK_FALSE(waiting.done());
  loop.advance(1ns);
  CHECK(waiting.value() == errc::poll_ended);
  {
    Waiter waiter(loop.executor());
    watchdog.arm(waiter, loop.now() + 1s);
    CHECK(waiter.armed());
    waiter.step_out();
    CHECK_FALSE(waiter.armed());
    watchdog.arm(waiter, loop.now() + 1s);
  }
  loop.advance(1s);
  CHECK(loop.io.stopped());
}

TEST_CASE("waiter: it may be woken before it waits, and be destroyed while it waits") {
  Loop loop;
  WaitList line;
  {
    Waiter waiter(loop.executor());
    line.push_back(waiter);
    CHECK(waiter.in_line());
    line.wake_all();
    CHECK_FALSE(line.empty());
  }
  CHECK(line.empty());
  int looked = 0;
  auto inner = std::make_unique<Loop>();
  auto waiting = inner->spawn(wait_in_line(inner->executor(), line, looked));
  inner->drain();
  CHECK_FALSE(line.empty());
  inner.reset();
  CHECK(line.empty());
  CHECK_FALSE(waiting.done());
}
