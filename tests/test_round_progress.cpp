// detail/round_progress.hpp: what a round decides, without agents, time or a loop.
#include "fedagent/detail/round_progress.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <string>
#include <vector>

#include "fedagent/transport/memory.hpp"

using fedagent::errc;
using fedagent::NodeOutcome;
using fedagent::NodeSelection;
using fedagent::Quorum;
using fedagent::RoundEnd;
using fedagent::RoundPolicy;
using Message = fedagent::memory::Message;
using Progress = fedagent::detail::RoundProgress<Message>;
using Step = Progress::Step;

namespace {

const std::vector<std::string> three = {"a", "b", "c"};

void answer(Progress& progress, std::size_t row) {
  progress.end_row(row, NodeOutcome::reply, {}, std::make_shared<const Message>());
}
void lose(Progress& progress, std::size_t row) {
  progress.end_row(row, NodeOutcome::disconnected, errc::disconnected, nullptr);
}

}  // namespace

TEST_CASE("as many rows are asked as may be at a time, in order, and the next when one has ended") {
  RoundPolicy policy;
  policy.max_in_flight = 2;
  Progress progress(1, three, policy);
  CHECK(progress.ask_next() == 0);
  CHECK(progress.ask_next() == 1);
  CHECK_FALSE(progress.ask_next());
  CHECK(progress.open(2));
  CHECK_FALSE(progress.asked(2));
  answer(progress, 1);
  CHECK(progress.ask_next() == 2);
  CHECK_FALSE(progress.ask_next());
}

TEST_CASE(
    "a round ends when no row is open, or when its quorum is there and the grace begins, once") {
  RoundPolicy policy;
  policy.quorum = 1;
  Progress progress(1, three, policy);
  while (progress.ask_next()) {
  }
  CHECK(progress.step() == Step::goes_on);
  lose(progress, 0);
  CHECK(progress.step() == Step::goes_on);
  answer(progress, 1);
  CHECK(progress.step() == Step::grace_begins);
  CHECK(progress.step() == Step::goes_on);
  answer(progress, 2);
  CHECK(progress.step() == Step::ends);
  CHECK(progress.reason() == RoundEnd::complete);
  CHECK(progress.result().replied == 2);
}

TEST_CASE("what stops a round comes before all else: nobody is asked, and nobody steps in") {
  RoundPolicy policy;
  policy.max_in_flight = 1;
  policy.stop_on.disconnect = NodeSelection{"a"};
  policy.substitutes = {"d"};
  Progress progress(1, three, policy);
  REQUIRE(progress.ask_next() == 0);
  lose(progress, 0);
  CHECK_FALSE(progress.ask_next());
  CHECK(progress.step() == Step::ends);
  CHECK(progress.reason() == RoundEnd::node_disconnected);
  CHECK(progress.result().ended_by == 0);
  CHECK(progress.rows().size() == 3);
}

TEST_CASE("a substitute gets a row for each node without an answer, as long as one is wanted") {
  RoundPolicy policy;
  policy.quorum = 2;
  policy.substitutes = {"d", "e"};
  Progress progress(1, three, policy);
  while (progress.ask_next()) {
  }
  progress.end_row(0, NodeOutcome::error_reply, {}, std::make_shared<const Message>());
  CHECK(progress.rows().size() == 3);
  lose(progress, 1);
  REQUIRE(progress.rows().size() == 4);
  CHECK(progress.rows()[3].node_id == "d");
  CHECK(progress.rows()[3].substitute_for == 1);
  CHECK(progress.ask_next() == 3);
  answer(progress, 2);
  answer(progress, 3);
  CHECK(progress.step() == Step::ends);
}

TEST_CASE("the end closes every row that is open, by the reason of the round") {
  RoundPolicy policy;
  policy.max_in_flight = 1;
  for (const auto reason : {RoundEnd::deadline, RoundEnd::quorum, RoundEnd::stopped}) {
    CAPTURE(to_string(reason));
    const errc error = reason == RoundEnd::deadline  ? errc::deadline_passed
                       : reason == RoundEnd::stopped ? errc::stopped
                                                     : errc::round_ended;
    Progress progress(1, three, policy);
    REQUIRE(progress.ask_next() == 0);
    answer(progress, 0);
    REQUIRE(progress.ask_next() == 1);
    progress.end(reason);
    CHECK(progress.over());
    CHECK(progress.rows()[0].outcome == NodeOutcome::reply);
    CHECK(progress.rows()[1].outcome ==
          (reason == RoundEnd::deadline ? NodeOutcome::deadline_passed : NodeOutcome::withdrawn));
    CHECK(progress.rows()[1].error == error);
    CHECK(progress.rows()[2].outcome == NodeOutcome::not_sent);
    CHECK(progress.rows()[2].error == error);
    CHECK_FALSE(progress.ask_next());
  }
}

TEST_CASE("a round without nodes ends at once") {
  const RoundPolicy policy;
  Progress progress(1, {}, policy);
  CHECK_FALSE(progress.ask_next());
  CHECK(progress.step() == Step::ends);
  CHECK(progress.result().wanted == 0);
}
