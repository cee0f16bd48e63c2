// explain.hpp and report.hpp: what is said of rounds and nodes, as a struct and as text.
#include "fedagent/explain.hpp"

#include <doctest/doctest.h>
#include <fmt/format.h>
#include <optional>
#include <string>
#include <vector>

#include "support/loop.hpp"
#include "support/printing.hpp"

using namespace test;
using fedagent::explain;
using fedagent::TaskStage;

namespace {

struct World {
  explicit World(const fedagent::StoreOptions& options = {})
      : store(loop.executor(), options), rounds(store) {
    for (const auto* id : {"a", "b", "c"}) {
      nodes.emplace_back(store, id, 7);
      REQUIRE(store.retrieve(id));
    }
  }
  Agent agent(const std::string& id) { return store.retrieve(id).value(); }
  fedagent::RoundReport report() {
    auto reports = explain(rounds);
    REQUIRE(reports.size() == 1);
    return reports.front();
  }

  Loop loop;
  Store store;
  fedagent::Rounds<Transport> rounds;
  std::vector<Node> nodes{};
};

}  // namespace

TEST_CASE("a round tells whom it awaits, since when, in which state, and what ends it when") {
  World world;
  REQUIRE(world.store.try_send("a", message("first")));
  REQUIRE(world.store.try_send("a", message("second")));
  auto round = world.loop.spawn(world.rounds.run(
      {"a", "b", "c"}, message("q"),
      {.quorum = 2, .deadline = 100s, .grace = 20s, .per_node = 50s, .max_in_flight = 2}));
  world.loop.drain();
  REQUIRE(world.loop.run(world.nodes[1].poll()));
  world.loop.advance(3s);

  const auto report = world.report();
  CHECK(report.number == 1);
  CHECK(report.age == 3s);
  CHECK(report.nodes == 3);
  CHECK(report.wanted == 2);
  CHECK(report.replied == 0);
  CHECK(report.deadline_in == 97s);
  CHECK_FALSE(report.grace_in);
  REQUIRE(report.awaited.size() == 3);

  const auto& queued = report.awaited[0];
  CHECK(queued.node_id == "a");
  CHECK_FALSE(queued.has_polled);
  CHECK(queued.task.request_id == "q");
  CHECK(queued.task.stage == TaskStage::queued);
  CHECK(queued.task.behind == 2);
  CHECK(queued.task.behind_request == "first");
  CHECK(queued.task.in_stage == 3s);
  CHECK(queued.task.ends_in == 297s);  // its age
  CHECK(queued.deadline_in == 47s);
  CHECK_FALSE(queued.lost_in);

  const auto& out = report.awaited[1];
  CHECK(out.status == NodeActiveStatus::waiting);
  CHECK(out.task.stage == TaskStage::delivered);
  CHECK(out.task.session == 7);
  CHECK(out.task.attempts == 1);
  CHECK_FALSE(out.task.ends_in);

  CHECK(report.awaited[2].task.stage == TaskStage::not_sent);
  CHECK_FALSE(report.awaited[2].deadline_in);

  CHECK(fmt::format("{}", report) ==
        "round 1 for 3.0 s: 0 of 2 wanted replies from 3 nodes, deadline in 97.0 s\n"
        "  a (never polled): queued for 3.0 s behind 2, the first of them first, ends in 297.0 s, "
        "its deadline in 47.0 s\n"
        "  b (WAITING): delivered for 3.0 s to session 7, its deadline in 47.0 s\n"
        "  c (never polled): not sent");
}

TEST_CASE("a round tells of the grace, of a node that works, and of one that is lost") {
  World world;
  for (const auto* id : {"a", "b", "c"}) {
    world.agent(id).set_active();
  }
  auto round = world.loop.spawn(world.rounds.run({"a", "b", "c"}, message("q"),
                                                 {.quorum = 1, .grace = 60s, .reconnect = 30s}));
  world.loop.drain();
  for (auto& node : world.nodes) {
    REQUIRE(world.loop.run(node.poll()));
  }
  REQUIRE(world.loop.run(world.nodes[0].reply(Message{.request_id = "q"})));
  world.agent("b").set_active();  // the next poll confirms what the last one took
  world.agent("c").change_node_status_after_task();
  world.loop.advance(10s);

  const auto report = world.report();
  CHECK(report.replied == 1);
  CHECK(report.grace_in == 50s);
  CHECK_FALSE(report.deadline_in);
  REQUIRE(report.awaited.size() == 2);
  CHECK(report.awaited[0].task.stage == TaskStage::working);
  CHECK(report.awaited[0].task.in_stage == 10s);
  CHECK(report.awaited[1].status == NodeActiveStatus::disconnected);
  CHECK(report.awaited[1].task.stage == TaskStage::queued);  // back at the front
  CHECK(report.awaited[1].lost_in == 30s);
  CHECK(fmt::format("{}", report) ==
        "round 1 for 10.0 s: 1 of 1 wanted replies from 3 nodes, grace ends in 50.0 s\n"
        "  b (ACTIVE): working for 10.0 s\n"
        "  c (DISCONNECTED): queued for 0 ms, ends in 290.0 s, lost in 30.0 s");
}

TEST_CASE("every round that goes on is explained, and none that has ended") {
  World world;
  CHECK(explain(world.rounds).empty());
  auto first = world.loop.spawn(world.rounds.run({"a"}, message("p")));
  auto second = world.loop.spawn(world.rounds.run({"a"}, message("q")));
  world.loop.drain();
  CHECK(explain(world.rounds).size() == 2);
  first.cancel();
  world.loop.drain();
  CHECK(world.report().number == 2);
  world.store.stop();
  world.loop.drain();
  CHECK(explain(world.rounds).empty());
}

TEST_CASE("a node tells its status, when it was heard of, and all that it has open") {
  fedagent::StoreOptions options;
  options.idle_expiry = 1h;
  World world(options);
  auto agent = world.agent("a");
  const auto nobody = [](const fedagent::Outcome<Message>&) {};
  for (const auto* id : {"done", "out", "queued"}) {
    REQUIRE(agent.try_send(message(id), nobody));
  }
  REQUIRE(agent.try_send(message(""), fedagent::NoHandler{}));
  REQUIRE(world.loop.run(world.nodes[0].poll()));
  world.loop.advance(2s);
  auto held = [&] {
    agent.set_active();
    return world.loop.run(agent.get_task()).value();
  }();
  world.loop.advance(1s);

  auto report = explain(world.store, "a");
  CHECK(report.known);
  CHECK(report.status == NodeActiveStatus::active);
  CHECK(report.open_polls == 1);
  CHECK(report.last_poll == 1s);
  CHECK(report.last_seen == 1s);
  CHECK_FALSE(report.last_reply);
  CHECK_FALSE(report.status_ends_in);
  REQUIRE(report.tasks.size() == 4);
  CHECK(report.tasks[0].request_id == "queued");
  CHECK(report.tasks[1].behind == 1);
  CHECK(report.tasks[2].request_id == "out");
  CHECK(report.tasks[2].stage == TaskStage::leased);
  CHECK(report.tasks[3].request_id == "done");
  CHECK(report.tasks[3].stage == TaskStage::working);
  CHECK(report.tasks[3].age == 3s);
  CHECK(fmt::format("{}", report) ==
        "node a: ACTIVE, 1 open polls, last heard of 1.0 s ago\n"
        "  queued: queued for 3.0 s, ends in 297.0 s\n"
        "  without id: queued for 3.0 s behind 1, the first of them queued, ends in 297.0 s\n"
        "  out: leased for 1.0 s to session 0\n"
        "  done: working for 1.0 s");

  agent.change_node_status_after_task();
  CHECK(fmt::format("{}", explain(world.store, "a"))
            .starts_with(
                "node a: WAITING, 0 open polls, last heard of 1.0 s ago, DISCONNECTED in 10.0 s"));
  world.loop.advance(10s);
  CHECK(fmt::format("{}", explain(world.store, "a"))
            .starts_with(
                "node a: DISCONNECTED, 0 open polls, last heard of 11.0 s ago, removed in 60 min"));
}

TEST_CASE("a node without an agent is said to have none, and one that never polled to be new") {
  World world;
  CHECK_FALSE(explain(world.store, "stranger").known);
  CHECK(fmt::format("{}", explain(world.store, "stranger")) == "node stranger: no agent");
  CHECK(fmt::format("{}", explain(world.store, "a")) == "node a: has never polled");
}
