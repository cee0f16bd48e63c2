// detail/ledger.hpp: the age of what is queued, for which a queue has one timer.
#include "fedagent/detail/ledger.hpp"

#include <doctest/doctest.h>
#include <algorithm>
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "support/story.hpp"

using namespace test;

namespace {

constexpr auto max_age = 10s;

// A request that was first sent so long ago.
result<void> send(Story& story, const std::string& id, ManualClock::duration ago,
                  SendOptions options = {}) {
  options.first_send_time = ManualClock::now() - ago;
  return story.send(id, options);
}

bool expires_after(Story& story, const std::string& id, ManualClock::duration time) {
  story.loop.advance(time - 1ns);
  const bool was_open = story.outcomes.count(id) == 0;
  story.loop.advance(1ns);
  return was_open && story.outcomes.of(id).error == errc::expired;
}

}  // namespace

TEST_CASE("E4: each message is too old at its own time, in whatever order they were first sent") {
  Story story(AgentOptions{.max_age = max_age});
  REQUIRE(send(story, "r1", 0s));
  REQUIRE(send(story, "r2", 6s));
  REQUIRE(send(story, "r3", 2s));
  REQUIRE(send(story, "r4", 0s));
  REQUIRE(send(story, "r5", -3s));  // of a sender whose clock is ahead
  REQUIRE(send(story, "r6", 0s));
  CHECK(expires_after(story, "r2", 4s));
  CHECK(expires_after(story, "r3", 4s));
  CHECK(story.counters().queued == 4);
  CHECK(expires_after(story, "r1", 2s));
  CHECK(story.outcomes.of("r4").error == errc::expired);
  CHECK(story.outcomes.of("r6").error == errc::expired);
  CHECK(expires_after(story, "r5", 3s));
}

TEST_CASE("E4: when the oldest message has left the queue, the next one is in time all the same") {
  Story story(AgentOptions{.max_age = max_age});
  REQUIRE(story.send("r1"));
  story.loop.advance(3s);
  REQUIRE(story.send("r2"));
  SUBCASE("taken") { CHECK(story.deliver() == "r1"); }
  SUBCASE("flushed") { CHECK(story.flush("r1")); }
  story.loop.advance(7s);
  CHECK(story.counters().queued == 1);
  CHECK(expires_after(story, "r2", 3s));
}

TEST_CASE("E4: what comes back to a queue whose timer is for later ones is in time") {
  Story story(AgentOptions{.max_age = max_age});
  ManualClock::duration left = max_age;
  SUBCASE("first sent in order") { REQUIRE(story.send("r1")); }
  SUBCASE("first sent before the one that came before it") {
    REQUIRE(story.send("r0"));
    REQUIRE(send(story, "r1", 3s));
    CHECK(story.deliver() == "r0");
    left -= 3s;
  }
  {
    const auto task = story.take();
    CHECK(task.message()->request_id == "r1");
    story.loop.advance(2s);
    REQUIRE(story.send("r2"));
    // The timer of the queue has looked, and is for r2.
    story.loop.advance(4s);
  }
  CHECK(story.counters().queued == 2);
  CHECK(expires_after(story, "r1", left - 6s));
  CHECK(expires_after(story, "r2", max_age - left + 2s));
}

TEST_CASE("E4: a deadline at the very time at which a message is too old is what ends it, once") {
  Story story(AgentOptions{.max_age = max_age});
  const SendOptions at_the_same_time{.deadline = ManualClock::now() + max_age};
  REQUIRE(story.send("in order", at_the_same_time));
  REQUIRE(story.send("without"));
  REQUIRE(send(story, "out of order", 3s, {.deadline = ManualClock::now() + 7s}));
  story.loop.advance(7s - 1ns);
  CHECK(story.counters().queued == 3);
  story.loop.advance(1ns);
  CHECK(story.outcomes.of("out of order").error == errc::deadline_passed);
  story.loop.advance(3s);
  CHECK(story.outcomes.of("in order").error == errc::deadline_passed);
  CHECK(story.outcomes.of("without").error == errc::expired);
}

TEST_CASE("E4: with a maximum age of zero no first send is too old, and deadlines hold") {
  Story story(AgentOptions{.max_age = 0s});
  REQUIRE(story.send("r1"));
  REQUIRE(send(story, "r2", 30min));
  REQUIRE(send(story, "r3", 30min, {.deadline = ManualClock::now() + 1h}));
  story.loop.advance(1h - 1ns);
  CHECK(story.counters().queued == 3);
  story.loop.advance(1ns);
  CHECK(story.outcomes.of("r3").error == errc::deadline_passed);
  story.loop.advance(24h);
  CHECK(story.counters().queued == 2);
}

TEST_CASE("E4: the handler of what is too old may send, flush and stop, and the rest is in time") {
  Story story(AgentOptions{.max_age = max_age});
  enum class Deed { send, flush, stop } deed{};
  SUBCASE("send") { deed = Deed::send; }
  SUBCASE("flush") { deed = Deed::flush; }
  SUBCASE("stop") { deed = Deed::stop; }
  const auto act = [&](const Agent::outcome_type& outcome) {
    CHECK(outcome.error() == errc::expired);
    if (deed == Deed::send) {
      REQUIRE(story.send("r3"));
    } else if (deed == Deed::flush) {
      CHECK(story.flush("r2"));
    } else {
      story.agent->stop();
    }
  };
  REQUIRE(story.agent->try_send(story.make("r1"), act));
  REQUIRE(story.send("r2"));
  story.loop.advance(max_age);
  CHECK(story.outcomes.of("r2").error == (deed == Deed::send    ? errc::expired
                                          : deed == Deed::flush ? errc::flushed
                                                                : errc::stopped));
  if (deed == Deed::send) {
    CHECK(expires_after(story, "r3", max_age));
  }
  CHECK(story.counters().queued == 0);
}

TEST_CASE("E3, E4: whatever messages go through, each ends when it must and not before (seeded)") {
  struct Sent {
    std::string id{};
    ManualClock::time_point too_old{};
    ManualClock::time_point deadline{};
    enum class Where { queued, leased, working, ended } where = Where::queued;
    std::optional<errc> error{};
  };
  using enum Sent::Where;
  for (std::uint32_t seed = 0; seed < 60; ++seed) {
    CAPTURE(seed);
    std::minstd_rand random(seed + 1);
    const auto up_to = [&random](std::uint32_t most) {
      return static_cast<int>(random() % (most + 1));
    };
    Story story(AgentOptions{.max_age = max_age, .max_retries = 1000});
    std::vector<Sent> all;
    std::vector<Task> in_hand;
    const auto find = [&](std::string_view id) -> Sent& {
      return *std::ranges::find(all, id, &Sent::id);
    };
    const auto end = [](Sent& sent, errc error) {
      sent.where = ended;
      sent.error = error;
    };
    const auto first_queued = [&] { return std::ranges::find(all, queued, &Sent::where); };
    for (int step = 0; step < 200; ++step) {
      switch (up_to(5)) {
        case 0:
        case 1: {
          const auto id = "r" + std::to_string(step);
          const auto first = ManualClock::now() + 1s * (up_to(12) - 9);
          const auto deadline = up_to(2) == 0 ? ManualClock::now() + 1s * (1 + up_to(12))
                                              : ManualClock::time_point::max();
          REQUIRE(story.send(id, {.deadline = deadline, .first_send_time = first}));
          all.push_back({id, first + max_age, deadline});
          break;
        }
        case 2:
          if (const auto next = first_queued(); next != all.end()) {
            in_hand.push_back(story.take());
            CHECK(in_hand.back().message()->request_id == next->id);
            next->where = leased;
          }
          break;
        case 3:
          if (!in_hand.empty()) {  // it is lost on its way
            auto& sent = find(in_hand.front().message()->request_id);
            if (sent.where == leased) {
              sent.where = queued;
              if (ManualClock::now() >= sent.too_old) {
                end(sent, errc::expired);
              }
            }
            in_hand.erase(in_hand.begin());
          }
          break;
        case 4:
          if (!in_hand.empty()) {  // it is delivered, and that is confirmed
            auto& sent = find(in_hand.front().message()->request_id);
            in_hand.front().delivered();
            story.agent->set_active();
            sent.where = sent.where == leased ? working : sent.where;
            in_hand.erase(in_hand.begin());
          }
          break;
        default: {
          story.loop.advance(1s);
          for (auto& sent : all) {
            if (sent.where != ended && ManualClock::now() >= sent.deadline) {
              end(sent, errc::deadline_passed);
            } else if (sent.where == queued && ManualClock::now() >= sent.too_old) {
              end(sent, errc::expired);
            }
          }
        }
      }
      for (const auto& sent : all) {
        CAPTURE(sent.id);
        REQUIRE(story.outcomes.count(sent.id) == (sent.where == ended ? 1 : 0));
        if (sent.where == ended) {
          CHECK(story.outcomes.of(sent.id).error == *sent.error);
        }
      }
      CHECK(story.counters().balanced());
    }
    in_hand.clear();
  }
}
