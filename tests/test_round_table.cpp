// Every combination of what a round's policy can say, against scripted nodes: the oracle says what
// must come of it.
//
// Each combination meets one of the sets of nodes; with FEDAGENT_ROUND_TABLE set, all of them.

#include <doctest/doctest.h>

#include <array>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "support/round_oracle.hpp"
#include "support/round_play.hpp"

namespace {

using namespace test::oracle;
using test::RoundPlay;
using Answer = Work::Answer;
using Start = NodeScript::Start;

constexpr Time ms = 1'000'000;

// What comes from outside never comes at the same time as a timer or as something else: each such
// thing has a bit of its own below the millisecond. Timers of policies have none, so they do.
constexpr Time bit(unsigned which) { return Time{8} << which; }

constexpr Time short_time = 40 * ms;
constexpr Time long_time = 200 * ms;

/// A node, what it does in the round, and how long it took in the round before.
struct Cast {
  NodeScript node{};
  Work work{};
};

/// The nodes of a round, and those that may step in.
struct Set {
  std::string name{};
  bool hold = false;
  std::vector<Cast> cast{};
  /// The last so many are the reserve.
  std::size_t reserve = 0;
};

std::vector<Set> sets() {
  const NodeScript here{};
  const NodeScript unknown{.start = Start::unknown};
  const NodeScript lost{.start = Start::lost};
  const NodeScript away{.start = Start::away};
  std::vector<Set> all;
  all.push_back({.name = "nodes that answer, err, leave and are late",
                 .hold = false,
                 .cast = {{here, {Answer::good, 10 * ms + bit(0)}},
                          {here, {Answer::error, 12 * ms + bit(1)}},
                          {{.leaves = 5 * ms + bit(2)}, {Answer::none}},
                          {here, {Answer::good, 70 * ms + bit(3), 5 * ms + bit(4)}},
                          {here, {Answer::none}},
                          {here, {Answer::good, 21 * ms + bit(5)}},
                          {unknown, {Answer::none}}},
                 .reserve = 2});
  const std::vector<Cast> absent = {
      {here, {Answer::good, 10 * ms + bit(0)}},
      {unknown, {Answer::none}},
      {{.start = Start::lost, .returns = 0}, {Answer::good, 15 * ms + bit(1)}},
      {lost, {Answer::none}},
      {{.leaves = 3 * ms + bit(2), .returns = 50 * ms + bit(3)}, {Answer::good, 61 * ms + bit(4)}},
      {{.start = Start::away, .returns = 90 * ms + bit(5)}, {Answer::good, 5 * ms + bit(6)}},
      {lost, {Answer::none}},
      {here, {Answer::good, 25 * ms + bit(7), 9 * ms + bit(8)}}};
  all.push_back({.name = "absent nodes, refused", .hold = false, .cast = absent, .reserve = 2});
  all.push_back({.name = "absent nodes, held for", .hold = true, .cast = absent, .reserve = 2});
  all.push_back({.name = "nodes that all answer",
                 .hold = false,
                 .cast = {{here, {Answer::good, 10 * ms + bit(0)}},
                          {here, {Answer::good, 31 * ms + bit(1), 1 * ms + bit(2)}},
                          {here, {Answer::good, 60 * ms + bit(3)}},
                          {here, {Answer::good, 3 * ms + bit(4)}}},
                 .reserve = 1});
  all.push_back(
      {.name = "nodes that crash, sleep, and are erased",
       .hold = true,
       .cast = {{{.returns = 120 * ms + bit(0), .dies = true}, {Answer::good, 30 * ms + bit(1)}},
                {away, {Answer::none}},
                {{.erased = 33 * ms + bit(2)}, {Answer::good, 90 * ms + bit(3)}},
                {here, {Answer::error, 45 * ms + bit(4)}},
                {here, {Answer::good, 20 * ms + bit(5)}},
                {here, {Answer::error, 6 * ms + bit(6)}}},
       .reserve = 2});
  all.push_back({.name = "no nodes", .hold = false, .cast = {{here, {}}}, .reserve = 1});
  return all;
}

// ---- the policies

constexpr std::array<std::size_t, 9> values = {5, 3, 3, 3, 2, 5, 2, 3, 2};
constexpr std::size_t combinations = 5 * 3 * 3 * 3 * 2 * 5 * 2 * 3 * 2;

using Choice = std::array<std::size_t, values.size()>;

Choice choice(std::size_t combination) {
  Choice chosen{};
  for (std::size_t i = 0; i < values.size(); ++i) {
    chosen[i] = combination % values[i];
    combination /= values[i];
  }
  return chosen;
}

Policy policy(const Choice& chosen, const Set& set) {
  Policy policy;
  const std::array<Wanted, 5> wanted = {
      Wanted{}, Wanted{Wanted::Kind::count, 2}, Wanted{Wanted::Kind::part, 1, 2},
      Wanted{Wanted::Kind::count, 0}, Wanted{Wanted::Kind::count, 99}};
  policy.wanted = wanted[chosen[0]];
  const std::array<Time, 3> times = {0, short_time, long_time};
  policy.deadline = times[chosen[1]];
  policy.grace = times[chosen[2]];
  policy.per_node.kind = static_cast<PerNode::Kind>(chosen[3]);
  policy.per_node.fixed = short_time;
  policy.per_node.halves_of_k = 4;
  policy.per_node.floor = short_time / 2;
  policy.per_node.cap = short_time;
  policy.reconnect = chosen[4] == 0 ? 0 : short_time;
  policy.stop_on_error.every = chosen[5] == 1;
  policy.stop_on_disconnect.every = chosen[5] == 2;
  policy.stop_on_timeout.every = chosen[5] == 3;
  if (chosen[5] == 4) {
    policy.stop_on_error.nodes = {5};
    policy.stop_on_disconnect.nodes = {3, 0};
    policy.stop_on_timeout.nodes = {4, 2};
  }
  if (chosen[6] == 1) {
    for (std::size_t i = 0; i < set.reserve; ++i) {
      policy.substitutes.push_back(set.cast.size() - set.reserve + i);
    }
  }
  policy.max_in_flight = chosen[7];
  policy.late_for = chosen[8] == 0 ? 0 : 45 * ms;
  return policy;
}

std::string describe(const Choice& chosen) {
  constexpr const char* names[] = {"quorum",      "deadline",      "grace",
                                   "per_node",    "reconnect",     "stop_on",
                                   "substitutes", "max_in_flight", "late_for"};
  std::string text;
  for (std::size_t i = 0; i < values.size(); ++i) {
    text += std::string(names[i]) + "=" + std::to_string(chosen[i]) + " ";
  }
  return text;
}

/// A round in which the nodes that are there answer: one with an error, which does not count for
/// the times, and one late, which does.
RoundScript round_before(const Policy& policy, const Set& set) {
  RoundScript before;
  before.policy.per_node = policy.per_node;
  before.policy.late_for = 500 * ms;
  before.policy.wanted.kind = Wanted::Kind::count;
  bool one_late = false;
  for (std::size_t i = 0; i < set.cast.size(); ++i) {
    const auto& [node, work] = set.cast[i];
    // Those below the floor will have the same deadline, the others one of their own.
    before.works.push_back({i == 4 ? Answer::error : Answer::good,
                            (i % 2 == 0 ? 9 : 28) * ms + bit(14) + static_cast<Time>(8 * i)});
    if (node.start != Start::polling || node.dies) {
      continue;
    }
    before.nodes.push_back(i);
    if (!one_late && i != 4 && (work.answer == Answer::none || work.after > short_time)) {
      one_late = true;  // one whose deadline will matter
      before.works[i].after = 33 * ms + bit(15);
    } else if (i != 4) {
      ++before.policy.wanted.count;
    }
  }
  return before;
}

/// The round, and before it, for an adaptive deadline, one in which the nodes that are there
/// answer.
Scenario scenario(const Choice& chosen, const Set& set) {
  Scenario all;
  all.disconnect_timeout = 7 * ms + bit(12);
  all.max_age = 301 * ms + bit(13);
  all.hold = set.hold;
  RoundScript round;
  round.policy = policy(chosen, set);
  Time starts = 0;
  if (round.policy.per_node.kind == PerNode::Kind::adaptive) {
    starts = 1000 * ms;
    all.rounds.push_back(round_before(round.policy, set));
  }
  for (std::size_t i = 0; i < set.cast.size(); ++i) {
    auto node = set.cast[i].node;
    node.leaves = plus(node.leaves, starts);
    node.returns = plus(node.returns, starts);
    node.erased = plus(node.erased, starts);
    all.nodes.push_back(node);
    round.works.push_back(set.cast[i].work);
    if (i < set.cast.size() - set.reserve) {
      round.nodes.push_back(i);
    }
  }
  round.starts = starts;
  all.rounds.push_back(round);
  return all;
}

/// Some combinations that meet the same set.
class Batch {
 public:
  Batch(test::Loop& loop, const Set& set) : loop_(&loop), set_(&set) {}

  void add(std::size_t combination) {
    all_.push_back(combination);
    if (all_.size() == 16) {
      play();
    }
  }
  void play() {
    std::vector<Scenario> scripts;
    std::vector<Expected> expected;
    scripts.reserve(all_.size());
    expected.reserve(all_.size());
    std::vector<std::unique_ptr<RoundPlay>> plays;
    for (const auto combination : all_) {
      scripts.push_back(scenario(choice(combination), *set_));
      expected.push_back(Simulator(scripts.back()).run());
      plays.push_back(std::make_unique<RoundPlay>(*loop_, scripts.back(), expected.back()));
    }
    RoundPlay::play(*loop_, plays);
    for (std::size_t i = 0; i < all_.size(); ++i) {
      REQUIRE_FALSE(expected[i].tie);  // the oracle has no answer then
      if (!plays[i]->differences().empty()) {
        tell(all_[i], plays[i]->differences());
      }
    }
    all_.clear();
  }

 private:
  // A few of them tell as much as all.
  void tell(std::size_t combination, const std::string& differences) {
    FAIL_CHECK("combination ", combination, " of ", set_->name, ": ", describe(choice(combination)),
               "\n", differences);
    REQUIRE(++told_ < 4);
  }

  test::Loop* loop_;
  const Set* set_;
  std::vector<std::size_t> all_{};
  int told_ = 0;
};

// A sanitizer makes it some ten times slower.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::size_t stride = 7;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr std::size_t stride = 7;
#else
constexpr std::size_t stride = 1;
#endif
#else
constexpr std::size_t stride = 1;
#endif

TEST_CASE("rounds: every combination of policies ends when and as the oracle says (F1 to F6, F8)") {
  const auto all = sets();
  const bool in_full =
      std::getenv("FEDAGENT_ROUND_TABLE") != nullptr;  // NOLINT(concurrency-mt-unsafe)
  test::Loop loop;
  std::vector<Batch> batches;
  for (const auto& set : all) {
    batches.emplace_back(loop, set);
  }
  for (std::size_t i = 0; i < combinations; i += in_full ? 1 : stride) {
    // 2654435761 is odd and has no pattern in common with the choices.
    const auto turn = (i * 2654435761U >> 7U) % all.size();
    for (std::size_t set = 0; set < all.size(); ++set) {
      if (in_full || set == turn) {
        batches[set].add(i);
      }
    }
  }
  for (auto& batch : batches) {
    batch.play();
  }
}

/// Plays one scenario. @return What is not as the oracle says.
std::string differences(const Scenario& script) {
  test::Loop loop;
  const auto expected = Simulator(script).run();
  REQUIRE_FALSE(expected.tie);
  std::vector<std::unique_ptr<RoundPlay>> plays;
  plays.push_back(std::make_unique<RoundPlay>(loop, script, expected));
  RoundPlay::play(loop, plays);
  return plays[0]->differences();
}

TEST_CASE("rounds: a node that used to answer at once has an adaptive deadline, not none") {
  test::Loop loop;
  test::Store store(loop.executor());
  const test::Series rounds(store);
  REQUIRE(store.retrieve("node"));
  fedagent::RoundPolicy policy;
  policy.per_node =
      fedagent::AdaptiveDeadline{.cap = fedagent::Duration(short_time), .min_replies = 1};
  const std::vector<std::string> nodes = {"node"};
  const auto first = loop.spawn(rounds.run(nodes, test::message("1"), policy));
  test::Node node(store, "node");
  REQUIRE(loop.run(node.poll()));
  REQUIRE(loop.run(node.reply({.request_id = "1"})));
  CHECK(first.value().replied == 1);
  const auto second = loop.spawn(rounds.run(nodes, test::message("2"), policy));
  loop.advance(fedagent::Duration(short_time));
  REQUIRE(second.done());
  CHECK(second.value().rows[0].outcome == fedagent::NodeOutcome::deadline_passed);
}

TEST_CASE("rounds: a cancelled round takes no late reply, whenever its node was given up") {
  Scenario script;
  script.nodes.resize(2);
  RoundScript round;
  round.nodes = {0, 1};
  round.policy.per_node = {.kind = PerNode::Kind::fixed, .fixed = short_time};
  round.policy.max_in_flight = 1;
  round.policy.late_for = long_time;
  round.works = {{Answer::good, 90 * ms + bit(0)}, {Answer::good, 35 * ms + bit(1)}};
  round.cancelled = 60 * ms + bit(2);
  script.rounds.push_back(round);
  CHECK(differences(script) == "");
}

TEST_CASE("rounds: nodes whose time is over together end in the order in which they were asked") {
  // The first is lost before that, which arms its timer anew.
  Scenario script;
  script.disconnect_timeout = 7 * ms + bit(1);
  script.nodes = {{.leaves = 5 * ms + bit(0)}, {}, {}};
  RoundScript round;
  round.nodes = {0, 1};
  round.policy.per_node = {.kind = PerNode::Kind::fixed, .fixed = short_time};
  round.policy.reconnect = short_time;
  round.policy.stop_on_timeout.every = true;
  round.works = {{Answer::none}, {Answer::none}, {Answer::good, 3 * ms + bit(2)}};
  script.rounds.push_back(round);
  CHECK(differences(script) == "");
  script.rounds[0].policy.stop_on_timeout.every = false;
  script.rounds[0].policy.substitutes = {2, 2};
  script.rounds[0].one_id = false;
  script.rounds[0].works[2].more = bit(3);
  CHECK(differences(script) == "");
}

}  // namespace
