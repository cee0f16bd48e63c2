// Random rounds, alone and several at a time, against what the oracle says of each.
//
// FEDAGENT_SEED=<number> replays one scenario; FEDAGENT_ROUNDS=<count> sets how many scenarios are
// played.

#include <doctest/doctest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "support/round_oracle.hpp"
#include "support/round_play.hpp"

namespace {

using namespace test::oracle;
using test::RoundPlay;
using Answer = Work::Answer;
using Start = NodeScript::Start;

// So much that half of a half of it, and so on, is a whole number of nanoseconds: the deadlines of
// adaptive policies are to be exact. What a round calls a millisecond takes two minutes of virtual
// time.
constexpr Time unit = Time{1} << 20U;
constexpr Time ms = 125'000 * unit;

/// The same numbers for the same seed, whatever the standard library.
class Random {
 public:
  explicit Random(std::uint64_t seed)
      : engine_(static_cast<std::uint_fast32_t>(seed * 2654435761U + 1)) {}
  std::size_t below(std::size_t limit) { return engine_() % limit; }
  bool one_in(std::size_t count) { return below(count) == 0; }
  template <class T, std::size_t N>
  T of(const T (&values)[N]) {
    return values[below(N)];
  }
  /// So fine that two hardly ever meet.
  Time time(Time limit) {
    return unit + unit * static_cast<Time>(below(static_cast<std::size_t>(limit / unit)));
  }
  /// As a policy says it: often one that others say too.
  Time duration() { return one_in(3) ? time(120 * ms) : of({20 * ms, 40 * ms, 80 * ms}); }

 private:
  std::mt19937 engine_;
};

class Draw {
 public:
  explicit Draw(std::uint64_t seed) : random_(seed) {}

  Scenario scenario() {
    const auto size = random_.below(100);
    const auto nodes = size < 80   ? 1 + random_.below(8)
                       : size < 98 ? 1 + random_.below(30)
                                   : 100 + random_.below(101);
    Scenario all;
    all.disconnect_timeout = random_.time(random_.of({2 * ms, 30 * ms, 30 * ms}));
    all.max_age = random_.one_in(3) ? random_.time(200 * ms) : never;
    all.hold = random_.one_in(2);
    for (std::size_t i = 0; i < nodes; ++i) {
      all.nodes.push_back(node());
    }
    const auto rounds = nodes > 30 ? 1 : 1 + random_.below(4);
    Time starts = 0;
    for (std::size_t i = 0; i < rounds; ++i) {
      all.rounds.push_back(round(nodes, starts));
      starts += random_.time(80 * ms);
    }
    if (random_.one_in(12)) {
      all.stopped = random_.time(120 * ms);
    }
    return all;
  }

 private:
  NodeScript node() {
    NodeScript node;
    node.start =
        random_.of({Start::polling, Start::polling, Start::polling, Start::polling, Start::polling,
                    Start::polling, Start::polling, Start::away, Start::lost, Start::unknown});
    if (node.start == Start::polling) {
      // Two of them would often be lost at the same time, in an order that no rule tells.
      node.dies = !one_dies_ && random_.one_in(6);
      one_dies_ = one_dies_ || node.dies;
      if (random_.one_in(3)) {
        node.leaves = random_.time(100 * ms);
      }
      if (random_.one_in(2)) {
        node.returns = (node.leaves == never ? 0 : node.leaves) + random_.time(60 * ms);
      }
    } else if (random_.one_in(2)) {
      // At once is F4: before anything else, but after the send.
      node.returns = random_.one_in(3) ? 0 : random_.time(80 * ms);
    }
    if (random_.one_in(20)) {
      node.erased = random_.time(100 * ms);
    }
    return node;
  }

  RoundScript round(std::size_t nodes, Time starts) {
    RoundScript round;
    round.starts = starts;
    round.one_id = !random_.one_in(3);
    for (std::size_t i = 0; i < nodes; ++i) {
      Work work;
      work.answer = random_.of({Answer::good, Answer::good, Answer::good, Answer::good,
                                Answer::good, Answer::good, Answer::error, Answer::none});
      work.after = random_.time(random_.of({5 * ms, 50 * ms, 150 * ms}));
      work.again = random_.one_in(5) ? random_.time(50 * ms) : never;
      work.more = random_.time(ms);
      round.works.push_back(work);
    }
    round.nodes.resize(nodes);
    std::iota(round.nodes.begin(), round.nodes.end(), std::size_t{0});
    for (std::size_t i = nodes; i > 1; --i) {
      std::swap(round.nodes[i - 1], round.nodes[random_.below(i)]);
    }
    if (random_.one_in(3)) {
      round.nodes.resize(random_.below(nodes + 1));
    }
    if (random_.one_in(8)) {
      round.nodes.push_back(random_.below(nodes));  // perhaps a second time
    }
    round.policy = policy(nodes);
    if (may_ask_again(round)) {
      round.one_id = false;
    }
    if (random_.one_in(10)) {
      round.cancelled = starts + random_.time(100 * ms);
    }
    return round;
  }

  // Whether a node may be asked anew when it has been given up: under the same id, its answer to
  // the first would be taken for one to the second.
  static bool may_ask_again(const RoundScript& round) {
    auto all = round.nodes;
    all.insert(all.end(), round.policy.substitutes.begin(), round.policy.substitutes.end());
    std::ranges::sort(all);
    return std::ranges::adjacent_find(all) != all.end() &&
           (round.policy.max_in_flight > 0 || !round.policy.substitutes.empty());
  }

  Policy policy(std::size_t nodes) {
    Policy policy;
    policy.wanted.kind = random_.of({Wanted::Kind::all, Wanted::Kind::count, Wanted::Kind::part});
    if (policy.wanted.kind == Wanted::Kind::count) {
      policy.wanted.count = random_.below(nodes + 2);
    } else if (policy.wanted.kind == Wanted::Kind::part) {
      policy.wanted.parts = 1 + random_.below(10);
      policy.wanted.count = random_.below(policy.wanted.parts + 1);
    }
    policy.deadline = random_.one_in(2) ? random_.duration() : 0;
    policy.grace = random_.one_in(2) ? random_.duration() : 0;
    policy.per_node.kind =
        random_.of({PerNode::Kind::none, PerNode::Kind::fixed, PerNode::Kind::adaptive});
    policy.per_node.fixed = random_.duration();
    policy.per_node.cap = random_.duration();
    policy.per_node.floor = random_.one_in(2) ? policy.per_node.cap / 2 : 0;
    policy.per_node.halves_of_k = static_cast<Time>(random_.below(9));
    policy.per_node.min_replies = 1 + random_.below(3);
    policy.reconnect = random_.one_in(2) ? random_.duration() : 0;
    policy.stop_on_error = selection(nodes);
    policy.stop_on_disconnect = selection(nodes);
    policy.stop_on_timeout = selection(nodes);
    for (auto count = random_.one_in(2) ? random_.below(4) : 0; count > 0; --count) {
      policy.substitutes.push_back(random_.below(nodes));
    }
    policy.max_in_flight = random_.of(
        {std::size_t{0}, std::size_t{0}, std::size_t{1}, std::size_t{2}, std::size_t{5}});
    policy.late_for = random_.one_in(3) ? 0 : random_.time(200 * ms);
    return policy;
  }

  Selection selection(std::size_t nodes) {
    Selection selection;
    if (random_.one_in(8)) {
      selection.every = random_.one_in(2);
      selection.nodes.push_back(random_.below(nodes));
    }
    return selection;
  }

  Random random_;
  bool one_dies_ = false;
};

struct Played {
  std::string differences{};
  std::size_t rounds = 0;
  bool tie = false;
  std::uint64_t fingerprint = 0;
};

Played play(test::Loop& loop, std::uint64_t seed) {
  const auto scenario = Draw(seed).scenario();
  const auto expected = Simulator(scenario).run();
  Played played;
  played.rounds = scenario.rounds.size();
  played.tie = expected.tie;
  if (expected.tie) {
    return played;
  }
  std::vector<std::unique_ptr<RoundPlay>> plays;
  plays.push_back(std::make_unique<RoundPlay>(loop, scenario, expected));
  RoundPlay::play(loop, plays);
  played.differences = plays[0]->differences();
  played.fingerprint = plays[0]->fingerprint();
  return played;
}

std::uint64_t number_from(const char* variable, std::uint64_t otherwise) {
  const char* const text = std::getenv(variable);  // NOLINT(concurrency-mt-unsafe)
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

// A sanitizer makes it some ten times slower.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::uint64_t usual_scenarios = 400;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr std::uint64_t usual_scenarios = 400;
#else
constexpr std::uint64_t usual_scenarios = 1'500;
#endif
#else
constexpr std::uint64_t usual_scenarios = 1'500;
#endif

TEST_CASE("rounds: random rounds end when and as the oracle says, and leave nothing behind") {
  test::Loop loop;
  if (const auto seed = number_from("FEDAGENT_SEED", 0); seed > 0) {
    CHECK(play(loop, seed).differences == "");
    return;
  }
  const auto count = number_from("FEDAGENT_ROUNDS", usual_scenarios);
  std::size_t rounds = 0;
  std::uint64_t ties = 0;
  int told = 0;
  for (std::uint64_t seed = 1; seed <= count; ++seed) {
    const auto played = play(loop, seed);
    rounds += played.tie ? 0 : played.rounds;
    ties += played.tie ? 1U : 0U;
    if (!played.differences.empty()) {
      FAIL_CHECK("replay with FEDAGENT_SEED=", seed, ":\n", played.differences);
      REQUIRE(++told < 6);
    }
  }
  // Where two things happen at once and no rule says which is first, the oracle knows no answer.
  CHECK(ties * 20 <= count);
  CHECK(rounds > count);
}

TEST_CASE("rounds: the same seed gives the same rounds, another one others") {
  test::Loop loop;
  std::uint64_t last = 0;
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    const auto played = play(loop, seed);
    CHECK(play(loop, seed).fingerprint == played.fingerprint);
    CHECK((played.tie || played.fingerprint != last));
    last = played.fingerprint;
  }
}

}  // namespace
