// The training over agents, without a network: the nodes are coroutines in this process.
#include "training.hpp"

#include <doctest/doctest.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <exception>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "fedagent/transport/memory.hpp"
#include "hospital_work.hpp"

namespace {

using namespace federated;
using Transport = fedagent::memory::Transport<>;
using Message = fedagent::memory::Message;
using Store = fedagent::AgentStore<Transport>;
using Node = fedagent::memory::Node<Store>;
namespace asio = boost::asio;

/// How a hospital of the test behaves.
struct Character {
  std::uint32_t silent_after =
      std::numeric_limits<std::uint32_t>::max();  ///< It is gone from this round on.
  std::string always_says{};                      ///< Instead of a proper reply.
  std::uint32_t late_in = 0;      ///< Its reply to this round comes when the round has ended.
  std::uint32_t nonsense_in = 0;  ///< It says something else in this round.
};

/// What is to happen when a round has ended waits for this to be cancelled.
using Gate = asio::steady_timer;

asio::awaitable<void> hospital(Store& store, Gate& gate, std::string name, Dataset rows,
                               Character character) {
  Node node(store, name);
  for (;;) {
    auto task = co_await node.poll();
    if (!task) {
      co_return;
    }
    auto reply = do_task(rows, (*task)->body);
    if (reply.round >= character.silent_after) {
      co_return;
    }
    if (character.late_in > 0 && reply.round == character.late_in) {
      co_await gate.async_wait(asio::as_tuple(asio::use_awaitable));
    }
    auto body = character.always_says.empty() ? encode(reply) : character.always_says;
    if (character.nonsense_in > 0 && reply.round == character.nonsense_in) {
      body = "hello";
    }
    Message message{(*task)->request_id, std::move(body)};
    auto taken = co_await node.reply(std::move(message));
    if (!taken || std::holds_alternative<FinalReply>(reply.content)) {
      co_return;
    }
  }
}

struct World {
  explicit World(fedagent::Duration disconnect_timeout = std::chrono::seconds(60))
      : store(io.get_executor(), {.agent = {.disconnect_timeout = disconnect_timeout}}) {}

  void add(const std::string& name, const Dataset& rows, const Character& character = {}) {
    asio::co_spawn(io, hospital(store, round_over, name, rows, character), asio::detached);
  }

  /// The result, or the text of what was thrown.
  std::pair<Result, std::string> run(const TrainingPlan& plan, const Dataset& test) {
    std::pair<Result, std::string> end;
    TrainingEvents events;
    events.on_round = [this](const RoundSummary& round) {
      lines.push_back(progress_line(round));
      round_over.cancel();
    };
    events.on_late = [this](const LateSummary& late) { late_nodes.push_back(late.node); };
    events.on_fault = [this](const std::string& node, const std::string& fault) {
      faults.push_back(node + ": " + fault);
    };
    asio::co_spawn(io, run_training(store, plan, test, journal, events),
                   [&](std::exception_ptr error, Result result) {
                     end.first = std::move(result);
                     try {
                       if (error) {
                         std::rethrow_exception(error);
                       }
                     } catch (const std::exception& thrown) {
                       end.second = thrown.what();
                     }
                     store.stop();
                     // The hospitals hear of that first; then nothing is to keep us.
                     asio::post(io, [this] { io.stop(); });
                   });
    io.run();
    return end;
  }

  asio::io_context io;
  Store store;
  Gate round_over{io, Gate::time_point::max()};
  Journal journal{Journal::Clock::now()};
  std::vector<std::string> lines;
  std::vector<std::string> faults;
  std::vector<std::string> late_nodes;
};

}  // namespace

TEST_CASE("training: five hospitals reach what the pooled rows reach") {
  const auto split = split_dataset(read_dataset(FEDERATED_WDBC), {});
  World world;
  std::vector<std::string> names;
  for (std::size_t i = 0; i < 5; ++i) {
    names.push_back(fmt::format("hospital-{}", i + 1));
    world.add(names.back(), split.hospitals[i]);
  }
  const TrainingPlan plan;
  const auto [result, error] = world.run(plan, split.test);
  CHECK(error == "");
  CHECK(world.faults.empty());
  CHECK(result.rounds.size() == 30);
  CHECK(result.rounds.back().answered() == 5);
  CHECK(result.rounds.back().bytes_sent() > result.rounds.back().bytes_received());
  CHECK(result.rounds.back().end == fedagent::RoundEnd::complete);
  CHECK(result.late.empty());
  CHECK(result.rows == pooled(split.hospitals).rows());
  CHECK(result.on_own_rows.size() == 5);

  auto options = plan.options;
  options.epochs *= plan.rounds;
  const auto baselines = baselines_of(split, names, options);
  const auto counters = world.store.counters();
  CHECK(faults_of(result, baselines, counters) == std::vector<std::string>{});
  CHECK(counters.accepted == 32 * 5);
  CHECK(counters.confirmed == 32 * 5);
}

TEST_CASE("training: it goes on without a hospital that is gone, and says so") {
  const auto split = split_dataset(read_dataset(FEDERATED_WDBC), {.hospitals = 3});
  World world(
      fedagent::Duration::zero());  // DISCONNECTED as soon as a poll has ended and no other is open
  world.add("a", split.hospitals[0]);
  world.add("b", split.hospitals[1], {.silent_after = 2});
  world.add("c", split.hospitals[2]);
  TrainingPlan plan;
  plan.rounds = 4;
  plan.nodes = 3;
  plan.quorum = 3;
  plan.least = 2;
  plan.round_deadline = std::chrono::milliseconds(50);
  const auto [result, error] = world.run(plan, split.test);
  CHECK(error == "");
  REQUIRE(world.lines.size() == 4);
  CHECK(world.lines[0].ends_with("answered: a b c"));
  CHECK(world.lines[1].ends_with("answered: a c  DISCONNECTED: b"));
  CHECK(world.lines[3].ends_with("answered: a c  DISCONNECTED: b"));
  CHECK(result.on_own_rows.size() == 2);
  const auto counters = world.store.counters();
  CHECK(result.rounds[1].end == fedagent::RoundEnd::complete);  // nobody is waited for any more
  CHECK(counters.dropped_for(fedagent::errc::flushed) == 1);    // taken back from b
  CHECK(counters.refused == 3);  // rounds 3 and 4, and the final model
  CHECK(faults_of(result, {}, counters) == std::vector<std::string>{});
}

TEST_CASE("training: answers that make no sense are left out, and named") {
  const auto split = split_dataset(read_dataset(FEDERATED_WDBC), {.hospitals = 3});
  World world;
  world.add("garbage", split.hospitals[0], {.always_says = "hello"});
  world.add("good", split.hospitals[1]);
  world.add("narrow", Dataset{{"a", "b"}, 1, {1.0, 2.0}, {0, 1}});
  world.add("stale", split.hospitals[2], {.always_says = encode({7, FinalReply{}})});
  world.add("strange", split.hospitals[2], {.always_says = encode({0, FinalReply{}})});
  TrainingPlan plan;
  plan.rounds = 1;
  plan.quorum = 5;
  plan.least = 1;
  const auto [result, error] = world.run(plan, split.test);
  CHECK(error == "");
  REQUIRE(world.lines.size() == 1);
  CHECK(world.lines[0].ends_with("answered: good  unusable: garbage narrow stale strange"));
  REQUIRE(world.faults.size() >= 8);
  const std::vector<std::string> first(world.faults.begin(), world.faults.begin() + 8);
  CHECK(first == std::vector<std::string>{
                     "garbage: payload: 5 bytes that do not begin with FEDM",
                     "narrow: its rows have 1 features, the test rows 30",
                     "stale: it is about round 7, not 0",
                     "strange: it is a reply of another kind",
                     "garbage: payload: 5 bytes that do not begin with FEDM",
                     "narrow: the model is for 30 features, the rows here have 1",
                     "stale: it is about round 7, not 1",
                     "strange: it is about round 0, not 1",
                 });
  CHECK(result.rows == split.hospitals[1].rows());
}

TEST_CASE("training: a round with too few answers leaves the model as it was") {
  const auto split = split_dataset(read_dataset(FEDERATED_WDBC), {.hospitals = 2});
  World world;
  world.add("a", split.hospitals[0]);
  world.add("b", split.hospitals[1], {.silent_after = 2});
  TrainingPlan plan;
  plan.rounds = 2;
  plan.nodes = 2;
  plan.quorum = plan.least = 2;
  plan.round_deadline = std::chrono::milliseconds(50);
  plan.farewell = std::chrono::milliseconds(50);
  const auto [result, error] = world.run(plan, split.test);
  CHECK(error == "");
  REQUIRE(result.rounds.size() == 2);
  CHECK(result.rounds[0].model_changed);
  CHECK(!result.rounds[1].model_changed);
  CHECK(result.rounds[1].accuracy == result.rounds[0].accuracy);
  CHECK(world.lines[1].ends_with("(too few answers: the model stays as it was)"));
}

TEST_CASE("training: a reply that comes after its round is counted, and not averaged") {
  const auto split = split_dataset(read_dataset(FEDERATED_WDBC), {.hospitals = 3});
  TrainingPlan plan;
  plan.rounds = 4;
  plan.nodes = 3;
  plan.quorum = plan.least = 2;
  plan.grace = std::chrono::milliseconds(50);
  const auto run = [&](World& world, const Character& character) {
    world.add("a", split.hospitals[0]);
    world.add("b", split.hospitals[1]);
    world.add("c", split.hospitals[2], character);
    return world.run(plan, split.test);
  };
  World world;
  const auto [result, error] = run(world, {.late_in = 2});
  CHECK(error == "");
  REQUIRE(world.lines.size() == 4);
  CHECK(world.lines[1].ends_with("answered: a b  withdrawn: c"));
  CHECK(result.rounds[1].end == fedagent::RoundEnd::quorum);
  CHECK(result.rounds[1].took >= plan.grace);
  CHECK(world.lines[2].ends_with("answered: a b c"));
  CHECK(world.late_nodes == std::vector<std::string>{"c"});
  REQUIRE(result.late.size() == 1);
  CHECK(result.late[0].round == 2);
  CHECK(result.late[0].staleness == 1);
  CHECK(result.late[0].took >= plan.grace);
  CHECK(!result.late[0].unusable);
  CHECK(faults_of(result, {}, world.store.counters()) == std::vector<std::string>{});

  World without;
  const auto [other, no_error] = run(without, {.nonsense_in = 2});
  CHECK(no_error == "");
  CHECK(without.lines[1].ends_with("answered: a b  unusable: c"));
  REQUIRE(other.rounds.size() == 4);
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(result.rounds[i].accuracy == other.rounds[i].accuracy);
  }
  CHECK(result.on_own_rows == other.on_own_rows);
}

TEST_CASE("training: an answer that makes no sense is no part of the quorum") {
  const auto split = split_dataset(read_dataset(FEDERATED_WDBC), {.hospitals = 3});
  World world;
  world.add("a", split.hospitals[0], {.nonsense_in = 2});
  world.add("b", split.hospitals[1], {.nonsense_in = 2});
  world.add("c", split.hospitals[2]);
  TrainingPlan plan;
  plan.rounds = 2;
  plan.nodes = 3;
  plan.quorum = plan.least = 1;
  plan.grace = std::chrono::milliseconds(0);
  const auto [result, error] = world.run(plan, split.test);
  CHECK(error == "");
  REQUIRE(world.lines.size() == 2);
  // The first good answer ends a round: in the second that of c, which comes last.
  CHECK(world.lines[0].ends_with("answered: a  withdrawn: b c"));
  CHECK(world.lines[1].ends_with("answered: c  unusable: a b"));
  CHECK(result.rounds[1].model_changed);
}

TEST_CASE("training: no more answers are waited for than can come") {
  TrainingPlan plan;
  plan.quorum = 4;
  plan.round_deadline = std::chrono::milliseconds(800);
  plan.node_floor = std::chrono::milliseconds(900);
  CHECK(policy_of(plan, 5).quorum.of(5) == 4);
  CHECK(policy_of(plan, 4).quorum.of(5) == 4);
  CHECK(policy_of(plan, 3).quorum.of(5) == 3);
  // A floor above the deadline of the round means that deadline.
  const auto adaptive = std::get<fedagent::AdaptiveDeadline>(policy_of(plan, 5).per_node);
  CHECK(adaptive.floor == plan.round_deadline);
  CHECK(adaptive.cap == plan.round_deadline);
}

TEST_CASE(
    "training: when too few hospitals come, or are left, it ends with an error that says so") {
  const auto split = split_dataset(read_dataset(FEDERATED_WDBC), {.hospitals = 2});
  TrainingPlan plan;
  plan.rounds = 3;
  plan.patience = std::chrono::milliseconds(50);
  plan.round_deadline = std::chrono::milliseconds(50);
  SUBCASE("too few come") {
    World world;
    world.add("a", split.hospitals[0]);
    CHECK(world.run(plan, split.test).second ==
          "only 1 of 5 hospitals came: none more within 0.05 s");
  }
  SUBCASE("too few are left") {
    World world(fedagent::Duration::zero());
    plan.nodes = plan.quorum = plan.least = 2;
    world.add("a", split.hospitals[0]);
    world.add("b", split.hospitals[1], {.silent_after = 2});
    CHECK(world.run(plan, split.test).second ==
          "round 3: fewer than 2 hospitals are left: none more within 0.05 s");
  }
  SUBCASE("nobody tells what is needed") {
    World world;
    plan.nodes = 1;
    world.add("a", split.hospitals[0], {.always_says = "hello"});
    CHECK(world.run(plan, split.test).second == "0 hospitals told their statistics, 3 are needed");
  }
}
