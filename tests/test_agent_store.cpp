// agent_store.hpp: the store of agents (b.1), what it sends and what it tells.
#include "fedagent/agent_store.hpp"

#include <doctest/doctest.h>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "fedagent/poll.hpp"
#include "support/calls.hpp"
#include "support/story.hpp"

using namespace test;
using enum NodeActiveStatus;

namespace {

awaitable<std::optional<Agent>> retrieve(Store& store, std::string id) {
  co_return store.retrieve(id).value();
}

// Disconnects an agent of a store.
void lose(Loop& loop, const Agent& agent) {
  agent.set_active();
  agent.change_node_status_after_task();
  loop.advance(agent.disconnect_timeout());
  REQUIRE(agent.status() == disconnected);
}

}  // namespace

// ---- b.1

TEST_CASE("A1: to get an unknown node's agent gives none and makes none") {
  Loop loop;
  const Store store(loop.executor());
  CHECK_FALSE(store.get("k"));
  CHECK_FALSE(store.get(""));
  CHECK(store.size() == 0);
  CHECK(store.get_all().empty());
}

TEST_CASE("A2: 50 coroutines that retrieve one id at once all get the same agent") {
  Loop loop;
  Store store(loop.executor());
  std::vector<Spawned<std::optional<Agent>>> spawned;
  for (int i = 0; i < 50; ++i) {
    spawned.push_back(loop.spawn(retrieve(store, "k")));
  }
  loop.drain();
  CHECK(store.size() == 1);
  for (const auto& one : spawned) {
    CHECK(one.value() == spawned.front().value());
  }
  CHECK(store.get("k") == spawned.front().value());
}

TEST_CASE(
    "A3: to retrieve a known agent changes neither its status nor its queue nor its replies") {
  Loop loop;
  Store store(loop.executor());
  const auto agent = store.retrieve("k").value();
  REQUIRE(agent.try_send(message("r1")));
  lose(loop, agent);
  CHECK(store.retrieve("k").value() == agent);
  CHECK(agent.status() == disconnected);
  CHECK(agent.counters().queued == 1);
  CHECK(agent.counters().open_requests == 1);
  CHECK(agent.open_polls() == 0);
}

TEST_CASE("A4: get_all is a copy of the map to the same agents") {
  Loop loop;
  Store store(loop.executor());
  const auto a = store.retrieve("a").value();
  const auto b = store.retrieve("b").value();
  auto all = store.get_all();
  REQUIRE(all.size() == 2);
  CHECK(all.at("a") == a);
  CHECK(all.at("b") == b);
  all.erase("a");
  all.emplace("c", b);
  CHECK(store.get("a") == a);
  CHECK_FALSE(store.get("c"));
  REQUIRE(store.retrieve("d"));
  CHECK_FALSE(all.contains("d"));
  CHECK(store.erase("b"));
  CHECK(all.contains("b"));
}

TEST_CASE("A5: get_all and for_each give all agents, DISCONNECTED ones too") {
  Loop loop;
  Store store(loop.executor());
  const auto gone = store.retrieve("gone").value();
  lose(loop, gone);
  store.retrieve("waiting").value().change_node_status_after_task();
  store.retrieve("active").value().set_active();
  CHECK(store.get_all().size() == 3);
  CHECK(store.get_all().at("gone").status() == disconnected);
  std::size_t seen = 0;
  store.for_each([&](const Agent& agent) { seen += agent.id().size(); });
  CHECK(seen == 4 + 7 + 6);
}

namespace {

awaitable<result<void>> count_forwarded(std::shared_ptr<int> forwarded, MessagePtr) {
  ++*forwarded;
  co_return result<void>();
}

}  // namespace

TEST_CASE("A6: an agent of the store has its executor, its forwarder and its timeout") {
  Loop loop;
  const auto forwarded = std::make_shared<int>(0);
  Store store(
      loop.executor(),
      [forwarded](MessagePtr message) { return count_forwarded(forwarded, std::move(message)); },
      StoreOptions{.agent = {.disconnect_timeout = 3s}});
  const auto agent = store.retrieve("k").value();
  CHECK(agent.get_executor() == loop.executor());
  CHECK(store.get_executor() == loop.executor());
  CHECK(agent.disconnect_timeout() == 3s);
  CHECK(agent.id() == "k");
  CHECK(loop.run(agent.on_reply(Message{.destination = "elsewhere"})).value() ==
        ReplyDisposition::forwarded);
  CHECK(*forwarded == 1);
}

TEST_CASE("A6: one agent may have a timeout of its own, the others keep the store's") {
  Loop loop;
  Store store(loop.executor());
  const auto slow = store.retrieve("slow").value();
  const auto quick = store.retrieve("quick").value();
  slow.disconnect_timeout(60s);
  slow.change_node_status_after_task();
  quick.change_node_status_after_task();
  loop.advance(10s);
  CHECK(quick.status() == disconnected);
  CHECK(slow.status() == waiting);
  loop.advance(50s);
  CHECK(slow.status() == disconnected);
}

TEST_CASE("A7 (H23): an erased agent ends its requests as removed, its waits, and later traffic") {
  Loop loop;
  Outcomes outcomes;
  Store store(loop.executor());
  const auto agent = store.retrieve("k").value();
  for (const auto* id : {"queued", "delivered", "working"}) {
    REQUIRE(agent.try_send(message(id), outcomes.handler(id)));
  }
  auto polled = loop.run(agent.get_task());
  polled->message();
  auto delivered = loop.run(agent.get_task());
  delivered->delivered();
  auto asked = loop.spawn(agent.request(message("asked")));
  const auto idle = store.retrieve("idle").value();
  auto waiting_poll = loop.spawn(idle.get_task());
  auto waiting_status = loop.spawn(idle.wait_for(disconnected));
  loop.drain();

  CHECK(store.erase("k"));
  CHECK(store.erase("idle"));
  CHECK_FALSE(store.erase("k"));
  CHECK_FALSE(store.get("k"));
  CHECK(store.size() == 0);
  for (const auto* id : {"queued", "delivered", "working"}) {
    CHECK(outcomes.of(id).error == errc::removed);
  }
  loop.drain();
  CHECK(asked.value().error() == errc::removed);
  CHECK(waiting_poll.value().error() == errc::removed);
  CHECK(waiting_status.value().error() == errc::removed);

  // The kept handle fails cleanly.
  CHECK(agent.try_send(message("late")).error() == errc::removed);
  CHECK(loop.run(agent.get_task()).error() == errc::removed);
  CHECK(loop.run(agent.join()).error() == errc::removed);
  CHECK(loop.run(agent.request(message("late"))).error() == errc::removed);
  CHECK_FALSE(agent.Agent::NodeAgentAsync::flush("queued"));
  CHECK_NOTHROW(agent.set_active());
  CHECK_NOTHROW(agent.change_node_status_after_task());
  polled->delivered();
  CHECK(agent.counters().balanced());
  CHECK(store.counters().balanced());
  CHECK(store.counters().failed_for(errc::removed) == 4);
  loop.advance(1h);
  CHECK(loop.io.stopped());

  // The id may come back, as another agent.
  const auto again = store.retrieve("k").value();
  CHECK_FALSE(again == agent);
  CHECK(again.try_send(message("queued")));
}

TEST_CASE(
    "A7: an agent that has been DISCONNECTED for the idle expiry is removed; none without it") {
  Loop loop;
  Outcomes outcomes;
  Store store(loop.executor(), StoreOptions{.idle_expiry = 60s});
  const auto agent = store.retrieve("k").value();
  const auto other = store.retrieve("other").value();
  other.set_active();
  REQUIRE(agent.try_send(message("r1"), outcomes.handler("r1")));
  lose(loop, agent);
  SUBCASE("in time") {
    loop.advance(60s - 1ns);
    CHECK(store.get("k"));
    loop.advance(1ns);
    CHECK_FALSE(store.get("k"));
    CHECK(outcomes.of("r1").error == errc::removed);
    CHECK(agent.try_send(message("late")).error() == errc::removed);
  }
  SUBCASE("it comes back: the time starts anew with the next disconnection") {
    loop.advance(59s);
    lose(loop, agent);
    loop.advance(59s);
    CHECK(store.get("k"));
    loop.advance(1s);
    CHECK_FALSE(store.get("k"));
  }
  CHECK(store.get("other"));
  CHECK(store.counters().balanced());

  Store lasting(loop.executor());
  const auto stays = lasting.retrieve("k").value();
  lose(loop, stays);
  loop.advance(366 * 24h);
  CHECK(lasting.get("k"));
}

TEST_CASE("A8: an empty, an over-long or a refused id gets no agent, nor does one too many") {
  Loop loop;
  std::vector<std::string> asked;
  Store store(
      loop.executor(),
      StoreOptions{.max_agents = 2, .max_node_id_length = 5, .admit = [&](std::string_view id) {
                     asked.emplace_back(id);
                     return id != "evil";
                   }});
  CHECK(store.retrieve("").error() == errc::bad_node_id);
  CHECK(store.retrieve("123456").error() == errc::bad_node_id);
  CHECK(asked.empty());
  CHECK(store.retrieve("evil").error() == errc::not_admitted);
  CHECK(store.size() == 0);
  CHECK(store.retrieve("12345"));
  CHECK(store.retrieve("b"));
  CHECK(store.retrieve("c").error() == errc::too_many_agents);
  CHECK(store.size() == 2);
  // Who has an agent keeps it, unasked.
  asked.clear();
  CHECK(store.retrieve("b"));
  CHECK(asked.empty());
  // Erased, it makes room.
  CHECK(store.erase("b"));
  CHECK(store.retrieve("c"));
}

TEST_CASE("A8: an admission may stop its store, which then makes no agent") {
  Loop loop;
  std::optional<Store> store;
  StoreOptions options;
  options.admit = [&](std::string_view) {
    store->stop();
    return true;
  };
  store.emplace(loop.executor(), options);
  CHECK(store->retrieve("a").error() == errc::stopped);
  CHECK(store->size() == 0);
}

TEST_CASE("A8 A2: an admission may ask for the agent itself, and there is one") {
  Loop loop;
  std::optional<Store> store;
  std::optional<Agent> inner;
  StoreOptions options;
  SUBCASE("which may be one too many for two") { options.max_agents = 1; }
  SUBCASE("without a limit") {}
  options.admit = [&](std::string_view node_id) {
    if (!inner) {
      inner.emplace("not the one", loop.executor());
      inner = store->retrieve(node_id).value();
    }
    return true;
  };
  store.emplace(loop.executor(), options);
  const auto agent = store->retrieve("a").value();
  CHECK(agent == inner);
  CHECK(store->size() == 1);
  inner.reset();
  CHECK(store->erase("a"));
  CHECK(store->size() == 0);
  CHECK(agent.try_send(message("1")).error() == errc::removed);
}

TEST_CASE(
    "A8: by default an id has at most 255 bytes, of whatever kind, and agents have no limit") {
  Loop loop;
  Store store(loop.executor());
  CHECK(store.retrieve(std::string(255, 'x')));
  CHECK(store.retrieve(std::string(256, 'x')).error() == errc::bad_node_id);
  const std::string odd("a\0b\xff", 4);
  CHECK(store.retrieve(odd).value().id() == odd);
  CHECK_FALSE(store.get("a"));
  for (int i = 0; i < 1000; ++i) {
    REQUIRE(store.retrieve(std::to_string(i)));
  }
  CHECK(store.size() == 1002);
}

// ---- messages

TEST_CASE("store: a send goes to the agent, and to nobody when the node is unknown (H9)") {
  Loop loop;
  Outcomes outcomes;
  Store store(loop.executor());
  CHECK(store.try_send("k", message("r1"), outcomes.handler("r1")).error() == errc::unknown_node);
  CHECK(store.size() == 0);
  CHECK(outcomes.count("r1") == 0);
  const auto agent = store.retrieve("k").value();
  CHECK(store.try_send("k", message("r1"), outcomes.handler("r1")));
  CHECK(agent.counters().queued == 1);
  // From any thread: a refusal goes to the handler too.
  store.send("unknown", message("r2"), outcomes.handler("r2"));
  store.send("k", message("r3"), outcomes.handler("r3"));
  store.send("k", message("r1"), outcomes.handler("duplicate"));
  store.send("k", message(""));
  CHECK(agent.counters().queued == 1);
  loop.drain();
  CHECK(outcomes.of("r2").error == errc::unknown_node);
  CHECK(outcomes.of("duplicate").error == errc::duplicate_request_id);
  CHECK(agent.counters().queued == 3);
  store.stop();
  CHECK(outcomes.of("r1").error == errc::stopped);
  CHECK(outcomes.of("r3").error == errc::stopped);
}

TEST_CASE("store: sends that are on their way when it goes end as stopped") {
  Loop loop;
  Outcomes outcomes;
  auto store = std::make_unique<Store>(loop.executor());
  REQUIRE(store->retrieve("k"));
  store->send("k", message("r1"), outcomes.handler("r1"));
  store.reset();
  loop.drain();
  CHECK(outcomes.of("r1").error == errc::stopped);
}

TEST_CASE(
    "store: for_each and a stop go from the eldest agent to the latest, and none is left out") {
  Loop loop;
  Store store(loop.executor());
  std::vector<std::string> expected;
  std::vector<std::string> stopped;
  const auto make = [&](int number) {
    const auto id = "node-" + std::to_string(number);
    const auto agent = store.retrieve(id).value();
    expected.push_back(id);
    REQUIRE(agent.try_send(Message{.request_id = "r1"},
                           [&stopped, id](const auto& /*outcome*/) { stopped.push_back(id); }));
  };
  for (int i = 0; i < 1000; ++i) {
    make(i);
  }
  // One that goes leaves the order of the others; one that comes back is the latest.
  REQUIRE(store.erase("node-7"));
  expected.erase(expected.begin() + 7);
  make(7);
  stopped.clear();
  std::vector<std::string> seen;
  store.for_each([&](const Agent& agent) {
    seen.emplace_back(agent.id());
    if (seen.size() == 1) {
      make(1000);  // it has its turn too
    }
  });
  CHECK(seen == expected);
  store.stop();
  CHECK(stopped == expected);
}

TEST_CASE("store: a broadcast says how many took it") {
  Loop loop;
  Store store(loop.executor());
  CHECK(store.broadcast(message("")) == 0);
  const auto gone = store.retrieve("gone").value();
  const auto a = store.retrieve("a").value();
  const auto b = store.retrieve("b").value();
  lose(loop, gone);
  CHECK(store.broadcast(Message{.request_id = "r1"}) == 2);
  CHECK(gone.counters().queued == 0);
  CHECK(a.counters().queued == 1);
  CHECK(b.counters().queued == 1);
  CHECK(store.counters().refused == 1);
  // One id at many nodes: the tables are per agent (F8).
  CHECK(store.counters().open_requests == 2);
}

TEST_CASE("C5: the request id of an overlay message is its sender's, so it opens no request here") {
  Loop loop;
  Outcomes outcomes;
  Store store(loop.executor());
  const auto source = store.retrieve("source").value();
  const auto destination = store.retrieve("destination").value();
  const auto relay = [&] {
    return loop.run(source.on_reply(Message{.request_id = "theirs", .destination = "destination"}));
  };
  CHECK(relay().value() == ReplyDisposition::forwarded);
  CHECK(relay().value() == ReplyDisposition::forwarded);  // no duplicate of anything
  CHECK(destination.counters().requests == 0);
  CHECK(destination.counters().open_requests == 0);
  loop.run(destination.get_task())->delivered();
  destination.set_active();
  CHECK(destination.counters().confirmed == 1);
  // The id may be used by a request of the researcher, and a handler for an overlay is refused.
  CHECK(destination.try_send(message("theirs"), outcomes.handler("theirs")));
  CHECK(destination.try_send(Message{.request_id = "r", .destination = "x"}, outcomes.handler("r"))
            .error() == errc::request_id_missing);
  CHECK(store.counters().balanced());
  store.stop();
  CHECK(outcomes.of("theirs").error == errc::stopped);
  CHECK(outcomes.count("r") == 0);
}

TEST_CASE(
    "store: an overlay message goes to its destination's agent, or the source is told why not") {
  Loop loop;
  Store store(loop.executor(), StoreOptions{.agent = {.max_queued_messages = 1}});
  const auto source = store.retrieve("source").value();
  const auto relay = [&](std::string to) {
    return loop.run(source.on_reply(Message{.body = "sealed", .destination = std::move(to)}));
  };
  CHECK(relay("unknown").error() == errc::unknown_node);
  CHECK_FALSE(store.get("unknown"));
  const auto destination = store.retrieve("destination").value();
  CHECK(relay("destination").value() == ReplyDisposition::forwarded);
  CHECK(relay("destination").error() == errc::queue_full);
  CHECK(loop.run(destination.get_task())->message()->body == "sealed");
  CHECK(source.counters().replies_that_were(ReplyDisposition::forwarded) == 1);
  lose(loop, destination);
  CHECK(relay("destination").error() == errc::disconnected);
  // To itself is a way like any other.
  CHECK(relay("source").value() == ReplyDisposition::forwarded);
  CHECK(source.counters().queued == 1);
  CHECK(store.counters().balanced());
}

// ---- state

TEST_CASE("store: its counters are the sum over all agents, removed ones included, and balance") {
  Loop loop;
  Store store(loop.executor());
  const auto a = store.retrieve("a").value();
  const auto b = store.retrieve("b").value();
  REQUIRE(a.try_send(message("r1")));
  REQUIRE(b.try_send(message("r1")));
  REQUIRE(b.try_send(message("r2")));
  loop.run(a.get_task())->delivered();
  CHECK(store.counters().accepted == 3);
  CHECK(store.counters().queued == 2);
  CHECK(store.counters().leased == 1);
  CHECK(store.counters().balanced());
  CHECK(store.erase("b"));
  CHECK(store.counters().accepted == 3);
  CHECK(store.counters().queued == 0);
  CHECK(store.counters().dropped_for(errc::removed) == 2);
  CHECK(store.counters().balanced());
  store.stop();
  CHECK(store.counters().accepted == 3);
  CHECK(store.counters().total_failed() == 3);
  CHECK(store.counters().balanced());
}

TEST_CASE(
    "B16: the status events of all agents are one stream; a slow reader learns what it missed") {
  Loop loop;
  Store store(loop.executor());
  auto events = store.status_events();
  auto slow = store.status_events(2);
  const auto a = store.retrieve("a").value();
  const auto b = store.retrieve("b").value();
  a.set_active();
  a.change_node_status_after_task();
  loop.advance(5s);
  b.change_node_status_after_task();
  loop.advance(5s);
  a.set_active();
  const std::vector<std::string> expected{"a ACTIVE WAITING", "b ACTIVE WAITING",
                                          "a WAITING DISCONNECTED", "a DISCONNECTED ACTIVE"};
  std::vector<std::string> seen;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const auto event = loop.run(events.next()).value();
    seen.push_back(event.node_id + " " + std::string(to_string(event.from)) + " " +
                   std::string(to_string(event.to)));
    CHECK(event.missed == 0);
  }
  CHECK(seen == expected);
  const auto third = loop.run(slow.next()).value();
  CHECK(third.missed == 2);
  CHECK(third.to == disconnected);
  CHECK(third.at == loop.now());
  CHECK(loop.run(slow.next())->missed == 0);

  auto pending = loop.spawn(events.next());
  loop.drain();
  store.stop();
  loop.drain();
  CHECK(pending.value().error() == errc::stopped);
  auto late = store.status_events();
  CHECK(loop.run(late.next()).error() == errc::stopped);
}

TEST_CASE("E22: wait_for_nodes counts the nodes that have polled and are not lost") {
  Loop loop;
  Store store(loop.executor());
  CHECK(loop.run(store.wait_for_nodes(0)).has_value());
  auto two = loop.spawn(store.wait_for_nodes(2));
  const auto a = store.retrieve("a").value();
  const auto b = store.retrieve("b").value();
  REQUIRE(store.retrieve("never polled"));
  a.set_active();
  a.set_active();
  a.change_node_status_after_task();
  loop.drain();
  CHECK_FALSE(two.done());
  SUBCASE("the second comes") {
    b.set_active();
    loop.drain();
    CHECK(two.value().has_value());
  }
  SUBCASE("the first is lost before the second comes, and comes back") {
    a.change_node_status_after_task();
    loop.advance(10s);
    b.set_active();
    loop.drain();
    CHECK_FALSE(two.done());
    a.set_active();
    loop.drain();
    CHECK(two.value().has_value());
  }
  SUBCASE("the first is erased") {
    CHECK(store.erase("a"));
    b.set_active();
    loop.drain();
    CHECK_FALSE(two.done());
    store.retrieve("c").value().set_active();
    loop.drain();
    CHECK(two.value().has_value());
  }
}

TEST_CASE("E22: wait_for_nodes ends at its deadline, by cancellation, and with the store") {
  Loop loop;
  auto store = std::make_unique<Store>(loop.executor());
  auto late = loop.spawn(store->wait_for_nodes(1, loop.now() + 5s));
  auto cancelled = loop.spawn(store->wait_for_nodes(1));
  auto stopped = loop.spawn(store->wait_for_nodes(1));
  loop.advance(5s - 1ns);
  CHECK_FALSE(late.done());
  loop.advance(1ns);
  CHECK(late.value().error() == errc::deadline_passed);
  cancelled.cancel();
  loop.drain();
  CHECK(cancelled.value().error() == boost::asio::error::operation_aborted);
  auto lazy = store->wait_for_nodes(1);
  SUBCASE("stopped") { store->stop(); }
  SUBCASE("destroyed") { store.reset(); }
  loop.drain();
  CHECK(stopped.value().error() == errc::stopped);
  CHECK(loop.run(std::move(lazy)).error() == errc::stopped);
}

TEST_CASE(
    "store: stopped or destroyed, every wait ends, nothing new is made, and no message is left") {
  Loop loop;
  Outcomes outcomes;
  std::weak_ptr<const Message> left;
  auto store = std::make_unique<Store>(loop.executor());
  const auto agent = store->retrieve("k").value();
  {
    const auto sent = message("r1");
    left = sent;
    REQUIRE(agent.try_send(sent, outcomes.handler("r1")));
  }
  auto task = loop.run(agent.get_task());
  task->message();
  auto polled = loop.spawn(agent.get_task());
  auto joined = loop.spawn(agent.join());
  auto status = loop.spawn(agent.wait_for(disconnected));
  agent.change_node_status_after_task();
  loop.drain();
  SUBCASE("stopped") {
    store->stop();
    store->stop();
    CHECK(store->size() == 0);
    CHECK(store->retrieve("k").error() == errc::stopped);
    CHECK_FALSE(store->get("k"));
    CHECK(store->broadcast(message("")) == 0);
    CHECK(store->counters().balanced());
  }
  SUBCASE("destroyed") { store.reset(); }
  CHECK(outcomes.of("r1").error == errc::stopped);
  loop.drain();
  CHECK(polled.value().error() == errc::stopped);
  CHECK(joined.value().error() == errc::stopped);
  CHECK(status.value().error() == errc::stopped);
  CHECK(agent.try_send(message("r2")).error() == errc::stopped);
  task->delivered();
  task = result<Task>(Task());
  CHECK(left.expired());
  // No timer is left either.
  CHECK(loop.io.stopped());
  loop.advance(1h);
}

TEST_CASE("store: agents that go and come leave nothing but their counters") {
  Loop loop;
  Store store(loop.executor(), StoreOptions{.idle_expiry = 1s});
  for (int i = 0; i < 1000; ++i) {
    const auto id = "n" + std::to_string(i);
    const auto agent = store.retrieve(id).value();
    REQUIRE(agent.try_send(message("r")));
    agent.set_active();
    agent.change_node_status_after_task();
    loop.advance(11s);
  }
  loop.advance(1s);
  CHECK(store.size() == 0);
  CHECK(store.counters().failed_for(errc::removed) == 1000);
  CHECK(store.counters().balanced());
  CHECK(loop.run(store.wait_for_nodes(0)).has_value());
  CHECK(loop.io.stopped());
}

TEST_CASE("store: its observer sees the agents' events, each with its node's id") {
  Loop loop;
  ObservedStore store(loop.executor());
  const auto a = store.retrieve("a").value();
  const auto b = store.retrieve("b").value();
  REQUIRE(a.try_send(message("r1", "for a")));
  REQUIRE(b.try_send(message("r1", "for b")));
  CHECK_FALSE(b.try_send(message("r1", "again")));
  a.change_node_status_after_task();
  CHECK(store.erase("a"));
  const auto& lines = store.observer().log().lines;
  CHECK(lines.size() == 5);
  CHECK(lines[0] == "queued a for a");
  CHECK(lines[1] == "queued b for b");
  CHECK(lines[2] == "refused b again, a request with the same id is still open");
  CHECK(lines[3] == "status a ACTIVE WAITING");
  CHECK(lines[4] == "dropped a for a, the agent of the node was removed");
}
