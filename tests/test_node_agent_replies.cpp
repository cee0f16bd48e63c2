// node_agent.hpp: replies, overlay messages and flush (b.4).
#include <doctest/doctest.h>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/calls.hpp"
#include "support/story.hpp"

using namespace test;
using enum NodeActiveStatus;

namespace {

// A request that the node has taken and works on.
void send_and_deliver(Story& story, const std::string& request) {
  REQUIRE(story.send(request));
  REQUIRE(story.deliver() == request);
}

awaitable<result<ReplyDisposition>> receive(Story& story, Message message) {
  return story.agent->on_reply(std::move(message));
}

// A wire type of its own, as a real transport has.
struct TextTransport {
  using executor_type = Executor;
  using clock_type = ManualClock;
  using message_type = Message;
  using wire_type = std::string;
  static result<Message> decode(std::string wire) {
    if (wire.empty()) {
      return boost::system::errc::make_error_code(boost::system::errc::bad_message);
    }
    return Message{.request_id = std::move(wire)};
  }
};

}  // namespace

TEST_CASE(
    "D1: a reply is decoded first; what decode refuses is returned, and nothing else happens") {
  Loop loop;
  const fedagent::NodeAgent<TextTransport> agent("node", loop.executor());
  int outcomes = 0;
  REQUIRE(agent.try_send(message("r1"), [&](const auto&) { ++outcomes; }));
  loop.run(agent.get_task())->message();
  CHECK(loop.run(agent.on_reply("")).error() ==
        boost::system::errc::make_error_code(boost::system::errc::bad_message));
  CHECK_FALSE(agent.last_seen().reply);
  CHECK(agent.counters().balanced());
  CHECK(outcomes == 0);
  CHECK(loop.run(agent.on_reply("r1")).value() == ReplyDisposition::delivered);
  CHECK(outcomes == 1);
}

// ---- overlay messages

namespace {

struct Forwarded {
  std::vector<std::string> bodies{};
  boost::system::error_code answer{};
  bool throws = false;
};

awaitable<result<void>> forward(std::shared_ptr<Forwarded> forwarded, MessagePtr message) {
  forwarded->bodies.push_back(message->body);
  if (forwarded->throws) {
    throw std::runtime_error("the forwarder failed");
  }
  if (forwarded->answer) {
    co_return forwarded->answer;
  }
  co_return result<void>();
}

Agent::forwarder_type forwarder(const std::shared_ptr<Forwarded>& forwarded) {
  return [forwarded](MessagePtr message) { return forward(forwarded, std::move(message)); };
}

}  // namespace

TEST_CASE("D2: an overlay message is handed to the forwarder, and the reply table is not touched") {
  const auto forwarded = std::make_shared<Forwarded>();
  Story story({}, forwarder(forwarded));
  send_and_deliver(story, "r1");
  const auto was =
      story.loop.run(receive(story, {.request_id = "r1", .body = "b", .destination = "other"}));
  CHECK(was.value() == ReplyDisposition::forwarded);
  CHECK(forwarded->bodies == std::vector<std::string>{"b"});
  CHECK(story.counters().replies_that_were(ReplyDisposition::forwarded) == 1);
  CHECK(story.counters().open_requests == 1);
  CHECK(story.outcomes.count("r1") == 0);
}

TEST_CASE(
    "D2: what the forwarder returns or throws is the caller's, and is not counted as forwarded") {
  const auto forwarded = std::make_shared<Forwarded>();
  Story story({}, forwarder(forwarded));
  forwarded->answer = make_error_code(errc::unknown_node);
  CHECK(story.loop.run(receive(story, {.destination = "other"})).error() == errc::unknown_node);
  forwarded->throws = true;
  auto thrown = story.loop.spawn(receive(story, {.destination = "other"}));
  story.loop.drain();
  CHECK(thrown.threw());
  CHECK(story.counters().replies_that_were(ReplyDisposition::forwarded) == 0);
}

TEST_CASE("D3 (H15): an overlay message without a forwarder ends as no_route, and never crashes") {
  Story story;
  CHECK(story.loop.run(receive(story, {.destination = "other"})).error() == errc::no_route);
  // The node lives, whatever became of its message.
  CHECK(story.agent->last_seen().any == story.loop.now());
}

TEST_CASE("D2, D3: try_on_reply hands nothing to a forwarder, and says no_route; the node lives") {
  const auto forwarded = std::make_shared<Forwarded>();
  Story story({}, forwarder(forwarded));
  send_and_deliver(story, "r1");
  story.loop.advance(1s);
  int receipts = 0;
  const auto was =
      story.agent->try_on_reply(Message{.request_id = "r1", .body = "b", .destination = "other"},
                                [&](const result<void>&) { ++receipts; });
  story.loop.drain();
  CHECK(was.error() == errc::no_route);
  CHECK(forwarded->bodies.empty());
  CHECK(receipts == 0);
  CHECK(story.agent->last_seen().any == story.loop.now());
  CHECK_FALSE(story.agent->last_seen().reply);
  CHECK(story.counters().replies_that_were(ReplyDisposition::forwarded) == 0);
  CHECK(story.counters().open_requests == 1);
  // Any other message it takes as on_reply does.
  CHECK(*story.agent->try_on_reply(Message{.request_id = "r1"}) == ReplyDisposition::delivered);
}

TEST_CASE("D3: without a forwarder try_on_reply says no_route as well") {
  Story story;
  CHECK(story.agent->try_on_reply(Message{.destination = "other"}).error() == errc::no_route);
}

// ---- D4 to D10: what a reply is

TEST_CASE("D4 (H14): the handler runs once, with the reply, when the entry is marked already") {
  Story story;
  std::vector<ReplyDisposition> nested;
  std::uint64_t open = 99;
  REQUIRE(story.agent->try_send(story.make("r1"), [&](const Agent::outcome_type& outcome) {
    REQUIRE(outcome.has_value());
    CHECK((*outcome)->body == "first");
    open = story.counters().open_requests;
    // No lock is held: the agent may be asked and used.
    CHECK(story.counters().balanced());
    CHECK_FALSE(story.flush("r1"));
    CHECK(story.send("r2"));
  }));
  CHECK(story.deliver() == "r1");
  CHECK(story.reply("r1", "first") == ReplyDisposition::delivered);
  CHECK(open == 0);
  CHECK(story.counters().queued == 1);
  CHECK(story.counters().replied == 1);
}

TEST_CASE("D5 (H12): a reply to a request without a handler is delivered like any other") {
  Story story;
  REQUIRE(story.agent->try_send(story.make("r1")));
  CHECK(story.deliver() == "r1");
  CHECK(story.reply("r1") == ReplyDisposition::delivered);
  CHECK(story.reply("r1") == ReplyDisposition::duplicate);
  CHECK(story.counters().handler_errors == 0);
}

TEST_CASE(
    "D6 (H14): a handler that throws is counted; the reply counts, and the node hears no error") {
  Story story;
  REQUIRE(story.agent->try_send(story.make("r1"), [](const Agent::outcome_type&) {
    throw std::runtime_error("the handler failed");
  }));
  CHECK(story.deliver() == "r1");
  CHECK(story.reply("r1") == ReplyDisposition::delivered);
  CHECK(story.counters().handler_errors == 1);
  CHECK(story.counters().replied == 1);
  CHECK(story.reply("r1") == ReplyDisposition::duplicate);
}

TEST_CASE("D7: a second reply is a duplicate, and the handler is not called") {
  Story story;
  send_and_deliver(story, "r1");
  CHECK(story.reply("r1", "first") == ReplyDisposition::delivered);
  CHECK(story.reply("r1", "second") == ReplyDisposition::duplicate);
  CHECK(story.outcomes.of("r1").reply == "first");
  CHECK(story.counters().replies_that_were(ReplyDisposition::duplicate) == 1);
}

TEST_CASE("D8: a reply to an id that was never sent is unexpected") {
  Story story;
  CHECK(story.reply("never sent") == ReplyDisposition::unexpected);
  CHECK(story.counters().replies_that_were(ReplyDisposition::unexpected) == 1);
}

TEST_CASE("D8: a reply to a request that was never delivered is unexpected, and does not end it") {
  Story story;
  REQUIRE(story.send("r1"));
  SUBCASE("it was never taken") {}
  SUBCASE("a poll took it and put it back unread") { (void)story.take(); }
  CHECK(story.reply("r1", "a guess") == ReplyDisposition::unexpected);
  CHECK(story.outcomes.count("r1") == 0);
  CHECK(story.counters().queued == 1);
  CHECK(story.deliver() == "r1");
  CHECK(story.reply("r1", "the reply") == ReplyDisposition::delivered);
  CHECK(story.outcomes.of("r1").reply == "the reply");
}

TEST_CASE("D8: a reply to a task in hand that nobody has looked at is unexpected") {
  Story story;
  REQUIRE(story.send("r1"));
  const auto task = story.take();
  CHECK(story.reply("r1") == ReplyDisposition::unexpected);
  task.message();
  CHECK(story.reply("r1") == ReplyDisposition::delivered);
}

TEST_CASE(
    "D8: a redelivery that a former server has sent may be answered before this one delivers") {
  Story story;
  REQUIRE(story.send("r1", SendOptions{.retry_count = 1}));
  CHECK(story.reply("r1") == ReplyDisposition::delivered);
  CHECK(story.counters().queued == 0);
}

TEST_CASE("D9, D10 (H22): a reply without an id is one report, uncorrelated, with the node's id") {
  Loop loop;
  Recorder observer;
  const fedagent::NodeAgent<Transport, Message, Recorder> agent("node", loop.executor(), {}, {},
                                                                observer);
  REQUIRE(agent.try_send(message("r1")));
  CHECK(loop.run(agent.on_reply(Message{.body = "I could not parse"})).value() ==
        ReplyDisposition::uncorrelated);
  CHECK(agent.counters().replies_that_were(ReplyDisposition::uncorrelated) == 1);
  CHECK(agent.counters().replies_that_were(ReplyDisposition::unexpected) == 0);
  CHECK(observer.log().count("reply node") == 1);
  CHECK(observer.log().lines.back() ==
        "reply node  " + std::to_string(static_cast<int>(ReplyDisposition::uncorrelated)));
}

// ---- D11 to D20: flush

TEST_CASE("D11, D12: stopped without a reply, further replies are called stopped, more than once") {
  Story story;
  send_and_deliver(story, "r1");
  CHECK(story.flush("r1", true));
  CHECK(story.outcomes.of("r1").error == errc::flushed);
  CHECK(story.reply("r1") == ReplyDisposition::stopped);
  CHECK(story.reply("r1") == ReplyDisposition::stopped);
  CHECK(story.counters().replies_that_were(ReplyDisposition::stopped) == 2);
  CHECK(story.outcomes.count("r1") == 1);
}

TEST_CASE(
    "D13: flushed after its reply, a request is gone already, and a further reply a duplicate") {
  Story story;
  send_and_deliver(story, "r1");
  CHECK(story.reply("r1") == ReplyDisposition::delivered);
  CHECK_FALSE(story.flush("r1", true));
  CHECK(story.reply("r1") == ReplyDisposition::duplicate);
}

TEST_CASE("D14 (H13): flushed without stop, a further reply is late, not unexpected") {
  Story story;
  send_and_deliver(story, "r1");
  CHECK(story.flush("r1"));
  CHECK(story.reply("r1") == ReplyDisposition::late);
  CHECK(story.counters().replies_that_were(ReplyDisposition::late) == 1);
}

TEST_CASE(
    "D15, D16, D17 (H16): to flush what is not known, or twice, says so and does nothing else") {
  Story story;
  CHECK_FALSE(story.flush("never sent"));
  CHECK_FALSE(story.flush("never sent", true));
  CHECK_FALSE(story.flush(""));
  CHECK(story.agent->remembered_requests() == 0);
  send_and_deliver(story, "r1");
  CHECK(story.flush("r1", true));
  CHECK_FALSE(story.flush("r1", true));
  CHECK_FALSE(story.flush("r1", false));
  CHECK(story.reply("r1") == ReplyDisposition::stopped);
}

TEST_CASE("D18 (H18): what is remembered of ended requests is bounded by count and by age") {
  Story story(AgentOptions{.remembered_requests = 100, .remembered_for = 30min});
  for (int i = 0; i < 1000; ++i) {
    send_and_deliver(story, "r" + std::to_string(i));
    CHECK(story.flush("r" + std::to_string(i), true));
  }
  CHECK(story.agent->remembered_requests() == 100);
  CHECK(story.reply("r999") == ReplyDisposition::stopped);
  CHECK(story.reply("r900") == ReplyDisposition::stopped);
  CHECK(story.reply("r899") == ReplyDisposition::unexpected);
  story.loop.advance(30min);
  CHECK(story.reply("r999") == ReplyDisposition::unexpected);
  CHECK(story.agent->remembered_requests() == 0);
}

TEST_CASE("D19 (H17): of 1000 answered and of 1000 flushed requests no message is kept") {
  Story story;
  std::vector<std::weak_ptr<const Message>> replies;
  for (int i = 0; i < 1000; ++i) {
    const auto id = "r" + std::to_string(i);
    REQUIRE(story.agent->try_send(story.make(id), [&](const Agent::outcome_type& outcome) {
      if (outcome) {
        replies.push_back(*outcome);
      }
    }));
    REQUIRE(story.deliver() == id);
    REQUIRE(story.reply(id, std::string(1000, 'x')) == ReplyDisposition::delivered);
    CHECK_FALSE(story.flush(id));
    const auto flushed = "f" + std::to_string(i);
    send_and_deliver(story, flushed);
    CHECK(story.flush(flushed));
    REQUIRE(story.reply(flushed) == ReplyDisposition::late);
  }
  CHECK(story.alive() == 0);
  CHECK(replies.size() == 1000);
  CHECK(std::ranges::all_of(replies, [](const auto& reply) { return reply.expired(); }));
  CHECK(story.agent->remembered_requests() == AgentOptions{}.remembered_requests);
  CHECK(story.counters().open_requests == 0);
}

TEST_CASE("D20: flushed while it is queued, it is withdrawn and not delivered") {
  Story story;
  REQUIRE(story.send("r1"));
  REQUIRE(story.send("r2"));
  CHECK(story.flush("r1"));
  CHECK(story.outcomes.of("r1").error == errc::flushed);
  CHECK(story.counters().dropped_for(errc::flushed) == 1);
  CHECK(story.deliver() == "r2");
  CHECK(story.counters().queued == 0);
}

TEST_CASE("D20: flushed in every other state, it ends once, and its task does nothing more") {
  for (const std::string state : {"in hand", "delivered", "working", "lost"}) {
    INFO(state);
    Story story;
    story.agent->set_active();
    REQUIRE(story.send("r1"));
    Task in_hand;
    if (state == "in hand") {
      in_hand = story.take();
      in_hand.message();
    } else if (state == "lost") {
      story.lose();
    } else {
      story.deliver();
    }
    if (state == "working") {
      story.agent->set_active();
    }
    CHECK(story.flush("r1"));
    CHECK(story.counters().balanced());
    in_hand.delivered();
    in_hand = Task();
    CHECK(story.counters().queued == 0);
    CHECK(story.counters().leased == 0);
    CHECK(story.counters().confirmed == (state == "working" ? 1 : 0));
    CHECK(story.counters().failed_for(errc::flushed) == 1);
    CHECK(story.reply("r1") == ReplyDisposition::late);
  }
}

TEST_CASE(
    "D21 (H19): a reply that names another node is refused and counted; its request is still "
    "open") {
  Story story;
  send_and_deliver(story, "r1");
  CHECK(story.loop.run(receive(story, {.request_id = "r1", .source = "other"})).error() ==
        errc::wrong_node);
  CHECK(story.loop.run(receive(story, {.destination = "x", .source = "other"})).error() ==
        errc::wrong_node);
  CHECK(story.counters().wrong_node == 2);
  CHECK_FALSE(story.agent->last_seen().reply);
  CHECK(story.counters().open_requests == 1);
  CHECK(story.loop.run(receive(story, {.request_id = "r1", .source = "node"})).value() ==
        ReplyDisposition::delivered);
}

TEST_CASE("D21: the reply of one node does not answer the same id at another") {
  Loop loop;
  Outcomes outcomes;
  Store store(loop.executor());
  const auto a = store.retrieve("a").value();
  const auto b = store.retrieve("b").value();
  REQUIRE(a.try_send(message("r1"), outcomes.handler("a")));
  REQUIRE(b.try_send(message("r1"), outcomes.handler("b")));
  loop.run(a.get_task())->delivered();
  auto lost = loop.run(b.get_task());
  lost->message();
  CHECK(loop.run(a.on_reply(Message{.request_id = "r1"})).value() == ReplyDisposition::delivered);
  CHECK(loop.run(a.on_reply(Message{.request_id = "r1"})).value() == ReplyDisposition::duplicate);
  CHECK(outcomes.count("a") == 1);
  CHECK(outcomes.count("b") == 0);
}

// A wire that is a pointer to a message: it converts to a decoded one, and is none.
struct Checking : Transport {
  using wire_type = std::unique_ptr<Message>;
  static result<Message> decode(wire_type wire) {
    if (wire->body == "forged") {
      return make_error_code(errc::not_encodable);
    }
    return *std::move(wire);
  }
};

TEST_CASE("reply: what is of the wire's type is decoded, also when it converts to a message") {
  Loop loop;
  const fedagent::NodeAgent<Checking> agent("n", loop.executor());
  const auto reply = [](const char* body) {
    return std::make_unique<Message>(Message{.request_id = "r1", .body = body});
  };
  CHECK(agent.try_on_reply(reply("forged")).error() == errc::not_encodable);
  CHECK(agent.try_on_reply(reply("good")).value() == ReplyDisposition::unexpected);
}

// ---- replies and deliveries

TEST_CASE("reply: it confirms a delivery in every state, also one whose lease had died") {
  for (const std::string state : {"in hand", "delivered", "working", "lost", "taken again"}) {
    INFO(state);
    Story story;
    story.agent->set_active();
    REQUIRE(story.send("r1"));
    Task in_hand;
    if (state == "in hand") {
      in_hand = story.take();
      in_hand.message();
    } else if (state == "lost" || state == "taken again") {
      story.lose();
    } else {
      story.deliver();
    }
    if (state == "working") {
      story.agent->set_active();
    }
    if (state == "taken again") {
      in_hand = story.take();
    }
    CHECK(story.reply("r1") == ReplyDisposition::delivered);
    CHECK(story.counters().confirmed == 1);
    CHECK(story.counters().queued == 0);
    CHECK(story.counters().leased == 0);
    in_hand = Task();
    CHECK(story.counters().queued == 0);
    CHECK(story.outcomes.of("r1").reply == "done");
  }
}

TEST_CASE("reply: every reason a request can end with makes a further reply late") {
  Story story(AgentOptions{.max_age = 10s, .max_retries = 0});
  story.agent->set_active();
  REQUIRE(story.send("retries"));
  story.lose();
  REQUIRE(story.send("deadline", SendOptions{.deadline = story.loop.now() + 5s}));
  REQUIRE(story.send("expired"));
  story.loop.advance(10s);
  for (const auto* id : {"retries", "deadline", "expired"}) {
    CHECK(story.outcomes.count(id) == 1);
    CHECK(story.reply(id) == ReplyDisposition::late);
  }
}

TEST_CASE("reply: to an agent that has ended it is refused with the reason") {
  Loop loop;
  Store store(loop.executor());
  const auto agent = store.retrieve("node").value();
  REQUIRE(agent.try_send(message("r1")));
  CHECK(store.erase("node"));
  CHECK(loop.run(agent.on_reply(Message{.request_id = "r1"})).error() == errc::removed);
}

namespace {

awaitable<result<void>> forward_later(
    std::shared_ptr<boost::asio::basic_waitable_timer<
        ManualClock, boost::asio::wait_traits<ManualClock>, Executor>>
        timer,
    MessagePtr) {
  co_await timer->async_wait(boost::asio::use_awaitable_t<Executor>());
  co_return result<void>();
}

}  // namespace

TEST_CASE("overlay: the agent may end while its forwarder waits") {
  Loop loop;
  auto timer = std::make_shared<boost::asio::basic_waitable_timer<
      ManualClock, boost::asio::wait_traits<ManualClock>, Executor>>(loop.executor(), 5s);
  std::optional<Agent> agent(std::in_place, "node", loop.executor(), [timer](MessagePtr message) {
    return forward_later(timer, std::move(message));
  });
  auto forwarded = loop.spawn(agent->on_reply(Message{.destination = "other"}));
  loop.drain();
  SUBCASE("stopped") { agent->stop(); }
  SUBCASE("without a handle") { agent.reset(); }
  loop.advance(5s);
  CHECK(forwarded.value().value() == ReplyDisposition::forwarded);
}

// ---- at once

TEST_CASE("try_on_reply: what a reply is, and what is counted, is as with on_reply") {
  using enum ReplyDisposition;
  Story story;
  send_and_deliver(story, "r1");
  send_and_deliver(story, "r2");
  send_and_deliver(story, "r3");
  REQUIRE(story.send("r4"));
  CHECK(story.flush("r2"));
  CHECK(story.flush("r3", true));
  const std::pair<const char*, ReplyDisposition> cases[] = {
      {"r1", delivered},       {"r1", duplicate},  {"r2", late},
      {"r3", stopped},         {"r4", unexpected}, {"", uncorrelated},
      {"nobody's", unexpected}};
  for (const auto& [id, expected] : cases) {
    CAPTURE(id);
    const auto before = story.counters().replies_that_were(expected);
    CHECK(*story.agent->try_on_reply(Message{.request_id = id, .body = "done"}) == expected);
    CHECK(story.counters().replies_that_were(expected) == before + 1);
  }
  CHECK(story.outcomes.of("r1").reply == "done");
  CHECK(story.counters().replied == 1);
  CHECK(story.agent->try_on_reply(Message{.request_id = "r4", .source = "other"}).error() ==
        errc::wrong_node);
  CHECK(story.counters().wrong_node == 1);
  story.agent->stop();
  CHECK(story.agent->try_on_reply(Message{.request_id = "r1"}).error() == errc::stopped);
}

TEST_CASE("try_on_reply: what decode refuses is returned, and nothing else happens") {
  Loop loop;
  const fedagent::NodeAgent<TextTransport> agent("node", loop.executor());
  CHECK(agent.try_on_reply("").error() ==
        boost::system::errc::make_error_code(boost::system::errc::bad_message));
  CHECK_FALSE(agent.last_seen().any);
}

TEST_CASE("try_on_reply: the handler may let the last handle go, and throw") {
  Loop loop;
  std::optional<Agent> agent(std::in_place, "node", loop.executor());
  const auto let_go = [&agent](const Agent::outcome_type& outcome) {
    CHECK(outcome);
    agent.reset();
    throw std::runtime_error("a bad handler");
  };
  REQUIRE(agent->try_send(message("r1"), let_go));
  loop.run(agent->get_task())->message();
  CHECK(*agent->try_on_reply(Message{.request_id = "r1"}) == ReplyDisposition::delivered);
  CHECK_FALSE(agent);
}
