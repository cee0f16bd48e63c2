#include <doctest/doctest.h>

#include <algorithm>
#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>
#include <memory>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "fedagent/service.hpp"
#include "support/calls.hpp"

namespace {

using namespace test;
using fedagent::AgentOptions;
using fedagent::PollPolicy;
using fedagent::serve_feedback;
using fedagent::serve_reply;
using fedagent::serve_task_call;
using fedagent::StoreOptions;
using Bodies = std::vector<std::string>;

constexpr auto t_dis = fedagent::grpc_server_task_wait_timeout;

/// A store that is watched, with the agent of node "n", on a driven loop.
struct Server {
  explicit Server(const AgentOptions& options = {}) : Server(store_options(options)) {}
  explicit Server(const StoreOptions& options)
      : store(loop.executor(), options, recorder), agent(*store.retrieve("n")) {}
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server() { CHECK(store.counters().balanced()); }

  static StoreOptions store_options(const AgentOptions& options) {
    StoreOptions all;
    all.agent = options;
    return all;
  }

  Spawned<result<void>> serve(Call& call) { return loop.spawn(serve_task_call(store, call)); }
  result<ReplyDisposition> reply(std::string from, Message reply) {
    return loop.run(serve_reply(store, std::move(from), std::move(reply)));
  }
  /// Sends a request to "n".
  Ending send(const std::string& id, const ObservedStore::send_options& options = {}) {
    Ending ending;
    REQUIRE(agent.try_send(message(id, id), ending.handler(), options));
    return ending;
  }
  /// On the loop, at once.
  bool flush(std::string_view id) const {
    return static_cast<const fedagent::NodeAgentAsync<Transport, Message, Recorder>&>(agent).flush(
        id);
  }
  /// The body of the task that one more poll of "n" gets; empty: none.
  std::string poll(fedagent::SessionId session = 1) {
    Call call("n", session);
    auto served = serve(call);
    loop.drain();
    served.cancel();
    loop.drain();
    return call.received.empty() ? "" : call.received.front();
  }
  /// Lets one more poll of "n" end without a task.
  void empty_poll() { CHECK(poll() == ""); }
  void disconnect() {
    empty_poll();
    loop.advance(t_dis);
    REQUIRE(agent.status() == NodeActiveStatus::disconnected);
  }

  Loop loop;
  Recorder recorder;
  ObservedStore store;
  ObservedStore::agent_type agent;
};

awaitable<result<void>> wait_for_nothing() { co_return result<void>(); }

Message reply_to(const std::string& id) { return {.request_id = id, .body = "done"}; }

// ---- E1 to E4: a poll and the age of tasks

TEST_CASE("E1: a poll makes the agent and sets it ACTIVE, gets one task, and leaves WAITING") {
  Server server;
  CHECK_FALSE(server.store.get("new"));
  Call call("new");
  auto served = server.serve(call);
  server.loop.drain();
  const auto agent = server.store.get("new");
  REQUIRE(agent);
  CHECK(agent->has_polled());
  CHECK(agent->status() == NodeActiveStatus::active);
  CHECK(agent->open_polls() == 1);

  REQUIRE(agent->try_send(message("", "first")));
  REQUIRE(agent->try_send(message("", "second")));
  server.loop.drain();
  CHECK(served.value());
  CHECK(call.received == Bodies{"first"});
  CHECK(agent->status() == NodeActiveStatus::waiting);
  CHECK(agent->counters().queued == 1);

  server.loop.advance(t_dis - 1ns);
  CHECK(agent->status() == NodeActiveStatus::waiting);
  server.loop.advance(1ns);
  CHECK(agent->status() == NodeActiveStatus::disconnected);
}

TEST_CASE("E1: a poll of a node that may not have an agent ends with the reason") {
  StoreOptions options;
  options.max_agents = 2;
  options.max_node_id_length = 8;
  options.admit = [](std::string_view id) { return id != "stranger"; };
  Server server(options);
  const auto error_of = [&](const char* id) {
    Call call(id);
    return server.loop.run(serve_task_call(server.store, call)).error();
  };
  CHECK(error_of("") == errc::bad_node_id);
  CHECK(error_of("a long name") == errc::bad_node_id);
  CHECK(error_of("stranger") == errc::not_admitted);
  REQUIRE(server.store.retrieve("second"));
  CHECK(error_of("third") == errc::too_many_agents);
  CHECK(server.store.size() == 2);
}

TEST_CASE(
    "E3, H10: a poll skips a task whose age is over and awaits the next one; it ends expired") {
  Server server;
  const auto old = server.send("old");
  // The loop was busy: nothing has run when the age is over.
  ManualClock::advance(300s);
  Call call("n");
  auto served = server.serve(call);
  server.loop.drain();
  CHECK(old.is(errc::expired));
  CHECK_FALSE(served.done());
  const auto young = server.send("young");
  server.loop.drain();
  CHECK(call.received == Bodies{"young"});
  CHECK(server.recorder.log().count("dropped n old") == 1);
}

TEST_CASE("E3: a task that expires while a woken poll has not yet run is not delivered") {
  AgentOptions options;
  options.poll_timeout = 0s;
  Server server(options);
  Call call("n");
  auto served = server.serve(call);
  server.loop.drain();
  const auto ending = server.send("r");  // the wake-up is on its way
  ManualClock::advance(300s);
  server.loop.drain();
  CHECK(call.received.empty());
  CHECK(ending.is(errc::expired));
  CHECK_FALSE(served.done());
}

TEST_CASE("E3: a task whose own deadline is over is not delivered, however late the timer runs") {
  Server server;
  const auto ending = server.send("r", {.deadline = Loop::now() + 5s});
  ManualClock::advance(5s);
  server.empty_poll();
  CHECK(ending.is(errc::deadline_passed));
}

TEST_CASE("E4: a task is delivered as long as its first send is less than the maximum age ago") {
  Server server;
  server.send("new");
  server.send("old", {.first_send_time = Loop::now() - 100s});
  server.loop.advance(200s - 1ns);
  CHECK(server.poll() == "new");
  CHECK(server.poll() == "old");
}

TEST_CASE("E4: the age runs from the first send, over all retries and the time in the queue") {
  Server server;
  const auto ending = server.send("r");
  server.loop.advance(299s);
  Call call("n", 1, Delivery::hangs);
  auto served = server.serve(call);
  server.loop.advance(2s);
  REQUIRE(call.delivering());
  CHECK(ending.times() == 0);  // it is out of the queue: its age does not matter
  served.cancel();
  server.loop.drain();
  CHECK(ending.is(errc::expired));
  CHECK(server.agent.counters().queued == 0);
}

TEST_CASE("E4: a maximum age of zero is no limit") {
  AgentOptions options;
  options.max_age = 0s;
  options.when_disconnected = fedagent::DisconnectedPolicy::hold;
  Server server(options);
  server.send("r");
  server.loop.advance(24h);
  CHECK(server.poll() == "r");
}

// ---- E6 to E9: deliveries that fail

TEST_CASE("E6: what the transport cannot encode ends with that outcome and is not tried again") {
  Server server;
  const auto poison = server.send("poison");
  server.send("next");
  Call call("n", 1, Delivery::cannot_encode);
  const auto served = server.loop.run(serve_task_call(server.store, call));
  CHECK(served.error() == errc::not_encodable);
  CHECK(poison.is(errc::not_encodable));
  CHECK(server.agent.status() == NodeActiveStatus::waiting);
  CHECK(server.poll() == "next");
}

TEST_CASE("E6, H11: a message on which deliver throws is not lost, and ends after its attempts") {
  Server server;
  const auto poison = server.send("poison");
  server.send("next");
  for (int attempt = 0; attempt < 6; ++attempt) {
    CHECK(poison.times() == 0);
    Call call("n", 1, Delivery::throws);
    auto served = server.serve(call);
    server.loop.drain();
    CHECK(served.threw());
    CHECK(call.received == Bodies{"poison"});
    CHECK(server.agent.status() == NodeActiveStatus::waiting);
    CHECK(server.agent.counters().leased == 0);
  }
  CHECK(poison.is(errc::retries_exhausted));
  CHECK(server.poll() == "next");
}

TEST_CASE(
    "E7, H7: the peer goes away during the delivery; the task is back at the front, once more") {
  Server server;
  const auto sent = Loop::now();
  for (const auto* id : {"1", "2", "3"}) {
    server.send(id);
  }
  Call call("n", 1, Delivery::hangs);
  auto served = server.serve(call);
  server.loop.advance(1s);
  REQUIRE(call.delivering());
  CHECK(server.agent.counters().leased == 1);
  served.cancel();
  server.loop.drain();
  CHECK(served.value().error() == operation_aborted);
  CHECK(server.agent.status() == NodeActiveStatus::waiting);
  CHECK(server.agent.counters().redelivered == 1);
  CHECK(server.recorder.log().count("requeued n 1 1") == 1);

  const auto task = server.loop.run(server.agent.get_task());
  REQUIRE(task);
  CHECK(task->message()->body == "1");
  CHECK(task->retry_count() == 1);
  CHECK(task->first_send_time() == sent);
  CHECK(server.poll() == "2");
  CHECK(server.poll() == "3");
}

TEST_CASE("E7: a delivery that ends with an error is one that failed, whatever the error") {
  Server server;
  server.send("r");
  Call call("n", 1, Delivery::fails);
  CHECK(server.loop.run(serve_task_call(server.store, call)).error() ==
        boost::asio::error::broken_pipe);
  CHECK(server.agent.counters().redelivered == 1);
  CHECK(server.poll() == "r");
}

TEST_CASE("E8: at most six attempts in all") {
  Server server;
  const auto ending = server.send("r");
  int attempts = 0;
  while (ending.times() == 0 && attempts < 10) {
    Call call("n", 1, Delivery::hangs);
    auto served = server.serve(call);
    server.loop.drain();
    attempts += call.delivering() ? 1 : 0;
    served.cancel();
    server.loop.drain();
  }
  CHECK(attempts == 6);
  CHECK(ending.is(errc::retries_exhausted));
  CHECK(server.agent.counters().redelivered == 5);
  server.empty_poll();
}

TEST_CASE("E8: without retries a task is delivered once") {
  AgentOptions options;
  options.max_retries = 0;
  Server server(options);
  const auto ending = server.send("r");
  Call call("n", 1, Delivery::fails);
  CHECK_FALSE(server.loop.run(serve_task_call(server.store, call)));
  CHECK(ending.is(errc::retries_exhausted));
}

TEST_CASE("E9, H6: a requeue at a DISCONNECTED agent passes the admission check") {
  AgentOptions options;
  options.max_queued_messages = 2;
  Server server(options);
  server.send("1");
  Call call("n", 1, Delivery::hangs);
  auto served = server.serve(call);
  server.loop.drain();
  server.send("2");
  server.send("3");  // the queue is full
  server.agent.change_node_status_after_task();
  server.loop.advance(t_dis);
  REQUIRE(server.agent.status() == NodeActiveStatus::disconnected);
  REQUIRE(server.agent.try_send(message("4")).error() == errc::disconnected);
  served.cancel();
  server.loop.drain();
  CHECK(server.agent.counters().queued == 3);
  CHECK(server.poll() == "1");
  CHECK(server.poll() == "2");
  CHECK(server.poll() == "3");
}

TEST_CASE("E9: what was delivered and is unconfirmed at DISCONNECTED goes back to the front") {
  Server server;
  server.send("1");
  server.send("2");
  CHECK(server.poll() == "1");
  server.loop.advance(t_dis);
  REQUIRE(server.agent.status() == NodeActiveStatus::disconnected);
  CHECK(server.agent.counters().queued == 2);
  CHECK(server.poll() == "1");
  CHECK(server.poll() == "2");
}

// ---- E10, E11: cancellation at each point

TEST_CASE("E10: a poll that is cancelled while it waits leaves WAITING and nothing to requeue") {
  Server server;
  Call call("n");
  auto served = server.serve(call);
  server.loop.drain();
  REQUIRE(server.agent.status() == NodeActiveStatus::active);
  served.cancel();
  server.loop.drain();
  CHECK(served.value().error() == operation_aborted);
  CHECK(server.agent.status() == NodeActiveStatus::waiting);
  CHECK(server.agent.counters().redelivered == 0);
  server.send("r");
  CHECK(server.poll() == "r");
}

TEST_CASE("E11: a poll that is cancelled after k steps has lost nothing, for every k") {
  // Without an end the test would pass by doing nothing.
  std::set<std::string> endings;
  for (std::size_t k = 0; k < 40; ++k) {
    CAPTURE(k);
    Server server;
    const auto ending = server.send("1");
    server.send("2");
    Call call("n", 1, Delivery::hangs);
    auto served = server.serve(call);
    for (std::size_t step = 0; step < k; ++step) {
      server.loop.io.restart();
      server.loop.io.poll_one();
    }
    const bool delivering = call.delivering();
    served.cancel();
    server.loop.drain();
    REQUIRE(served.done());
    endings.insert(served.threw() ? "threw" : served.value().error().message());
    CHECK(server.agent.open_polls() == 0);
    CHECK(server.agent.counters().queued == 2);
    CHECK(server.agent.counters().redelivered == call.received.size());
    CHECK((!delivering || call.received == Bodies{"1"}));
    CHECK(ending.times() == 0);
    CHECK(server.poll() == "1");
    CHECK(server.poll() == "2");
  }
  CHECK(endings.contains(make_error_code(operation_aborted).message()));
}

TEST_CASE("E11: a poll that is cancelled when its wake-up is on the way passes it on, uncounted") {
  AgentOptions options;
  options.polls = PollPolicy::oldest_first;
  Server server(options);
  Call first("n");
  Call second("n");
  auto served_first = server.serve(first);
  server.loop.drain();
  auto served_second = server.serve(second);
  server.loop.drain();
  served_first.cancel();  // will run before the wake-up that follows
  server.send("r");
  server.loop.drain();
  CHECK(served_first.value().error() == operation_aborted);
  CHECK(first.received.empty());
  CHECK(second.received == Bodies{"r"});
  CHECK(server.agent.counters().redelivered == 0);
}

// ---- E12: the lease

TEST_CASE("E12: delivered but never read: a poll of another session gets it again") {
  Server server;
  server.send("r");
  CHECK(server.poll(1) == "r");
  CHECK(server.agent.counters().confirmed == 0);
  CHECK(server.poll(2) == "r");
  CHECK(server.agent.counters().redelivered == 1);
}

TEST_CASE("E12: the next poll of the session that took it confirms a delivery") {
  Server server;
  const auto ending = server.send("r");
  CHECK(server.poll(1) == "r");
  server.empty_poll();
  CHECK(server.agent.counters().confirmed == 1);
  CHECK(server.poll(2) == "");
  CHECK(server.agent.counters().redelivered == 0);
  CHECK(ending.times() == 0);
  CHECK(server.reply("n", reply_to("r")).value() == ReplyDisposition::delivered);
  CHECK(ending.is_reply());
}

TEST_CASE("E12: of a session that is not known, every poll confirms") {
  Server server;
  server.send("r");
  CHECK(server.poll(0) == "r");
  CHECK(server.poll(2) == "");
  CHECK(server.agent.counters().confirmed == 1);
}

TEST_CASE("E12: the reply confirms a delivery, also one that is still being reported") {
  Server server;
  const auto ending = server.send("r");
  Call call("n", 1, Delivery::hangs);
  auto served = server.serve(call);
  server.loop.drain();
  CHECK(server.reply("n", reply_to("r")).value() == ReplyDisposition::delivered);
  CHECK(ending.is_reply());
  CHECK(server.agent.counters().confirmed == 1);
  served.cancel();
  server.loop.drain();
  CHECK(server.agent.counters().redelivered == 0);
  CHECK(server.poll(2) == "");
}

TEST_CASE("E12: a message without a request id ends when its delivery is confirmed") {
  Server server;
  auto note = message("", "note");
  const std::weak_ptr<const Message> alive = note;
  REQUIRE(server.agent.try_send(std::move(note)));
  CHECK(server.poll(1) == "note");
  CHECK_FALSE(alive.expired());
  server.empty_poll();
  CHECK(alive.expired());
  CHECK(server.agent.counters().leased == 0);
}

TEST_CASE("E12: a poll of the same session that comes before deliver returns confirms as well") {
  Server server;
  server.send("r");
  Call first("n", 1, Delivery::hangs);
  auto served = server.serve(first);
  server.loop.drain();
  Call next("n", 1);
  auto waiting = server.serve(next);
  server.loop.drain();
  CHECK(server.agent.counters().leased == 1);
  first.release();
  server.loop.drain();
  CHECK(served.value());
  CHECK(server.agent.counters().confirmed == 1);
  CHECK(next.received.empty());
  waiting.cancel();
  server.loop.drain();
}

// ---- E13 to E17, and who may reply

TEST_CASE("E13: replies of one node are taken one after the other") {
  Server server;
  const auto one = server.send("1");
  const auto two = server.send("2");
  CHECK(server.poll() == "1");
  CHECK(server.poll() == "2");
  CHECK(server.reply("n", reply_to("2")).value() == ReplyDisposition::delivered);
  CHECK(server.reply("n", reply_to("1")).value() == ReplyDisposition::delivered);
  CHECK(server.reply("n", reply_to("1")).value() == ReplyDisposition::duplicate);
  CHECK(one.is_reply());
  CHECK(two.is_reply());
}

TEST_CASE("E14, H20: a reply of a node without an agent goes to the hook, and makes no agent") {
  Server server;
  CHECK(server.reply("stranger", reply_to("r")).error() == errc::unknown_node);
  CHECK(server.recorder.log().count("unknown stranger r") == 1);
  CHECK_FALSE(server.store.get("stranger"));
}

TEST_CASE("E14: a reply of an erased node is one of an unknown node") {
  Server server;
  server.send("r");
  CHECK(server.poll() == "r");
  CHECK(server.store.erase("n"));
  CHECK(server.reply("n", reply_to("r")).error() == errc::unknown_node);
}

struct StrictTransport : Transport {
  static result<Message> decode(Message wire) {
    if (wire.body == "bad") {
      return make_error_code(boost::asio::error::invalid_argument);
    }
    return wire;
  }
};

TEST_CASE("try_serve_reply: E13, E14, H19 as serve_reply, at once") {
  Server server;
  auto ending = server.send("r1");
  CHECK(server.poll() == "r1");
  CHECK(fedagent::try_serve_reply(server.store, "nobody", reply_to("r1")).error() ==
        errc::unknown_node);
  CHECK(server.recorder.log().count("unknown nobody r1") == 1);
  CHECK_FALSE(server.store.get("nobody"));
  REQUIRE(server.store.retrieve("other"));
  CHECK(*fedagent::try_serve_reply(server.store, "other", reply_to("r1")) ==
        ReplyDisposition::unexpected);
  CHECK(ending.times() == 0);
  auto lied = reply_to("r1");
  lied.source = "n";
  CHECK(fedagent::try_serve_reply(server.store, "other", lied).error() == errc::wrong_node);
  CHECK(*fedagent::try_serve_reply(server.store, "n", reply_to("r1")) ==
        ReplyDisposition::delivered);
  CHECK(ending.is_reply());
  CHECK(*fedagent::try_serve_reply(server.store, "n", reply_to("r1")) ==
        ReplyDisposition::duplicate);
  server.store.stop();
  CHECK(fedagent::try_serve_reply(server.store, "n", reply_to("r1")).error() == errc::unknown_node);
}

TEST_CASE("try_serve_reply: E20 an overlay message is relayed, and the source has its receipt") {
  Server server;
  REQUIRE(server.store.retrieve("source"));
  std::vector<boost::system::error_code> receipts;
  const Message overlay{.body = "key", .destination = "n"};
  CHECK(*fedagent::try_serve_reply(server.store, "source", overlay, [&](result<void> came) {
    receipts.push_back(came ? boost::system::error_code() : came.error());
  }) == ReplyDisposition::forwarded);
  CHECK(receipts.empty());
  CHECK(server.poll() == "key");
  server.empty_poll();
  CHECK(receipts == std::vector<boost::system::error_code>{{}});
  const Message astray{.body = "key", .destination = "nobody"};
  CHECK(fedagent::try_serve_reply(server.store, "source", astray).error() == errc::unknown_node);
}

TEST_CASE("try_serve_reply: with a forwarder an overlay message has no route, and nobody gets it") {
  Loop loop;
  int forwarded = 0;
  Store store(loop.executor(), [&forwarded](const MessagePtr&) {
    ++forwarded;
    return wait_for_nothing();
  });
  REQUIRE(store.retrieve("n"));
  REQUIRE(store.retrieve("other"));
  const Message overlay{.body = "key", .destination = "other"};
  CHECK(fedagent::try_serve_reply(store, "n", overlay).error() == errc::no_route);
  loop.drain();
  CHECK(forwarded == 0);
  CHECK(store.counters().queued == 0);
  CHECK(store.counters().replies_that_were(ReplyDisposition::forwarded) == 0);
  CHECK(*loop.run(serve_reply(store, "n", overlay)) == ReplyDisposition::forwarded);
  CHECK(forwarded == 1);
}

TEST_CASE("try_serve_reply: the handler may erase its agent or destroy the store") {
  Loop loop;
  std::optional<Store> store(std::in_place, loop.executor());
  bool destroys = false;
  SUBCASE("erase") {}
  SUBCASE("destroy") { destroys = true; }
  REQUIRE(store->retrieve("n"));
  REQUIRE(store->try_send("n", message("r1"), [&](const fedagent::Outcome<Message>&) {
    destroys ? store.reset() : static_cast<void>(store->erase("n"));
  }));
  loop.run(store->get("n")->get_task())->message();
  CHECK(*fedagent::try_serve_reply(*store, "n", reply_to("r1")) == ReplyDisposition::delivered);
  CHECK(store.has_value() != destroys);
  CHECK_FALSE((store && store->get("n")));
}

TEST_CASE("E17: what decode says of bad input is handed to the transport, known node or not") {
  Loop loop;
  fedagent::AgentStore<StrictTransport> store(loop.executor());
  const Message bad{.request_id = "r", .body = "bad"};
  CHECK(loop.run(serve_reply(store, "n", bad)).error() == boost::asio::error::invalid_argument);
  const auto agent = store.retrieve("n");
  REQUIRE(agent);
  Ending ending;
  REQUIRE(agent->try_send(message("r"), ending.handler()));
  CHECK(loop.run(serve_reply(store, "n", bad)).error() == boost::asio::error::invalid_argument);
  CHECK(ending.times() == 0);
}

TEST_CASE(
    "E13: a message that the transport has decoded is taken as it is, and not decoded again") {
  Loop loop;
  fedagent::AgentStore<StrictTransport> store(loop.executor());
  // One that `decode` would refuse.
  const auto decoded = message("r1", "bad");
  CHECK(loop.run(serve_reply(store, "n", decoded)).error() == errc::unknown_node);
  CHECK(fedagent::try_serve_reply(store, "n", decoded).error() == errc::unknown_node);
  const auto agent = store.retrieve("n");
  REQUIRE(agent);
  MessagePtr reply;
  REQUIRE(agent->try_send(message("r1"), [&](const auto& outcome) { reply = *outcome; }));
  loop.run(agent->get_task())->message();
  CHECK(loop.run(serve_reply(store, "n", decoded)).value() == ReplyDisposition::delivered);
  CHECK(reply == decoded);
  CHECK(fedagent::try_serve_reply(store, "n", decoded).value() == ReplyDisposition::duplicate);
  CHECK(loop.run(agent->on_reply(decoded)).value() == ReplyDisposition::duplicate);
  CHECK(agent->try_on_reply(decoded).value() == ReplyDisposition::duplicate);
}

TEST_CASE("H19: a node cannot answer for another one, in whatever way it tries") {
  Server server;
  REQUIRE(server.store.retrieve("m"));
  const auto ending = server.send("r");
  CHECK(server.poll() == "r");
  // The id comes from the transport: m has no such request.
  CHECK(server.reply("m", reply_to("r")).value() == ReplyDisposition::unexpected);
  const Message forged{.request_id = "r", .body = "forged", .source = "n"};
  CHECK(server.reply("m", forged).error() == errc::wrong_node);
  CHECK(ending.times() == 0);
  CHECK(server.store.get("m")->counters().wrong_node == 1);
  CHECK(server.recorder.log().count("wrong m n") == 1);
  CHECK(server.reply("n", Message{.request_id = "r", .source = "n"}).value() ==
        ReplyDisposition::delivered);
}

TEST_CASE("H19: what a transport refuses for a foreign id is counted and told, agent or not") {
  Server server;
  const auto before = server.agent.last_seen().any;
  CHECK(fedagent::refuse_wrong_node(server.store, "n", "m") == errc::wrong_node);
  CHECK(server.agent.counters().wrong_node == 1);
  CHECK(server.recorder.log().lines.back() == "wrong n m");
  CHECK(server.agent.last_seen().any == before);
  CHECK(fedagent::refuse_wrong_node(server.store, "stranger", "n") == errc::wrong_node);
  CHECK(server.recorder.log().lines.back() == "wrong stranger n");
  CHECK_FALSE(server.store.get("stranger"));
  CHECK(server.agent.counters().wrong_node == 1);
  CHECK(server.store.counters().wrong_node == 2);
  server.store.stop();
  CHECK(fedagent::refuse_wrong_node(server.store, "n", "m") == errc::wrong_node);
  CHECK(server.store.counters().wrong_node == 3);
}

TEST_CASE("H14: a handler that throws does not fail the node's call, and is reported") {
  Server server;
  REQUIRE(server.agent.try_send(message("r"), [](const fedagent::Outcome<Message>&) {
    throw std::runtime_error("a user's mistake");
  }));
  CHECK(server.poll() == "work");
  CHECK(server.reply("n", reply_to("r")).value() == ReplyDisposition::delivered);
  CHECK(server.recorder.log().count("error n a user's mistake") == 1);
  CHECK(server.agent.counters().handler_errors == 1);
  CHECK(server.reply("n", reply_to("r")).value() == ReplyDisposition::duplicate);
}

TEST_CASE("H14: a handler may send, flush and ask the agent again") {
  Server server;
  const auto other = server.send("other");
  Ending second;
  REQUIRE(server.agent.try_send(message("r"), [&](const fedagent::Outcome<Message>&) {
    CHECK(server.agent.try_send(message("r", "again"), second.handler()));
    CHECK(server.flush("other"));
    CHECK(server.agent.status() == NodeActiveStatus::waiting);
  }));
  CHECK(server.poll() == "other");
  CHECK(server.poll() == "work");
  CHECK(server.reply("n", reply_to("r")).value() == ReplyDisposition::delivered);
  CHECK(other.is(errc::flushed));
  CHECK(server.poll() == "again");
  CHECK(server.reply("n", reply_to("r")).value() == ReplyDisposition::delivered);
  CHECK(second.is_reply());
}

// ---- E18: feedback

TEST_CASE("E18: feedback goes to the observer and is a sign of life") {
  Server server;
  server.empty_poll();
  server.loop.advance(t_dis - 1s);
  CHECK(serve_feedback(server.store, "n", std::string("epoch 1")));
  CHECK(server.recorder.log().count("feedback n epoch 1") == 1);
  server.loop.advance(t_dis - 1ns);
  CHECK(server.agent.status() == NodeActiveStatus::waiting);
  server.loop.advance(1ns);
  CHECK(server.agent.status() == NodeActiveStatus::disconnected);
}

TEST_CASE("E18: feedback of an unknown node is refused, and makes no agent") {
  Server server;
  CHECK(serve_feedback(server.store, "stranger", std::string("epoch 1")).error() ==
        errc::unknown_node);
  CHECK_FALSE(server.store.get("stranger"));
  CHECK(server.recorder.log().count("feedback") == 0);
}

TEST_CASE("E18: a hook that throws is reported and does not fail with an exception") {
  Server server;
  CHECK(serve_feedback(server.store, "n", 7).error() == errc::handler_failed);
  CHECK(server.recorder.log().count("error n a number is no feedback") == 1);
}

TEST_CASE("H31: feedback that the observer does not take is an error, not a crash") {
  Server server;
  struct Nothing {};
  CHECK(serve_feedback(server.store, "n", Nothing{}).error() == errc::no_route);
}

// ---- E19, E20: destinations

TEST_CASE("E19, H9: a send to an unknown node says so, at once or through the handler") {
  Server server;
  Ending at_once;
  CHECK(server.store.try_send("x", message("r"), at_once.handler()).error() == errc::unknown_node);
  CHECK(at_once.times() == 0);
  Ending later;
  server.store.send("x", message("r"), later.handler());
  server.loop.drain();
  CHECK(later.is(errc::unknown_node));
  CHECK_FALSE(server.store.get("x"));
}

TEST_CASE("E19, H9: a send to a DISCONNECTED node says so, at once or through the handler") {
  Server server;
  server.disconnect();
  Ending at_once;
  CHECK(server.store.try_send("n", message("r"), at_once.handler()).error() == errc::disconnected);
  CHECK(at_once.times() == 0);
  Ending later;
  server.store.send("n", message("r"), later.handler());
  server.loop.drain();
  CHECK(later.is(errc::disconnected));
  CHECK(server.recorder.log().count("refused n") == 2);
  CHECK(server.loop.run(server.agent.request(message("r"))).error() == errc::disconnected);
}

TEST_CASE("E19: what a handler throws when its send was refused does not end the loop") {
  Server server;
  const auto throws = [](const fedagent::Outcome<Message>&) {
    throw std::runtime_error("a user's mistake");
  };
  server.store.send("x", message("r"), throws);
  CHECK_NOTHROW(server.loop.drain());
  CHECK(server.recorder.log().count("error x a user's mistake") == 1);
  server.disconnect();
  server.store.send("n", message("r"), throws);
  CHECK_NOTHROW(server.loop.drain());
  CHECK(server.recorder.log().count("error n a user's mistake") == 1);
}

TEST_CASE(
    "E19: a broadcast reaches all but the DISCONNECTED; a reply to it is one like any other") {
  Server server;
  REQUIRE(server.store.retrieve("m"));
  server.disconnect();
  CHECK(server.store.broadcast(message("r", "to all")) == 1);
  Call call("m");
  CHECK(server.loop.run(serve_task_call(server.store, call)));
  CHECK(call.received == Bodies{"to all"});
  CHECK(server.reply("m", reply_to("r")).value() == ReplyDisposition::delivered);
  CHECK(server.recorder.log().count("refused n") == 1);
}

TEST_CASE("E20: an overlay message is relayed to its destination") {
  Server server;
  REQUIRE(server.store.retrieve("m"));
  const Message overlay{.body = "key share", .destination = "n", .source = "m"};
  CHECK(server.reply("m", overlay).value() == ReplyDisposition::forwarded);
  CHECK(server.poll() == "key share");
}

TEST_CASE("E20, H15: the source is told when its overlay message has no way to go") {
  Server server;
  REQUIRE(server.store.retrieve("m"));
  const Message lost{.body = "key share", .destination = "nobody", .source = "m"};
  CHECK(server.reply("m", lost).error() == errc::unknown_node);
  server.disconnect();
  const Message late{.body = "key share", .destination = "n", .source = "m"};
  CHECK(server.reply("m", late).error() == errc::disconnected);
  CHECK(server.recorder.log().count("refused n") == 1);
  CHECK(server.store.get("m")->counters().replies_that_were(ReplyDisposition::forwarded) == 0);
}

TEST_CASE("H15: an agent that stands alone and has no forwarder says no_route") {
  Loop loop;
  const Agent agent("n", loop.executor());
  const Message overlay{.body = "key share", .destination = "m"};
  CHECK(loop.run(agent.on_reply(overlay)).error() == errc::no_route);
}

// ---- E21: before the start and after the end

TEST_CASE("E21: a store takes messages before anything serves it, and says stopped afterwards") {
  Loop loop;
  Store store(loop.executor());
  const auto agent = store.retrieve("n").value();
  CHECK(store.try_send("n", message("r1")));
  CHECK(store.try_send("other", message("r2")).error() == errc::unknown_node);
  CHECK(store.broadcast(Message{.body = "to all"}) == 1);
  store.stop();
  CHECK(agent.try_send(message("r3")).error() == errc::stopped);
  CHECK(store.retrieve("n").error() == errc::stopped);
  CHECK(store.try_send("n", message("r4")).error() == errc::stopped);
  CHECK(store.broadcast(Message{}) == 0);
  CHECK(store.counters().balanced());
}

// ---- E22: waiting for nodes

TEST_CASE("E22: wait_for_nodes ends when so many have polled, and at once when they are there") {
  Server server;
  CHECK(server.loop.run(server.store.wait_for_nodes(0)));
  auto waiting = server.loop.spawn(server.store.wait_for_nodes(2));
  server.empty_poll();
  server.empty_poll();
  CHECK_FALSE(waiting.done());  // one node twice is one node
  Call call("m");
  auto served = server.serve(call);
  server.loop.drain();
  CHECK(waiting.value());
  CHECK(server.loop.run(server.store.wait_for_nodes(2)));
}

TEST_CASE("E22: a node that is lost does not count") {
  Server server;
  server.disconnect();
  auto waiting = server.loop.spawn(server.store.wait_for_nodes(1));
  server.loop.drain();
  CHECK_FALSE(waiting.done());
  server.empty_poll();
  CHECK(waiting.value());
  CHECK(server.store.erase("n"));
  waiting = server.loop.spawn(server.store.wait_for_nodes(1));
  server.loop.drain();
  CHECK_FALSE(waiting.done());
}

TEST_CASE("E22: wait_for_nodes ends at its deadline, when it is cancelled, and when all stops") {
  Server server;
  auto waiting = server.loop.spawn(server.store.wait_for_nodes(1, Loop::now() + 3s));
  server.loop.advance(3s - 1ns);
  CHECK_FALSE(waiting.done());
  server.loop.advance(1ns);
  CHECK(waiting.value().error() == errc::deadline_passed);

  waiting = server.loop.spawn(server.store.wait_for_nodes(1));
  server.loop.drain();
  waiting.cancel();
  server.loop.drain();
  CHECK(waiting.value().error() == operation_aborted);

  waiting = server.loop.spawn(server.store.wait_for_nodes(1));
  server.loop.drain();
  server.store.stop();
  server.loop.drain();
  CHECK(waiting.value().error() == errc::stopped);
  CHECK(server.loop.run(server.store.wait_for_nodes(0)).error() == errc::stopped);
}

// ---- several polls of one node

TEST_CASE("H1: the end of one poll does not disconnect a node that has another open") {
  AgentOptions options;
  options.polls = PollPolicy::oldest_first;
  options.poll_timeout = 0s;
  Server server(options);
  Call first("n");
  Call second("n");
  auto served_first = server.serve(first);
  auto served_second = server.serve(second);
  server.loop.drain();
  served_first.cancel();
  server.loop.advance(10 * t_dis);
  CHECK(server.agent.status() == NodeActiveStatus::active);
  server.send("r");
  server.loop.drain();
  CHECK(second.received == Bodies{"r"});
}

TEST_CASE("H1: a node that comes back while its old poll hangs stays ACTIVE and is served") {
  Server server;
  Call old("n", 1, Delivery::hangs);
  auto served_old = server.serve(old);
  server.send("1");
  server.loop.drain();
  REQUIRE(old.delivering());
  Call now("n", 2);
  auto served_now = server.serve(now);
  server.loop.drain();
  CHECK(now.received == Bodies{"1"});  // taken over from the session that is gone
  served_old.cancel();
  server.loop.drain();
  CHECK(server.agent.counters().redelivered == 1);
  CHECK(server.agent.counters().leased == 1);
  CHECK(server.agent.status() == NodeActiveStatus::waiting);
}

TEST_CASE("H4: the newest poll wins: the task does not go to a frozen one") {
  Server server;
  Call frozen("n", 1, Delivery::hangs);
  auto served_frozen = server.serve(frozen);
  server.loop.drain();
  Call live("n", 2);
  auto served_live = server.serve(live);
  server.loop.drain();
  CHECK(served_frozen.value().error() == errc::superseded);
  server.send("r");
  server.loop.drain();
  CHECK(served_live.value());
  CHECK(live.received == Bodies{"r"});
  CHECK(frozen.received.empty());
}

TEST_CASE("H4: a poll that is superseded when its wake-up is on the way passes the task on") {
  Server server;
  Call frozen("n", 1);
  auto served_frozen = server.serve(frozen);
  server.loop.drain();
  Call live("n", 2);
  auto served_live = server.serve(live);  // will run before the wake-up that follows
  server.send("r");
  server.loop.drain();
  CHECK(served_frozen.value().error() == errc::superseded);
  CHECK(live.received == Bodies{"r"});
  CHECK(server.agent.counters().redelivered == 0);
}

TEST_CASE("polls, newest_wins: of many polls the last one is open, and each other is superseded") {
  Server server;
  std::vector<std::unique_ptr<Call>> calls;
  std::vector<Spawned<result<void>>> served;
  for (int i = 0; i < 5; ++i) {
    calls.push_back(std::make_unique<Call>("n"));
    served.push_back(server.serve(*calls.back()));
  }
  server.loop.drain();
  for (int i = 0; i < 4; ++i) {
    CHECK(served[static_cast<std::size_t>(i)].value().error() == errc::superseded);
  }
  CHECK_FALSE(served.back().done());
  CHECK(server.agent.open_polls() == 1);
}

TEST_CASE("polls, oldest_first: first come, first served; none is superseded") {
  AgentOptions options;
  options.polls = PollPolicy::oldest_first;
  Server server(options);
  Call first("n");
  Call second("n", 2);
  auto served_first = server.serve(first);
  auto served_second = server.serve(second);
  server.loop.drain();
  CHECK(server.agent.open_polls() == 2);
  server.send("1");
  server.loop.drain();
  CHECK(first.received == Bodies{"1"});
  CHECK_FALSE(served_second.done());
  server.send("2");
  server.loop.drain();
  CHECK(second.received == Bodies{"2"});
}

TEST_CASE(
    "polls, oldest_first: a poll that opens before the woken one has run does not overtake it") {
  AgentOptions options;
  options.polls = PollPolicy::oldest_first;
  Server server(options);
  Call first("n");
  Call second("n");
  auto served_first = server.serve(first);
  server.loop.drain();
  std::optional<Spawned<result<void>>> served_second;
  // Within a handler a coroutine that is spawned begins at once.
  boost::asio::post(server.loop.io, [&] {
    server.send("r");
    served_second = server.serve(second);
  });
  server.loop.drain();
  CHECK(first.received == Bodies{"r"});
  CHECK(second.received.empty());
  server.send("r2");
  server.loop.drain();
  CHECK(second.received == Bodies{"r2"});
}

TEST_CASE("polls, reject: a second poll is refused at once and does not touch the first") {
  AgentOptions options;
  options.polls = PollPolicy::reject;
  Server server(options);
  Call first("n", 1, Delivery::hangs);
  auto served_first = server.serve(first);
  server.send("1");
  server.loop.drain();
  REQUIRE(first.delivering());
  Call second("n", 2);
  CHECK(server.loop.run(serve_task_call(server.store, second)).error() == errc::poll_refused);
  CHECK(server.agent.open_polls() == 1);
  CHECK(server.agent.counters().redelivered == 0);
  first.release();
  server.loop.drain();
  CHECK(served_first.value());
  CHECK(server.poll(2) == "1");  // the first session never confirmed it
}

TEST_CASE("polls: one ends at its time, not before; the node may come again") {
  AgentOptions options;
  options.poll_timeout = 20s;
  options.poll_jitter = 0.0;
  Server server(options);
  Call call("n");
  auto served = server.serve(call);
  server.loop.advance(20s - 1ns);
  CHECK_FALSE(served.done());
  server.loop.advance(1ns);
  CHECK(served.value().error() == errc::poll_ended);
  CHECK(server.agent.status() == NodeActiveStatus::waiting);
  CHECK(server.agent.counters().redelivered == 0);
}

TEST_CASE("polls: a task that comes at the very end of a poll is delivered or kept, never lost") {
  AgentOptions options;
  options.poll_timeout = 20s;
  options.poll_jitter = 0.0;
  for (const bool task_first : {true, false}) {
    Server server(options);
    Call call("n");
    auto served = server.serve(call);
    server.loop.drain();
    if (task_first) {
      server.send("r");
      ManualClock::advance(20s);
    } else {
      ManualClock::advance(20s);
      server.send("r");
    }
    server.loop.drain();
    REQUIRE(served.done());
    CHECK(call.received.size() + server.agent.counters().queued == 1);
    CHECK(server.agent.counters().redelivered == 0);
  }
}

TEST_CASE("polls: with jitter they end between the part and the whole of their time, apart") {
  AgentOptions options;
  options.poll_timeout = 100s;
  options.poll_jitter = 0.4;
  options.polls = PollPolicy::oldest_first;
  Server server(options);
  std::vector<std::unique_ptr<Call>> calls;
  std::vector<Spawned<result<void>>> served;
  for (int i = 0; i < 200; ++i) {
    calls.push_back(std::make_unique<Call>("n"));
    served.push_back(server.serve(*calls.back()));
  }
  const auto open = [&] {
    return std::ranges::count_if(served, [](const auto& one) { return !one.done(); });
  };
  server.loop.advance(60s - 1ns);
  CHECK(open() == 200);
  server.loop.advance(20s + 1ns);
  CHECK(open() > 50);  // 100 of 200 on the average; 50 is seven standard deviations away
  CHECK(open() < 150);
  server.loop.advance(20s);
  CHECK(open() == 0);
}

TEST_CASE("H5: a client that died after the transport took the bytes loses no message") {
  Server server;
  const auto ending = server.send("r");
  CHECK(server.poll(1) == "r");  // read by nobody
  server.loop.advance(t_dis);    // the client is dead
  CHECK(server.agent.counters().queued == 1);
  CHECK(server.poll(2) == "r");
  CHECK(server.reply("n", reply_to("r")).value() == ReplyDisposition::delivered);
  CHECK(ending.is_reply());
}

TEST_CASE("H30: a node that comes again in time after each poll is never DISCONNECTED") {
  Server server;
  auto waiting = server.loop.spawn(server.agent.wait_for(NodeActiveStatus::disconnected));
  const auto until = Loop::now() + 1h;
  while (Loop::now() < until) {
    Call call("n");
    auto served = server.serve(call);
    server.loop.drain();
    while (!served.done()) {
      server.loop.advance(1s);
    }
    CHECK(served.value().error() == errc::poll_ended);
    server.loop.advance(t_dis - 1ms);
  }
  CHECK_FALSE(waiting.done());
}

TEST_CASE("H30: a poll that waits longer than every other time keeps its node ACTIVE") {
  AgentOptions options;
  options.poll_timeout = 0s;
  Server server(options);
  Call call("n");
  auto served = server.serve(call);
  server.loop.advance(24h);
  CHECK(server.agent.status() == NodeActiveStatus::active);
  server.send("r");
  server.loop.drain();
  CHECK(call.received == Bodies{"r"});
}

TEST_CASE("serve_task_call: a handler that its poll runs may cancel it") {
  SUBCASE("when the poll opens") {
    Server server(AgentOptions{.max_retries = 0});
    std::optional<Spawned<result<void>>> served;
    REQUIRE(server.agent.try_send(message("r1"), [&](const auto&) { served->cancel(); }));
    CHECK(server.poll(1) == "work");
    Call call("n", 2);
    served = server.loop.spawn_after_a_wait(serve_task_call(server.store, call));
    server.loop.drain();
    CHECK(served->value().error() == operation_aborted);
    CHECK(server.agent.open_polls() == 0);
  }
  SUBCASE("when it looks for a task") {
    Server server;
    std::optional<Spawned<result<void>>> served;
    REQUIRE(server.agent.try_send(message("old"), [&](const auto&) { served->cancel(); }));
    server.loop.advance(1s);
    REQUIRE(server.agent.try_send(message("r2")));
    Call call("n");
    served = server.loop.spawn_after_a_wait(serve_task_call(server.store, call));
    // The age of "old" is over, and nothing but the poll has seen that yet.
    server.loop.in_one_turn([] { ManualClock::advance(299s); });
    CHECK(served->value().error() == operation_aborted);
    CHECK(call.received.empty());
    CHECK(server.agent.counters().queued == 1);
    CHECK(server.agent.counters().redelivered == 0);
  }
}

// ---- the end

TEST_CASE("serve_task_call ends when the agent is removed or the store stops or is gone") {
  Server server;
  Call call("n");
  auto served = server.serve(call);
  server.loop.drain();
  CHECK(server.store.erase("n"));
  server.loop.drain();
  CHECK(served.value().error() == errc::removed);

  served = server.serve(call);
  server.loop.drain();
  server.store.stop();
  server.loop.drain();
  CHECK(served.value().error() == errc::stopped);
  CHECK(server.loop.run(serve_task_call(server.store, call)).error() == errc::stopped);
  CHECK(server.reply("n", reply_to("r")).error() == errc::unknown_node);
}

TEST_CASE("serve_task_call and serve_reply may outlive the store") {
  Loop loop;
  auto store = std::make_optional<Store>(loop.executor());
  Call waiting("n");
  Call delivering("m", 1, Delivery::hangs);
  auto served = loop.spawn(serve_task_call(*store, waiting));
  auto served_too = loop.spawn(serve_task_call(*store, delivering));
  loop.drain();
  Ending ending;
  REQUIRE(store->try_send("m", message("r"), ending.handler()));
  loop.drain();
  REQUIRE(delivering.delivering());
  store.reset();
  CHECK(ending.is(errc::stopped));
  loop.drain();
  CHECK(served.value().error() == errc::stopped);
  delivering.release();
  loop.drain();
  CHECK(served_too.done());
}

TEST_CASE("a handler may destroy the store that is being stopped") {
  Loop loop;
  auto store = std::make_unique<Store>(loop.executor());
  REQUIRE(store->retrieve("n"));
  REQUIRE(store->retrieve("m"));
  int outcomes = 0;
  const auto destroys = [&](const fedagent::Outcome<Message>& outcome) {
    CHECK(outcome.error() == errc::stopped);
    ++outcomes;
    store.reset();
  };
  REQUIRE(store->try_send("n", message("r"), destroys));
  REQUIRE(store->try_send("m", message("r"), destroys));
  store->stop();
  CHECK(outcomes == 2);
  CHECK(store == nullptr);
}

TEST_CASE("a handler may erase its agent or stop the store, in every way that a request ends") {
  for (const int how : {0, 1, 2, 3, 4}) {
    for (const bool stop : {false, true}) {
      CAPTURE(how);
      CAPTURE(stop);
      Server server;
      int outcomes = 0;
      const auto ends_all = [&](const fedagent::Outcome<Message>&) {
        ++outcomes;
        if (stop) {
          server.store.stop();
        } else {
          server.store.erase("n");
        }
      };
      REQUIRE(server.agent.try_send(message("1"), ends_all, {.deadline = Loop::now() + 20s}));
      REQUIRE(server.agent.try_send(message("2"), ends_all));
      switch (how) {
        case 0:
          CHECK(server.poll() == "work");
          CHECK(server.reply("n", reply_to("1")).value() == ReplyDisposition::delivered);
          break;
        case 1:
          CHECK(server.flush("1"));
          break;
        case 2:
          server.loop.advance(20s);
          break;
        case 3: {
          Call call("n", 1, Delivery::cannot_encode);
          CHECK(server.loop.run(serve_task_call(server.store, call)).error() ==
                errc::not_encodable);
          break;
        }
        default:
          server.loop.advance(300s);
      }
      CHECK(outcomes == 2);
      CHECK(server.store.size() == 0);
    }
  }
}

TEST_CASE("a handler may let the last handle of its agent go, and then throw") {
  for (const bool encodable : {true, false}) {
    Loop loop;
    auto agent = std::make_optional<Agent>("n", loop.executor());
    int outcomes = 0;
    REQUIRE(agent->try_send(message("r"),
                            [&](const fedagent::Outcome<Message>&) {
                              ++outcomes;
                              agent.reset();
                              throw std::runtime_error("a user's mistake");
                            },
                            {.deadline = Loop::now() + 5s}));
    {
      auto task = loop.run(agent->get_task());
      REQUIRE(task);
      if (!encodable) {
        task->not_encodable();
      } else {
        loop.advance(5s);
      }
    }
    CHECK(outcomes == 1);
    CHECK_FALSE(agent);
  }
}

}  // namespace
