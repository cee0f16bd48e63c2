// node_agent.hpp: the status of a node (b.2), and how it is waited for.
#include <doctest/doctest.h>
#include <boost/asio/post.hpp>
#include <memory>
#include <string>
#include <vector>

#include "support/story.hpp"

using namespace test;
using enum NodeActiveStatus;

TEST_CASE(
    "B1: a new agent is ACTIVE with an empty queue and no timer, and tells that nobody polled") {
  Story story;
  CHECK(story.status() == active);
  CHECK(story.agent->status_async() == active);
  CHECK_FALSE(story.agent->has_polled());
  CHECK(story.agent->open_polls() == 0);
  CHECK(story.counters().queued == 0);
  story.loop.advance(24h);
  CHECK(story.status() == active);
  CHECK(story.loop.io.stopped());
  story.agent->set_active();
  CHECK(story.agent->has_polled());
}

TEST_CASE("B2: the end of the poll of an ACTIVE node makes it WAITING and starts the timer") {
  Story story;
  story.agent->set_active();
  story.agent->change_node_status_after_task();
  CHECK(story.status() == waiting);
  story.loop.drain();
  CHECK_FALSE(story.loop.io.stopped());
}

TEST_CASE("B3: WAITING becomes DISCONNECTED after the timeout, and not earlier") {
  Story story(AgentOptions{.disconnect_timeout = 10s});
  story.agent->set_active();
  story.agent->change_node_status_after_task();
  story.loop.advance(10s - 1ns);
  CHECK(story.status() == waiting);
  story.loop.advance(1ns);
  CHECK(story.status() == disconnected);
}

TEST_CASE("B4: a poll before the timeout makes the node ACTIVE for good") {
  Story story;
  story.agent->set_active();
  story.agent->change_node_status_after_task();
  story.loop.advance(9s);
  story.agent->set_active();
  CHECK(story.status() == active);
  story.loop.advance(1h);
  CHECK(story.status() == active);
}

TEST_CASE(
    "B5: a poll of a DISCONNECTED node makes it ACTIVE, with the queued messages still there") {
  Story story;
  story.agent->set_active();
  REQUIRE(story.send("r1"));
  story.disconnect();
  CHECK(story.counters().queued == 1);
  story.agent->set_active();
  CHECK(story.status() == active);
  CHECK(story.deliver() == "r1");
}

TEST_CASE("B6: a poll of an ACTIVE node changes no status, and nobody is told of a change") {
  Loop loop;
  Store store(loop.executor());
  const auto agent = store.retrieve("node").value();
  auto events = store.status_events();
  agent.set_active();
  agent.set_active();
  CHECK(agent.status() == active);
  auto next = loop.spawn(events.next());
  loop.drain();
  CHECK_FALSE(next.done());
  store.stop();
  loop.drain();
  CHECK(next.value().error() == errc::stopped);
}

TEST_CASE("B7 (H3): the end of a later poll starts the timer again: it counts from the last one") {
  Story story(AgentOptions{.disconnect_timeout = 10s});
  SUBCASE("a poll in between") {
    story.agent->set_active();
    story.agent->change_node_status_after_task();
    story.loop.advance(7s);
    story.agent->set_active();
    story.agent->change_node_status_after_task();
  }
  SUBCASE("the seed's second call without a poll") {
    story.agent->change_node_status_after_task();
    story.loop.advance(7s);
    story.agent->change_node_status_after_task();
  }
  story.loop.advance(10s - 1ns);
  CHECK(story.status() == waiting);
  story.loop.advance(1ns);
  CHECK(story.status() == disconnected);
}

TEST_CASE("B8 (H1): a poll that ends while another is open leaves the node ACTIVE, for good") {
  Story story;
  story.agent->set_active();
  story.agent->set_active();
  CHECK(story.agent->open_polls() == 2);
  story.agent->change_node_status_after_task();
  CHECK(story.status() == active);
  story.loop.advance(1h);
  CHECK(story.status() == active);
  CHECK(story.send("r1"));
  CHECK(story.deliver() == "r1");
  story.agent->change_node_status_after_task();
  CHECK(story.status() == waiting);
  story.loop.advance(10s);
  CHECK(story.status() == disconnected);
}

TEST_CASE("B9 (H2): a poll that ends after DISCONNECTED makes WAITING with a timer, every time") {
  Story story;
  story.disconnect();
  for (int i = 0; i < 3; ++i) {
    story.agent->change_node_status_after_task();
    CHECK(story.status() == waiting);
    story.loop.advance(10s);
    CHECK(story.status() == disconnected);
  }
}

TEST_CASE("B10: a timer that has fired but not yet run does not turn a fresh ACTIVE away") {
  Story story;
  story.agent->set_active();
  story.agent->change_node_status_after_task();
  story.loop.drain();
  SUBCASE("the poll comes first in the turn in which the timer fires") {
    boost::asio::post(story.loop.io, [&] { story.agent->set_active(); });
    story.loop.advance(0s);
    ManualClock::advance(10s);
    story.loop.drain();
    CHECK(story.status() == active);
  }
  SUBCASE("time is over, and the loop has not looked yet") {
    ManualClock::advance(11s);
    story.agent->set_active();
    story.loop.drain();
    CHECK(story.status() == active);
  }
  SUBCASE("the poll has come and gone: the timer is the new one") {
    ManualClock::advance(11s);
    story.agent->set_active();
    story.agent->change_node_status_after_task();
    story.loop.drain();
    CHECK(story.status() == waiting);
    story.loop.advance(10s);
    CHECK(story.status() == disconnected);
    return;
  }
  story.loop.advance(1h);
  CHECK(story.status() == active);
}

TEST_CASE("B11: a time that is over while the status is not WAITING changes nothing") {
  Story story;
  story.agent->set_active();
  story.agent->disconnect_timeout(0s);
  story.loop.advance(1h);
  CHECK(story.status() == active);
  story.agent->change_node_status_after_task();
  story.loop.drain();
  CHECK(story.status() == disconnected);
  story.loop.advance(1h);
  CHECK(story.status() == disconnected);
}

TEST_CASE(
    "B12, B13 (H27): the status is a snapshot; asked for on the loop itself it does not hang") {
  Story story;
  std::vector<NodeActiveStatus> seen;
  story.loop.in_one_turn([&] {
    seen.push_back(story.agent->status());
    story.agent->set_active();
    story.agent->change_node_status_after_task();
    seen.push_back(story.agent->status());
    CHECK(story.agent->status() == story.agent->status_async());
    story.agent->set_active();
    seen.push_back(story.agent->status());
  });
  CHECK(seen == std::vector{active, waiting, active});
}

TEST_CASE("B15 (H8): on disconnection the queue is kept, up to each message's own age") {
  Story story(AgentOptions{.max_age = 300s, .queued_on_disconnect = fedagent::QueuedPolicy::keep});
  story.agent->set_active();
  REQUIRE(story.send("r1"));
  story.disconnect();
  CHECK(story.counters().queued == 1);
  CHECK(story.outcomes.count("r1") == 0);
  SUBCASE("the node is back in time") {
    story.loop.advance(289s);
    story.agent->set_active();
    CHECK(story.deliver() == "r1");
    CHECK(story.reply("r1") == ReplyDisposition::delivered);
  }
  SUBCASE("the node is back too late: what was reported as expired is not executed") {
    story.loop.advance(290s);
    CHECK(story.outcomes.of("r1").error == errc::expired);
    story.agent->set_active();
    CHECK(story.counters().queued == 0);
  }
}

TEST_CASE("B15: with the policy drop, a disconnection ends what is queued as disconnected") {
  Story story(AgentOptions{.queued_on_disconnect = fedagent::QueuedPolicy::drop});
  story.agent->set_active();
  REQUIRE(story.send("r1"));
  REQUIRE(story.send("r2"));
  REQUIRE(story.agent->try_send(story.make("")));
  CHECK(story.deliver() == "r1");
  story.disconnect();
  // r1 was delivered and not confirmed: it came back to the queue, and fell with it.
  CHECK(story.outcomes.of("r1").error == errc::disconnected);
  CHECK(story.outcomes.of("r2").error == errc::disconnected);
  CHECK(story.counters().dropped_for(errc::disconnected) == 3);
  CHECK(story.counters().queued == 0);
}

TEST_CASE("B15: what is confirmed and waits for its reply stays open over a disconnection") {
  for (const auto policy : {fedagent::QueuedPolicy::keep, fedagent::QueuedPolicy::drop}) {
    Story story(AgentOptions{.queued_on_disconnect = policy});
    story.agent->set_active();
    REQUIRE(story.send("r1"));
    CHECK(story.deliver() == "r1");
    story.agent->set_active();
    story.disconnect();
    CHECK(story.counters().open_requests == 1);
    CHECK(story.outcomes.count("r1") == 0);
    story.agent->set_active();
    CHECK(story.reply("r1") == ReplyDisposition::delivered);
  }
}

TEST_CASE("B16: one waits for a status, and gets it when it comes or is there") {
  Story story;
  auto gone = story.loop.spawn(story.agent->wait_for(disconnected));
  auto there = story.loop.spawn(story.agent->wait_for(active));
  auto away = story.loop.spawn(story.agent->wait_for(waiting));
  story.loop.drain();
  CHECK(there.value().has_value());
  CHECK_FALSE(away.done());
  story.agent->set_active();
  story.agent->change_node_status_after_task();
  story.loop.drain();
  CHECK(away.value().has_value());
  CHECK_FALSE(gone.done());
  story.loop.advance(10s);
  CHECK(gone.value().has_value());
}

TEST_CASE(
    "B16: a wait sees a status that comes and goes within one turn, and none from before it") {
  Story story;
  story.agent->set_active();
  story.agent->change_node_status_after_task();
  story.agent->set_active();
  auto away = story.loop.spawn(story.agent->wait_for(waiting));
  story.loop.drain();
  CHECK_FALSE(away.done());
  story.loop.in_one_turn([&] {
    story.agent->change_node_status_after_task();
    story.agent->set_active();
  });
  CHECK(story.status() == active);
  CHECK(away.value().has_value());
}

TEST_CASE("B16: a wait for a status ends with the agent, and a cancelled one changes nothing") {
  Story story;
  auto stopped = story.loop.spawn(story.agent->wait_for(disconnected));
  auto cancelled = story.loop.spawn(story.agent->wait_for(disconnected));
  story.loop.drain();
  cancelled.cancel();
  story.loop.drain();
  CHECK(cancelled.value().error() == boost::asio::error::operation_aborted);
  CHECK(story.status() == active);
  SUBCASE("stop") { story.agent->stop(); }
  SUBCASE("the last handle") { story.agent.reset(); }
  story.loop.drain();
  CHECK(stopped.value().error() == errc::stopped);
  if (story.agent) {
    CHECK(story.loop.run(story.agent->wait_for(active)).error() == errc::stopped);
  }
}

TEST_CASE("D22: the latest poll, reply and any traffic are known, and none before there is any") {
  Story story;
  CHECK_FALSE(story.agent->last_seen().poll);
  CHECK_FALSE(story.agent->last_seen().reply);
  CHECK_FALSE(story.agent->last_seen().any);
  const auto start = story.loop.now();
  story.loop.advance(1s);
  story.agent->set_active();
  CHECK(story.agent->last_seen().poll == start + 1s);
  CHECK(story.agent->last_seen().any == start + 1s);
  CHECK_FALSE(story.agent->last_seen().reply);
  story.loop.advance(1s);
  CHECK(story.reply("never sent") == ReplyDisposition::unexpected);
  CHECK(story.agent->last_seen().reply == start + 2s);
  CHECK(story.agent->last_seen().any == start + 2s);
  story.loop.advance(1s);
  story.agent->touch();
  CHECK(story.agent->last_seen().any == start + 3s);
  CHECK(story.agent->last_seen().poll == start + 1s);
  CHECK(story.agent->last_seen().reply == start + 2s);
}

TEST_CASE("status: a reply and any other sign of life start a running timer again, and no more") {
  Story story;
  story.agent->set_active();
  story.agent->change_node_status_after_task();
  story.loop.advance(9s);
  SUBCASE("a reply, of whatever kind") { story.reply("never sent"); }
  SUBCASE("any other") { story.agent->touch(); }
  story.loop.advance(9s);
  CHECK(story.status() == waiting);
  story.loop.advance(1s);
  CHECK(story.status() == disconnected);
  // Only a poll brings a node back: a task for it would wait for ever.
  story.agent->touch();
  CHECK(story.status() == disconnected);
}

TEST_CASE("status: a timeout of zero is over at the next turn of the loop, also within a handler") {
  Loop loop;
  Store store(loop.executor(), StoreOptions{.agent = {.disconnect_timeout = 0s}});
  const auto agent = store.retrieve("node").value();
  auto events = store.status_events();
  loop.in_one_turn([&] {
    agent.set_active();
    agent.change_node_status_after_task();
    CHECK(agent.status() == waiting);
  });
  CHECK(agent.status() == disconnected);
  CHECK(agent.status_async() == disconnected);
  const auto first = loop.run(events.next()).value();
  const auto second = loop.run(events.next()).value();
  CHECK(first.to == waiting);
  CHECK(second.from == waiting);
  CHECK(second.to == disconnected);
  CHECK(loop.run(store.wait_for_nodes(0)).has_value());
  auto present = loop.spawn(store.wait_for_nodes(1));
  loop.drain();
  CHECK_FALSE(present.done());
}

TEST_CASE(
    "status: an agent may have a timeout of its own, and a running timer starts again with it") {
  Story story;
  CHECK(story.agent->disconnect_timeout() == 10s);
  CHECK_THROWS_AS(story.agent->disconnect_timeout(-1ns), std::invalid_argument);
  CHECK_THROWS_AS(story.agent->disconnect_timeout(367 * 24h), std::invalid_argument);
  CHECK(story.agent->disconnect_timeout() == 10s);
  story.agent->set_active();
  story.agent->change_node_status_after_task();
  story.loop.advance(5s);
  story.agent->disconnect_timeout(30s);
  story.loop.advance(30s - 1ns);
  CHECK(story.status() == waiting);
  story.loop.advance(1ns);
  CHECK(story.status() == disconnected);
}

TEST_CASE("status: options out of range are refused when the agent is made") {
  Loop loop;
  CHECK_THROWS_AS(Agent("node", loop.executor(), {}, AgentOptions{.max_age = -1s}),
                  std::invalid_argument);
  CHECK_THROWS_AS(Store(loop.executor(), StoreOptions{.max_node_id_length = 0}),
                  std::invalid_argument);
}

TEST_CASE("status: copies of a handle are the same agent") {
  Story story;
  const Agent copy = *story.agent;
  CHECK(copy == *story.agent);
  CHECK(copy.id() == "node");
  copy.set_active();
  CHECK(story.agent->open_polls() == 1);
  CHECK_FALSE(copy == Agent("node", story.loop.executor()));
  story.agent->stop();
  CHECK(copy.try_send(message("r")).error() == errc::stopped);
}

TEST_CASE("status: the loop runs out of work when nothing waits, whatever was waited for") {
  Story story;
  story.agent->set_active();
  REQUIRE(story.send("r1", SendOptions{.deadline = story.loop.now() + 1h}));
  CHECK(story.deliver() == "r1");
  story.agent->change_node_status_after_task();
  story.agent->set_active();
  CHECK(story.reply("r1") == ReplyDisposition::delivered);
  story.loop.advance(2h);
  CHECK(story.loop.io.stopped());
}
