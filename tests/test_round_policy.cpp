// round_policy.hpp and detail/reply_times.hpp: what they decide, without a loop.
#include "fedagent/round_policy.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <vector>

#include "fedagent/detail/reply_times.hpp"

using fedagent::AdaptiveDeadline;
using fedagent::Duration;
using fedagent::NodeSelection;
using fedagent::Quorum;
using fedagent::detail::ReplyTimes;
using namespace std::chrono_literals;

TEST_CASE("a quorum is all, a number, or a part that is rounded up") {
  CHECK(Quorum().of(7) == 7);
  CHECK(Quorum(4).of(7) == 4);
  CHECK(Quorum(4).of(3) == 4);
  CHECK(Quorum(0).of(3) == 0);
  CHECK(Quorum::fraction(0.5).of(7) == 4);
  CHECK(Quorum::fraction(0.1).of(30) == 3);
  CHECK(Quorum::fraction(0.7).of(10) == 7);
  CHECK(Quorum::fraction(1.0).of(9) == 9);
  CHECK(Quorum::fraction(0.0).of(9) == 0);
  CHECK(Quorum::fraction(0.01).of(1) == 1);
  CHECK(Quorum::all().of(0) == 0);
}

TEST_CASE("a selection holds no node, every node, or those that are named") {
  CHECK_FALSE(NodeSelection().contains("a"));
  CHECK(NodeSelection::every().contains("a"));
  const NodeSelection some{"a", "b"};
  CHECK(some.contains("b"));
  CHECK_FALSE(some.contains("c"));
}

TEST_CASE("an adaptive deadline is median + k MAD, between floor and cap") {
  ReplyTimes times;
  AdaptiveDeadline rule{.k = 2.0, .floor = 0s, .cap = 1min};
  CHECK(times.deadline(rule) == 1min);
  times.add(10s);
  times.add(12s);
  CHECK(times.deadline(rule) == 1min);  // two replies say too little
  times.add(20s);
  CHECK(times.deadline(rule) == 12s + 2 * 2s);
  times.add(14s);  // median of 10 12 14 20 is 13; distances 3 1 1 7: 2
  CHECK(times.deadline(rule) == 13s + 2 * 2s);
  rule.cap = 15s;
  CHECK(times.deadline(rule) == 15s);
  rule.cap = 1min;
  rule.floor = 30s;
  CHECK(times.deadline(rule) == 30s);
  rule.k = 1e300;
  CHECK(times.deadline(rule) == 1min);
}

TEST_CASE("only the last 16 reply times count") {
  ReplyTimes times;
  for (int i = 0; i < 100; ++i) {
    times.add(1h);
  }
  for (int i = 0; i < 16; ++i) {
    times.add(1s);
  }
  CHECK(times.deadline({.k = 3.0, .floor = 0s, .cap = 2h}) == 1s);
}

TEST_CASE("an adaptive deadline is what sorting the times gives") {
  constexpr unsigned seed = 20261124;
  INFO("seed ", seed);
  std::mt19937 random(seed);
  for (int run = 0; run < 500; ++run) {
    ReplyTimes times;
    std::vector<Duration> all;
    const auto count = std::uniform_int_distribution<std::size_t>(1, 40)(random);
    for (std::size_t i = 0; i < count; ++i) {
      all.emplace_back(std::uniform_int_distribution<Duration::rep>(1, 1'000'000)(random) * 2);
      times.add(all.back());
    }
    if (all.size() > 16) {
      all.erase(all.begin(), all.end() - 16);
    }
    const auto median = [](std::vector<Duration> values) {
      std::ranges::sort(values);
      return (values[(values.size() - 1) / 2] + values[values.size() / 2]) / 2;
    };
    const auto middle = median(all);
    std::vector<Duration> distances;
    for (const auto time : all) {
      distances.push_back(std::chrono::abs(time - middle));
    }
    CHECK(times.deadline({.k = 3.0, .floor = 0s, .cap = 1h, .min_replies = 1}) ==
          middle + 3 * median(distances));
  }
}
