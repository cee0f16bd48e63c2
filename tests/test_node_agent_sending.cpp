// node_agent.hpp: sending and the queue (b.3), back-pressure, leases, deadlines and request().
#include <doctest/doctest.h>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "support/story.hpp"

using namespace test;
using namespace boost::asio::experimental::awaitable_operators;
using enum NodeActiveStatus;
using boost::asio::error::operation_aborted;
using fedagent::OverflowPolicy;

// ---- C1 to C6: what is accepted

TEST_CASE(
    "C1: a message to an ACTIVE node is registered before a poll can take it, and queued once") {
  Story story;
  // The poll waits already: it must find the request registered when it runs.
  auto polled = story.loop.spawn(story.agent->get_task());
  story.loop.drain();
  REQUIRE(story.send("r1"));
  CHECK(story.counters().requests == 1);
  CHECK(story.counters().open_requests == 1);
  CHECK(story.counters().queued == 1);
  CHECK_FALSE(polled.done());
  story.loop.drain();
  auto& task = polled.value();
  REQUIRE(task.has_value());
  CHECK(task->message()->request_id == "r1");
  CHECK(task->retry_count() == 0);
  CHECK(task->first_send_time() == story.loop.now());
  task->delivered();
  CHECK(story.reply("r1", "done") == ReplyDisposition::delivered);
  CHECK(story.outcomes.of("r1").reply == "done");
}

TEST_CASE("C2: a message to a WAITING node is accepted as to an ACTIVE one") {
  Story story;
  story.agent->change_node_status_after_task();
  REQUIRE(story.status() == waiting);
  CHECK(story.send("r1"));
  CHECK(story.counters().queued == 1);
}

TEST_CASE(
    "C3 (H9): a message to a DISCONNECTED node is refused with an error, and nothing is kept") {
  Story story;
  story.disconnect();
  CHECK(story.send("r1").error() == errc::disconnected);
  CHECK(story.counters().refused == 1);
  CHECK(story.counters().accepted == 0);
  CHECK(story.counters().requests == 0);
  CHECK(story.alive() == 0);
  // A refusal is the send's result; the handler of try_send hears nothing.
  CHECK(story.outcomes.count("r1") == 0);
  const auto asked = story.loop.run(story.agent->request(story.make("r2")));
  CHECK(asked.error() == errc::disconnected);
  const auto sent =
      story.loop.run(story.agent->send_async(story.make("r3"), story.outcomes.handler("r3")));
  CHECK(sent.error() == errc::disconnected);
}

TEST_CASE("C3: with the policy hold, a message waits for a DISCONNECTED node up to its age") {
  Story story(AgentOptions{.when_disconnected = fedagent::DisconnectedPolicy::hold});
  story.disconnect();
  CHECK(story.send("r1"));
  SUBCASE("the node comes back") {
    story.agent->set_active();
    CHECK(story.deliver() == "r1");
  }
  SUBCASE("it does not") {
    story.loop.advance(300s);
    CHECK(story.outcomes.of("r1").error == errc::expired);
  }
}

TEST_CASE("C4: a second new send with an open id is refused, and the first handler stays") {
  Story story;
  REQUIRE(story.send("r1"));
  int second = 0;
  CHECK(story.agent
            ->try_send(story.make("r1", "other"), [&](const Agent::outcome_type&) { ++second; })
            .error() == errc::duplicate_request_id);
  CHECK(story.counters().queued == 1);
  CHECK(story.deliver() == "r1");
  // Neither while it is out nor while its reply is awaited.
  CHECK(story.agent->try_send(story.make("r1")).error() == errc::duplicate_request_id);
  story.agent->set_active();
  CHECK(story.agent->try_send(story.make("r1")).error() == errc::duplicate_request_id);
  CHECK(story.reply("r1") == ReplyDisposition::delivered);
  CHECK(second == 0);
  // Ended, the id is free again.
  CHECK(story.send("r1"));
  story.flush("r1");
  CHECK(story.outcomes.count("r1") == 2);
}

TEST_CASE("C4: a redelivery of an open request goes to the front, and the first handler stays") {
  Story story;
  REQUIRE(story.send("r1"));
  REQUIRE(story.send("r2"));
  const auto first_sent = story.loop.now();
  CHECK(story.deliver() == "r1");
  story.loop.advance(1s);
  int second = 0;
  REQUIRE(story.agent->try_send(
      story.make("r1"), [&](const Agent::outcome_type&) { ++second; },
      SendOptions{.retry_count = 2}));
  CHECK(story.counters().accepted == 2);
  CHECK(story.counters().queued == 2);
  {
    auto task = story.take();
    CHECK(task.message()->request_id == "r1");
    CHECK(task.retry_count() == 2);
    CHECK(task.first_send_time() == first_sent);
    task.delivered();
  }
  CHECK(story.reply("r1") == ReplyDisposition::delivered);
  CHECK(second == 0);
  CHECK(story.outcomes.count("r1") == 1);
}

TEST_CASE("C4: a redelivery in every state of its request ends in one delivery and one outcome") {
  for (const std::string state : {"queued", "in hand", "delivered", "working"}) {
    INFO(state);
    Story story;
    story.agent->set_active();
    REQUIRE(story.send("r1"));
    Task in_hand;
    if (state == "in hand") {
      in_hand = story.take();
      in_hand.message();
    } else if (state != "queued") {
      story.deliver();
    }
    if (state == "working") {
      story.agent->set_active();
      REQUIRE(story.counters().confirmed == 1);
    }
    CHECK(story.agent->try_send(story.make("r1"), {}, SendOptions{.retry_count = 1}));
    CHECK(story.counters().balanced());
    CHECK(story.counters().queued == 1);
    CHECK(story.counters().leased == 0);
    // The task of the old lease has nothing to say any more.
    in_hand.delivered();
    in_hand = Task();
    CHECK(story.counters().queued == 1);
    CHECK(story.deliver() == "r1");
    CHECK(story.reply("r1") == ReplyDisposition::delivered);
    CHECK(story.counters().confirmed == 1);
  }
}

TEST_CASE(
    "C5: a message without an id is queued and not registered; with a handler it is refused") {
  Story story;
  CHECK(story.agent->try_send(story.make("")));
  CHECK(story.counters().queued == 1);
  CHECK(story.counters().requests == 0);
  int calls = 0;
  const auto handled =
      story.agent->try_send(story.make(""), [&](const Agent::outcome_type&) { ++calls; });
  CHECK(handled.error() == errc::request_id_missing);
  CHECK(story.loop.run(story.agent->request(story.make(""))).error() == errc::request_id_missing);
  CHECK(calls == 0);
  CHECK(story.counters().queued == 1);
  // Confirmed by the next poll, nothing of it stays.
  story.agent->set_active();
  CHECK(story.deliver().empty());
  story.agent->set_active();
  CHECK(story.counters().confirmed == 1);
  CHECK(story.alive() == 0);
}

TEST_CASE(
    "C6 (H29): the time of the first send and the retry count are kept as given; steady clock") {
  static_assert(Agent::clock_type::is_steady);
  Story story;
  const auto earlier = story.loop.now() - 100s;
  REQUIRE(story.agent->try_send(story.make("r1"), {},
                                SendOptions{.retry_count = 3, .first_send_time = earlier}));
  const auto task = story.take();
  CHECK(task.retry_count() == 3);
  CHECK(task.first_send_time() == earlier);
  CHECK(story.send("r2", SendOptions{.first_send_time = story.loop.now() - 300s}).error() ==
        errc::expired);
  // The age counts from the given time.
  REQUIRE(story.send("r3", SendOptions{.first_send_time = story.loop.now() - 299s}));
  story.loop.advance(1s);
  CHECK(story.outcomes.of("r3").error == errc::expired);
}

TEST_CASE("H6: a redelivery to a DISCONNECTED node or a full queue is accepted") {
  Story story(AgentOptions{.max_queued_messages = 1});
  REQUIRE(story.send("r1"));
  CHECK(story.send("r2").error() == errc::queue_full);
  story.disconnect();
  CHECK(story.send("r3").error() == errc::disconnected);
  CHECK(story.send("r4", SendOptions{.retry_count = 1}));
  CHECK(story.counters().queued == 2);
}

// ---- C7 to C12: taking

TEST_CASE("C7: the oldest task is taken first") {
  Story story;
  for (const auto* id : {"r1", "r2", "r3"}) {
    REQUIRE(story.send(id));
  }
  CHECK(story.deliver() == "r1");
  CHECK(story.deliver() == "r2");
  CHECK(story.deliver() == "r3");
  CHECK(story.counters().leased == 3);
  CHECK(story.counters().queued == 0);
}

TEST_CASE(
    "C8: of three polls that wait the second is cancelled: the first and the third are served") {
  Story story;
  auto first = story.loop.spawn(story.agent->get_task());
  auto second = story.loop.spawn(story.agent->get_task());
  auto third = story.loop.spawn(story.agent->get_task());
  story.loop.drain();
  second.cancel();
  REQUIRE(story.send("r1"));
  REQUIRE(story.send("r2"));
  story.loop.drain();
  CHECK(first.value()->message()->request_id == "r1");
  CHECK(second.value().error() == operation_aborted);
  CHECK(third.value()->message()->request_id == "r2");
  first.value()->delivered();
  third.value()->delivered();
}

TEST_CASE(
    "C9: a poll that is cancelled after its wake-up passes it on, and the task stays queued") {
  Story story;
  auto first = story.loop.spawn(story.agent->get_task());
  story.loop.drain();
  SUBCASE("another poll waits") {
    auto second = story.loop.spawn(story.agent->get_task());
    story.loop.drain();
    story.loop.in_one_turn([&] {
      REQUIRE(story.send("r1"));
      first.cancel();
    });
    CHECK(first.value().error() == operation_aborted);
    CHECK(second.value()->message()->request_id == "r1");
    second.value()->delivered();
  }
  SUBCASE("no other waits: the cancelled wait has changed nothing") {
    story.loop.in_one_turn([&] {
      REQUIRE(story.send("r1"));
      first.cancel();
    });
    CHECK(first.value().error() == operation_aborted);
    CHECK(story.counters().queued == 1);
    CHECK(story.counters().leased == 0);
    CHECK(story.take().retry_count() == 0);
  }
  SUBCASE("the task is withdrawn before the woken poll runs: it goes on waiting") {
    story.loop.in_one_turn([&] {
      REQUIRE(story.send("r1"));
      CHECK(story.flush("r1"));
    });
    CHECK_FALSE(first.done());
    REQUIRE(story.send("r2"));
    story.loop.drain();
    CHECK(first.value()->message()->request_id == "r2");
    first.value()->delivered();
  }
}

TEST_CASE(
    "C9: every type of cancellation that a coroutine lets through ends the wait, taking nothing") {
  using boost::asio::cancellation_type;
  struct Each {
    static awaitable<result<Task>> wait(Agent agent) {
      co_await boost::asio::this_coro::reset_cancellation_state(
          boost::asio::enable_total_cancellation());
      auto taking = agent.get_task();
      auto taken = co_await std::move(taking);
      co_return taken;
    }
  };
  for (const auto type :
       {cancellation_type::terminal, cancellation_type::partial, cancellation_type::total}) {
    Story story;
    auto waiting_poll = story.loop.spawn(Each::wait(*story.agent));
    story.loop.drain();
    waiting_poll.cancel(type);
    story.loop.drain();
    CHECK(waiting_poll.value().error() == operation_aborted);
    REQUIRE(story.send("r1"));
    story.loop.drain();
    CHECK(story.counters().queued == 1);
  }
}

namespace {

awaitable<std::string> first_of_two(Agent agent, Agent other) {
  auto both = agent.get_task() || other.get_task();
  auto taken = co_await std::move(both);
  if (taken.index() == 0) {
    auto& task = std::get<0>(taken);
    if (!task) {
      co_return "none";
    }
    task->delivered();
    co_return task->message()->request_id;
  }
  auto& task = std::get<1>(taken);
  if (!task) {
    co_return "none";
  }
  task->delivered();
  co_return task->message()->request_id;
}

}  // namespace

TEST_CASE("C9 (asio 1041): of two polls with || the loser's task stays where it is") {
  Loop loop;
  const Agent a("a", loop.executor());
  const Agent b("b", loop.executor());
  auto raced = loop.spawn(first_of_two(a, b));
  loop.drain();
  // Both are woken before either runs.
  loop.in_one_turn([&] {
    REQUIRE(b.try_send(message("b1")));
    REQUIRE(a.try_send(message("a1")));
  });
  CHECK(raced.value() == "b1");
  CHECK(b.counters().leased == 1);
  CHECK(a.counters().queued == 1);
  CHECK(a.counters().leased == 0);
  CHECK(loop.run(a.get_task())->retry_count() == 0);
}

TEST_CASE("C9: polls in line are not overtaken by one that comes when a task does") {
  Story story;
  auto first = story.loop.spawn(story.agent->get_task());
  story.loop.drain();
  story.loop.in_one_turn([&] {
    REQUIRE(story.send("r1"));
    auto late = story.loop.spawn(story.agent->get_task());
    (void)late;
  });
  REQUIRE(first.done());
  CHECK(first.value()->message()->request_id == "r1");
  first.value()->delivered();
}

TEST_CASE("C11, C12: task_done counts what was taken: without a task in hand it says so, by name") {
  Story story;
  CHECK(story.agent->task_done().error() == errc::no_task_taken);
  REQUIRE(story.send("r1"));
  // Put, not yet taken: the seed counted puts.
  CHECK(story.agent->task_done().error() == errc::no_task_taken);
  {
    auto task = story.take();
    task.message();
    CHECK(story.agent->task_done());
    CHECK(story.agent->task_done().error() == errc::no_task_taken);
  }
  // The same as Task::delivered: it does not go back.
  CHECK(story.counters().leased == 1);
  CHECK(story.counters().redelivered == 0);
}

TEST_CASE("C12: of several tasks in hand the oldest is the one that is done") {
  Story story;
  REQUIRE(story.send("r1"));
  REQUIRE(story.send("r2"));
  {
    auto first = story.take();
    auto second = story.take();
    first.message();
    second.message();
    CHECK(story.agent->task_done());
  }
  CHECK(story.counters().leased == 1);
  CHECK(story.deliver() == "r2");
}

TEST_CASE("C13: join waits until nothing is queued and every delivery is confirmed") {
  Story story;
  CHECK(story.loop.run(story.agent->join()).has_value());
  story.agent->set_active();
  REQUIRE(story.send("r1"));
  REQUIRE(story.send("r2"));
  REQUIRE(story.send("r3"));
  auto joined = story.loop.spawn(story.agent->join());
  auto cancelled = story.loop.spawn(story.agent->join());
  story.loop.drain();
  cancelled.cancel();
  story.loop.drain();
  CHECK(cancelled.value().error() == operation_aborted);
  story.deliver();
  story.deliver();
  story.agent->set_active();
  story.flush("r1");
  story.loop.drain();
  CHECK_FALSE(joined.done());
  story.deliver();
  story.loop.drain();
  CHECK_FALSE(joined.done());
  SUBCASE("confirmed by a poll") { story.agent->set_active(); }
  SUBCASE("confirmed by its reply") { story.reply("r3"); }
  SUBCASE("flushed") { story.flush("r3"); }
  SUBCASE("put back, and over age") {
    story.disconnect();
    story.loop.drain();
    CHECK_FALSE(joined.done());
    story.loop.advance(300s);
  }
  story.loop.drain();
  REQUIRE(joined.done());
  CHECK(joined.value().has_value());
}

TEST_CASE("C13: a join that waits ends with the agent") {
  Story story;
  REQUIRE(story.send("r1"));
  auto joined = story.loop.spawn(story.agent->join());
  story.loop.drain();
  story.agent->stop();
  story.loop.drain();
  CHECK(joined.value().error() == errc::stopped);
}

TEST_CASE("a lease that dies over age ends its task, and is no redelivery") {
  Story story(AgentOptions{.disconnect_timeout = 400s});
  REQUIRE(story.send("r1"));
  {
    auto task = story.loop.run(story.agent->get_task());
    CHECK(task->message()->request_id == "r1");
    story.loop.advance(300s);
  }
  CHECK(story.outcomes.of("r1").error == errc::expired);
  CHECK(story.agent->counters().redelivered == 0);
  CHECK(story.agent->counters().dropped_for(errc::expired) == 1);
}

// ---- C14: limits (H24)

TEST_CASE("C14: a full queue refuses; the limit is in messages, and taking one makes room") {
  Story story(AgentOptions{.max_queued_messages = 2});
  CHECK(story.send("r1"));
  CHECK(story.send("r2"));
  CHECK(story.send("r3").error() == errc::queue_full);
  CHECK(story.counters().refused == 1);
  CHECK(story.deliver() == "r1");
  CHECK(story.send("r3"));
  CHECK(story.send("r4").error() == errc::queue_full);
}

TEST_CASE("C14: a task that comes back passes the limit") {
  Story story(AgentOptions{.max_queued_messages = 1});
  REQUIRE(story.send("r1"));
  auto task = std::make_unique<Task>(story.take());
  task->message();
  REQUIRE(story.send("r2"));
  task.reset();
  CHECK(story.counters().queued == 2);
  CHECK(story.deliver() == "r1");
  CHECK(story.deliver() == "r2");
}

TEST_CASE("C14: the limit is in bytes too; a message above it is too large for every state") {
  Story story(AgentOptions{.max_queued_bytes = 10});
  const auto sized = [&](std::string id, std::size_t size) {
    return story.agent->try_send(story.make(id, std::string(size - id.size(), 'x')));
  };
  CHECK(sized("a", 11).error() == errc::message_too_large);
  CHECK(sized("b", 6));
  CHECK(story.counters().queued_bytes == 6);
  CHECK(sized("c", 5).error() == errc::queue_full);
  CHECK(sized("d", 4));
  CHECK(story.counters().queued_bytes == 10);
  CHECK(sized("e", 1).error() == errc::queue_full);
  CHECK(story.deliver() == "b");
  CHECK(story.counters().queued_bytes == 4);
  CHECK(sized("f", 6));
}

TEST_CASE("C14: zero is no limit") {
  Story story(AgentOptions{.max_queued_messages = 0, .max_queued_bytes = 0});
  for (int i = 0; i < 5000; ++i) {
    REQUIRE(story.agent->try_send(story.make("")));
  }
  CHECK(story.counters().queued == 5000);
}

TEST_CASE("C14: drop_oldest ends the oldest with displaced until the new one has room") {
  Story story(AgentOptions{.max_queued_bytes = 10, .overflow = OverflowPolicy::drop_oldest});
  const auto sized = [&](std::string id, std::size_t size) {
    return story.agent->try_send(story.make(id, std::string(size - id.size(), 'x')),
                                 story.outcomes.handler(id));
  };
  REQUIRE(sized("a", 3));
  REQUIRE(sized("b", 3));
  REQUIRE(sized("c", 3));
  REQUIRE(sized("d", 6));
  CHECK(story.outcomes.of("a").error == errc::displaced);
  CHECK(story.outcomes.of("b").error == errc::displaced);
  CHECK(story.outcomes.count("c") == 0);
  CHECK(story.counters().dropped_for(errc::displaced) == 2);
  // What can never have room displaces nothing.
  CHECK(sized("e", 11).error() == errc::message_too_large);
  CHECK(story.counters().queued == 2);
  CHECK(story.deliver() == "c");
  CHECK(story.deliver() == "d");
}

TEST_CASE("C14: drop_oldest does not touch what a poll has taken") {
  Story story(AgentOptions{.max_queued_messages = 1, .overflow = OverflowPolicy::drop_oldest});
  REQUIRE(story.send("r1"));
  CHECK(story.deliver() == "r1");
  REQUIRE(story.send("r2"));
  REQUIRE(story.send("r3"));
  CHECK(story.outcomes.of("r2").error == errc::displaced);
  CHECK(story.reply("r1") == ReplyDisposition::delivered);
}

TEST_CASE("C14: with the policy wait, senders wait for room, first come, first served") {
  Story story(AgentOptions{.max_queued_messages = 1, .overflow = OverflowPolicy::wait});
  REQUIRE(story.send("r1"));
  auto second = story.send_async("r2");
  auto third = story.send_async("r3");
  story.loop.drain();
  CHECK_FALSE(second.done());
  CHECK_FALSE(third.done());
  CHECK(story.counters().accepted == 1);
  CHECK(story.counters().refused == 0);
  CHECK(story.deliver() == "r1");
  CHECK(second.value().has_value());
  CHECK_FALSE(third.done());
  CHECK(story.deliver() == "r2");
  CHECK(third.value().has_value());
  CHECK(story.deliver() == "r3");
  story.accepted("r2");
  story.accepted("r3");
}

TEST_CASE("C14: nobody overtakes a sender that waits, also when there is room for a moment") {
  Story story(AgentOptions{.max_queued_messages = 1, .overflow = OverflowPolicy::wait});
  REQUIRE(story.send("r1"));
  auto second = story.send_async("r2");
  story.loop.drain();
  story.loop.in_one_turn([&] { story.flush("r1"); });
  CHECK(second.value().has_value());
  auto third = story.send_async("r3");
  story.loop.drain();
  story.loop.in_one_turn([&] {
    // Room, and the one in line has been woken but has not run.
    story.flush("r2");
    CHECK(story.send("late").error() == errc::queue_full);
  });
  CHECK(third.value().has_value());
  CHECK(story.deliver() == "r3");
  story.accepted("r2");
  story.accepted("r3");
}

TEST_CASE("C14: a small message behind a large one that waits for room waits too") {
  Story story(AgentOptions{.max_queued_bytes = 10, .overflow = OverflowPolicy::wait});
  REQUIRE(story.agent->try_send(story.make("a", "1234567")));
  auto large = story.loop.spawn(story.agent->send_async(story.make("b", "123456789")));
  auto small = story.loop.spawn(story.agent->send_async(story.make("c", "1")));
  story.loop.drain();
  CHECK_FALSE(large.done());
  CHECK_FALSE(small.done());
  CHECK(story.deliver() == "a");
  CHECK(large.done());
  CHECK_FALSE(small.done());
  CHECK(story.deliver() == "b");
  CHECK(small.done());
  CHECK(story.deliver() == "c");
}

TEST_CASE("C14: a sender that is cancelled has sent nothing, and its turn goes to the next") {
  Story story(AgentOptions{.max_queued_messages = 1, .overflow = OverflowPolicy::wait});
  REQUIRE(story.send("r1"));
  auto second = story.send_async("r2");
  auto third = story.send_async("r3");
  story.loop.drain();
  SUBCASE("while it waits") {
    second.cancel();
    story.loop.drain();
    CHECK_FALSE(third.done());
    CHECK(story.deliver() == "r1");
  }
  SUBCASE("after it was woken") {
    story.loop.in_one_turn([&] {
      story.flush("r1");
      second.cancel();
    });
  }
  CHECK(second.value().error() == operation_aborted);
  REQUIRE(third.done());
  CHECK(third.value().has_value());
  CHECK(story.counters().accepted == 2);
  CHECK(story.deliver() == "r3");
  story.accepted("r3");
}

TEST_CASE("C14: a sender that waits is refused when the node is disconnected, and all behind it") {
  Story story(AgentOptions{.max_queued_messages = 1, .overflow = OverflowPolicy::wait});
  REQUIRE(story.send("r1"));
  auto second = story.send_async("r2");
  auto third = story.send_async("r3");
  story.disconnect();
  CHECK(second.value().error() == errc::disconnected);
  CHECK(third.value().error() == errc::disconnected);
  CHECK(story.counters().refused == 2);
}

TEST_CASE("C14: a sender that waits ends by its deadline, or with the agent") {
  Story story(AgentOptions{.max_queued_messages = 1, .overflow = OverflowPolicy::wait});
  REQUIRE(story.send("r1"));
  auto second = story.send_async("r2", SendOptions{.deadline = story.loop.now() + 5s});
  auto third = story.send_async("r3");
  story.loop.advance(5s - 1ns);
  CHECK_FALSE(second.done());
  story.loop.advance(1ns);
  CHECK(second.value().error() == errc::deadline_passed);
  CHECK_FALSE(third.done());
  SUBCASE("stopped") { story.agent->stop(); }
  SUBCASE("the last handle has gone") { story.agent.reset(); }
  story.loop.drain();
  CHECK(third.value().error() == errc::stopped);
}

TEST_CASE("C14: what would be refused anyway does not wait, and no room for one that never fits") {
  Story story(AgentOptions{
      .max_queued_messages = 1, .max_queued_bytes = 20, .overflow = OverflowPolicy::wait});
  REQUIRE(story.send("r1"));
  auto duplicate = story.send_async("r1");
  auto large = story.loop.spawn(story.agent->send_async(story.make("r2", std::string(20, 'x'))));
  auto late = story.send_async("r3", SendOptions{.deadline = story.loop.now()});
  story.loop.drain();
  CHECK(duplicate.value().error() == errc::duplicate_request_id);
  CHECK(large.value().error() == errc::message_too_large);
  CHECK(late.value().error() == errc::deadline_passed);
}

TEST_CASE("C15: a disconnection between the check and the put cannot be: a send is one step") {
  // The send is decided and done in one handler: it is refused, or the drop finds it in the queue.
  Story story(AgentOptions{.queued_on_disconnect = fedagent::QueuedPolicy::drop});
  story.agent->set_active();
  story.agent->change_node_status_after_task();
  story.loop.drain();
  ManualClock::advance(10s);
  REQUIRE(story.send("r1"));
  story.loop.drain();
  CHECK(story.status() == disconnected);
  CHECK(story.outcomes.of("r1").error == errc::disconnected);
}

// ---- C16: from other threads (H28)

TEST_CASE(
    "C16 (H28): a send from another thread tells its result, keeps its order, and can be ignored") {
  Story story(AgentOptions{.max_queued_messages = 3});
  std::vector<std::future<result<void>>> sent;
  std::thread sender([&] {
    for (const auto* id : {"r1", "r2", "r3", "r4"}) {
      sent.push_back(story.agent->send(story.make(id), story.outcomes.handler(id)));
    }
    story.agent->send(Message{.request_id = "r5"});
  });
  sender.join();
  CHECK(story.counters().accepted == 0);
  story.loop.drain();
  CHECK(sent[0].get());
  CHECK(sent[1].get());
  CHECK(sent[2].get());
  CHECK(sent[3].get().error() == errc::queue_full);
  // Refused, the handler hears of it: nobody may have waited for the future.
  CHECK(story.outcomes.of("r4").error == errc::queue_full);
  CHECK(story.deliver() == "r1");
  CHECK(story.deliver() == "r2");
  CHECK(story.deliver() == "r3");
  for (const auto* id : {"r1", "r2", "r3"}) {
    story.accepted(id);
  }
}

TEST_CASE("C16: a flush from another thread tells whether the request was open") {
  Story story;
  REQUIRE(story.send("r1"));
  std::future<bool> known;
  std::future<bool> unknown;
  std::thread other([&] {
    known = story.agent->flush("r1");
    unknown = story.agent->flush("r2");
  });
  other.join();
  story.loop.drain();
  CHECK(known.get());
  CHECK_FALSE(unknown.get());
  CHECK(story.outcomes.of("r1").error == errc::flushed);
}

TEST_CASE("C16: sends that are still on their way when the agent goes tell that it has stopped") {
  Story story;
  auto sent = story.agent->send(story.make("r1"), story.outcomes.handler("r1"));
  auto flushed = story.agent->flush("r1");
  auto throws = story.agent->send(
      story.make("r2"), [](const Agent::outcome_type&) { throw std::runtime_error("x"); });
  story.agent.reset();
  story.loop.drain();
  CHECK(sent.get().error() == errc::stopped);
  CHECK(story.outcomes.of("r1").error == errc::stopped);
  CHECK_FALSE(flushed.get());
  CHECK(throws.get().error() == errc::stopped);
}

TEST_CASE("C16: a future that is kept keeps nothing of what was sent") {
  Story story;
  auto held = std::make_shared<int>();
  const std::weak_ptr<int> handler_is_there = held;
  const auto handler = [held = std::move(held)](const Agent::outcome_type&) {};
  auto refused = story.agent->send(story.make(""), handler);
  auto flushed = story.agent->flush("r1");
  story.loop.drain();
  CHECK(story.alive() == 0);
  CHECK(handler_is_there.use_count() == 1);  // that of this test
  CHECK(refused.get().error() == errc::request_id_missing);
  CHECK_FALSE(flushed.get());
}

// ---- age, retries, order: how a delivery fails (H5 to H10)

TEST_CASE("H10: a message that is not delivered within its age ends as expired, and not earlier") {
  Story story(AgentOptions{.max_age = 300s});
  REQUIRE(story.send("r1"));
  REQUIRE(story.agent->try_send(story.make("")));
  story.loop.advance(300s - 1ns);
  CHECK(story.counters().queued == 2);
  story.loop.advance(1ns);
  CHECK(story.outcomes.of("r1").error == errc::expired);
  CHECK(story.counters().dropped_for(errc::expired) == 2);
  CHECK(story.counters().failed_for(errc::expired) == 1);
  CHECK(story.counters().queued == 0);
  CHECK(story.counters().open_requests == 0);
}

TEST_CASE("H10: the age is measured from the first send, over all attempts") {
  Story story(AgentOptions{.max_age = 300s});
  REQUIRE(story.send("r1"));
  story.loop.advance(200s);
  story.lose();
  story.loop.advance(99s);
  CHECK(story.counters().queued == 1);
  SUBCASE("it comes to its age in the queue") { story.loop.advance(1s); }
  SUBCASE("it comes to its age in hand, and is lost") {
    const auto task = story.take();
    task.message();
    story.loop.advance(1s);
    CHECK(story.outcomes.count("r1") == 0);
  }
  SUBCASE("it comes to its age in hand, unread") {
    const auto task = story.take();
    story.loop.advance(1s);
  }
  CHECK(story.outcomes.of("r1").error == errc::expired);
}

TEST_CASE("H10: delivered in time, its age does not matter any more") {
  Story story;
  REQUIRE(story.send("r1"));
  auto task = story.take();
  story.loop.advance(1h);
  task.delivered();
  story.loop.advance(1h);
  CHECK(story.reply("r1") == ReplyDisposition::delivered);
}

TEST_CASE("E3: what is over age when a poll comes is not delivered, though no timer has run yet") {
  Story story;
  REQUIRE(story.send("r1"));
  ManualClock::advance(299s);
  REQUIRE(story.send("r2"));
  ManualClock::advance(1s);
  // Nothing of the loop has run since.
  auto polled = story.loop.spawn(story.agent->get_task());
  story.loop.drain();
  CHECK(polled.value()->message()->request_id == "r2");
  polled.value()->delivered();
  CHECK(story.outcomes.of("r1").error == errc::expired);
}

TEST_CASE("age: zero is no limit") {
  Story story(AgentOptions{.max_age = 0s});
  REQUIRE(story.send("r1"));
  story.loop.advance(366 * 24h);
  CHECK(story.deliver() == "r1");
}

TEST_CASE("E8 (H10): 6 attempts in all, the retry count rises, then the request is told") {
  Story story;
  REQUIRE(story.send("r1"));
  const auto sent = story.loop.now();
  for (std::uint32_t attempt = 0; attempt < 6; ++attempt) {
    story.loop.advance(1s);
    CHECK(story.outcomes.count("r1") == 0);
    const auto task = story.take();
    CHECK(task.retry_count() == attempt);
    CHECK(task.first_send_time() == sent);
    CHECK(task.message()->request_id == "r1");
  }
  CHECK(story.outcomes.of("r1").error == errc::retries_exhausted);
  CHECK(story.counters().redelivered == 5);
  CHECK(story.counters().queued == 0);
}

TEST_CASE("E8: with zero retries a message is delivered once") {
  Story story(AgentOptions{.max_retries = 0});
  REQUIRE(story.send("r1"));
  story.lose();
  CHECK(story.outcomes.of("r1").error == errc::retries_exhausted);
}

TEST_CASE(
    "lease: a task that nobody looked at goes back without counting as an attempt, for ever") {
  Story story(AgentOptions{.max_retries = 1});
  REQUIRE(story.send("r1"));
  for (int i = 0; i < 20; ++i) {
    CHECK(story.take().retry_count() == 0);
  }
  CHECK(story.counters().redelivered == 0);
  CHECK(story.deliver() == "r1");
}

TEST_CASE("E9 (H6): a task that is lost while the node is DISCONNECTED is back in the queue") {
  Story story;
  REQUIRE(story.send("r1"));
  auto task = std::make_unique<Task>(story.take());
  task->message();
  story.disconnect();
  task.reset();
  CHECK(story.counters().queued == 1);
  story.agent->set_active();
  CHECK(story.take().retry_count() == 1);
}

TEST_CASE("H7: what comes back goes to the front, in the order of the first sends") {
  Story story;
  for (const auto* id : {"r1", "r2", "r3", "r4"}) {
    REQUIRE(story.send(id));
  }
  {
    auto first = story.take();
    auto second = story.take();
    first.message();
    second.message();
    // Destroyed in reverse: the second comes back first.
  }
  for (const auto* id : {"r1", "r2", "r3", "r4"}) {
    CHECK(story.deliver() == id);
  }
}

TEST_CASE("H11: a message that cannot be encoded ends as such, and the next one is delivered") {
  Story story;
  REQUIRE(story.send("poison"));
  REQUIRE(story.send("r2"));
  {
    auto task = story.take();
    task.message();
    task.not_encodable();
  }
  CHECK(story.outcomes.of("poison").error == errc::not_encodable);
  CHECK(story.counters().dropped_for(errc::not_encodable) == 1);
  CHECK(story.deliver() == "r2");
}

TEST_CASE("H24: a broadcast to many agents is one object, shared") {
  Loop loop;
  Store store(loop.executor());
  for (int i = 0; i < 100; ++i) {
    REQUIRE(store.retrieve("n" + std::to_string(i)));
  }
  const auto shared = message("", std::string(1000, 'x'));
  CHECK(store.broadcast(shared) == 100);
  CHECK(shared.use_count() == 101);
}

TEST_CASE("H33: messages are immutable once they are sent") {
  static_assert(std::is_const_v<Agent::message_ptr::element_type>);
  static_assert(std::is_const_v<
                std::remove_reference_t<decltype((std::declval<const Task&>().message()->body))>>);
  CHECK(true);
}

// ---- deadlines of requests

TEST_CASE("deadline: a request ends with it in every state, and its task is withdrawn") {
  for (const std::string state : {"queued", "in hand", "delivered", "working"}) {
    INFO(state);
    Story story;
    story.agent->set_active();
    REQUIRE(story.send("r1", SendOptions{.deadline = story.loop.now() + 20s}));
    Task in_hand;
    if (state == "in hand") {
      in_hand = story.take();
      in_hand.message();
    } else if (state != "queued") {
      story.deliver();
    }
    if (state == "working") {
      story.agent->set_active();
    }
    story.loop.advance(20s - 1ns);
    CHECK(story.outcomes.count("r1") == 0);
    story.loop.advance(1ns);
    CHECK(story.outcomes.of("r1").error == errc::deadline_passed);
    CHECK(story.counters().queued == 0);
    CHECK(story.counters().leased == 0);
    in_hand.delivered();
    in_hand = Task();
    CHECK(story.counters().queued == 0);
    CHECK(story.reply("r1") == ReplyDisposition::late);
  }
}

TEST_CASE("deadline: the earlier of deadline and age names the reason") {
  Story story(AgentOptions{.max_age = 10s});
  REQUIRE(story.send("age", SendOptions{.deadline = story.loop.now() + 11s}));
  REQUIRE(story.send("deadline", SendOptions{.deadline = story.loop.now() + 9s}));
  REQUIRE(story.send("both", SendOptions{.deadline = story.loop.now() + 10s}));
  story.loop.advance(9s);
  story.loop.advance(1s);
  CHECK(story.outcomes.of("age").error == errc::expired);
  CHECK(story.outcomes.of("deadline").error == errc::deadline_passed);
  CHECK(story.outcomes.of("both").error == errc::deadline_passed);
}

TEST_CASE("deadline: one that has passed is refused") {
  Story story;
  CHECK(story.send("r1", SendOptions{.deadline = story.loop.now()}).error() ==
        errc::deadline_passed);
  CHECK(story.send("r2", SendOptions{.deadline = story.loop.now() - 1s}).error() ==
        errc::deadline_passed);
  CHECK(story.loop.run(story.agent->request(story.make("r3"), 0ns)).error() ==
        errc::deadline_passed);
}

// ---- request()

TEST_CASE("request: it ends with the reply, or with why there is none") {
  Story story;
  story.agent->set_active();
  auto answered = story.loop.spawn(story.agent->request(story.make("r1")));
  auto flushed = story.loop.spawn(story.agent->request(story.make("r2")));
  auto late = story.loop.spawn(story.agent->request(story.make("r3"), 5s));
  story.loop.drain();
  CHECK(story.deliver() == "r1");
  CHECK(story.reply("r1", "weights") == ReplyDisposition::delivered);
  REQUIRE(answered.value().has_value());
  CHECK((*answered.value())->body == "weights");
  story.flush("r2");
  story.loop.drain();
  CHECK(flushed.value().error() == errc::flushed);
  story.loop.advance(5s);
  CHECK(late.value().error() == errc::deadline_passed);
  CHECK(story.counters().open_requests == 0);
}

TEST_CASE("request: one that waits for room has its deadline from the call") {
  Story story(AgentOptions{.max_queued_messages = 1, .overflow = OverflowPolicy::wait});
  REQUIRE(story.send("r0"));
  auto early = story.loop.spawn(story.agent->request(story.make("r1"), 5s));
  auto asked = story.loop.spawn(story.agent->request(story.make("r2"), 10s));
  story.loop.advance(5s);
  CHECK(early.value().error() == errc::deadline_passed);
  CHECK(story.counters().accepted == 1);
  CHECK(story.deliver() == "r0");
  CHECK(story.deliver() == "r2");
  story.loop.advance(5s);
  CHECK(asked.value().error() == errc::deadline_passed);
}

TEST_CASE("request: cancelled, it withdraws itself, in every state") {
  for (const std::string state :
       {"waiting for room", "queued", "in hand", "delivered", "working"}) {
    INFO(state);
    Story story(AgentOptions{.max_queued_messages = 1, .overflow = OverflowPolicy::wait});
    story.agent->set_active();
    if (state == "waiting for room") {
      REQUIRE(story.send("r0"));
    }
    auto asked = story.loop.spawn(story.agent->request(story.make("r1")));
    story.loop.drain();
    Task in_hand;
    if (state == "in hand") {
      in_hand = story.take();
      in_hand.message();
    } else if (state == "delivered" || state == "working") {
      story.deliver();
    }
    if (state == "working") {
      story.agent->set_active();
    }
    asked.cancel();
    story.loop.drain();
    CHECK(asked.value().error() == operation_aborted);
    CHECK(story.counters().balanced());
    CHECK(story.counters().leased == 0);
    if (state == "waiting for room") {
      CHECK(story.counters().accepted == 1);
      CHECK(story.counters().queued == 1);
    } else {
      CHECK(story.counters().failed_for(errc::cancelled) == 1);
      CHECK(story.counters().queued == 0);
      CHECK(story.reply("r1") == ReplyDisposition::late);
    }
    CHECK(story.counters().open_requests == (state == "waiting for room" ? 1 : 0));
  }
}

TEST_CASE("request: cancelled by a handler that its own send runs, it withdraws itself") {
  Story story({.max_queued_messages = 1, .overflow = fedagent::OverflowPolicy::drop_oldest});
  std::optional<Spawned<fedagent::Outcome<Message>>> asked;
  REQUIRE(story.agent->try_send(story.make("r1"), [&](const auto&) { asked->cancel(); }));
  asked = story.loop.spawn_after_a_wait(story.agent->request(story.make("r2")));
  story.loop.drain();
  CHECK(asked->value().error() == operation_aborted);
  CHECK(story.counters().queued == 0);
  CHECK(story.counters().failed_for(errc::cancelled) == 1);
}

TEST_CASE("request: a reply that came in the turn of the cancellation is what it ends with") {
  Story story;
  auto asked = story.loop.spawn(story.agent->request(story.make("r1")));
  story.loop.drain();
  CHECK(story.deliver() == "r1");
  auto replied =
      story.loop.spawn(story.agent->on_reply(Message{.request_id = "r1", .body = "done"}));
  story.loop.in_one_turn([&] { asked.cancel(); });
  CHECK(replied.value().value() == ReplyDisposition::delivered);
  REQUIRE(asked.value().has_value());
  CHECK((*asked.value())->body == "done");
}

namespace {

awaitable<std::size_t> either(Agent agent, Message one, Message other) {
  auto both = agent.request(std::move(one)) || agent.request(std::move(other));
  const auto first = co_await std::move(both);
  co_return first.index();
}

awaitable<std::size_t> request_or_timer(Agent agent, Message ask, ManualClock::duration after) {
  boost::asio::basic_waitable_timer<ManualClock, boost::asio::wait_traits<ManualClock>, Executor>
      timer(agent.get_executor(), after);
  auto both =
      agent.request(std::move(ask)) || timer.async_wait(boost::asio::use_awaitable_t<Executor>());
  const auto first = co_await std::move(both);
  co_return first.index();
}

}  // namespace

TEST_CASE("request: with || the loser withdraws itself") {
  Story story;
  auto raced = story.loop.spawn(
      either(*story.agent, Message{.request_id = "a"}, Message{.request_id = "b"}));
  story.loop.drain();
  CHECK(story.counters().queued == 2);
  story.deliver();
  story.deliver();
  CHECK(story.reply("b") == ReplyDisposition::delivered);
  story.loop.drain();
  CHECK(raced.value() == 1);
  CHECK(story.reply("a") == ReplyDisposition::late);
  CHECK(story.counters().failed_for(errc::cancelled) == 1);
  CHECK(story.counters().open_requests == 0);

  auto timed = story.loop.spawn(request_or_timer(*story.agent, Message{.request_id = "c"}, 3s));
  story.loop.drain();
  CHECK(story.counters().queued == 1);
  story.loop.advance(3s);
  CHECK(timed.value() == 1);
  CHECK(story.counters().queued == 0);
}

TEST_CASE("request: the end of the agent ends it, whichever it waits for") {
  for (const bool by_handle : {false, true}) {
    Story story(AgentOptions{.max_queued_messages = 1, .overflow = OverflowPolicy::wait});
    auto queued = story.loop.spawn(story.agent->request(story.make("r1")));
    auto for_room = story.loop.spawn(story.agent->request(story.make("r2")));
    auto lazy = story.agent->request(story.make("r3"));
    story.loop.drain();
    if (by_handle) {
      story.agent.reset();
    } else {
      story.agent->stop();
    }
    story.loop.drain();
    CHECK(queued.value().error() == errc::stopped);
    CHECK(for_room.value().error() == errc::stopped);
    CHECK(story.loop.run(std::move(lazy)).error() == errc::stopped);
  }
}

namespace {

// Keeps its agent itself, as a server's coroutine would.
awaitable<int> ask_for_ever(Agent agent, Message ask) {
  auto asking = agent.request(std::move(ask));
  const auto outcome = co_await std::move(asking);
  co_return outcome ? 1 : 0;
}
awaitable<int> poll_for_ever(Agent agent) {
  auto taking = agent.get_task();
  const auto task = co_await std::move(taking);
  co_return task ? 1 : 0;
}
awaitable<int> send_for_ever(Agent agent, Message sent) {
  auto sending = agent.send_async(std::move(sent));
  const auto done = co_await std::move(sending);
  co_return done ? 1 : 0;
}

}  // namespace

TEST_CASE(
    "request: the loop may be destroyed while it, a poll and a sender wait, with the agent "
    "theirs") {
  auto loop = std::make_unique<Loop>();
  std::vector<Spawned<int>> spawned;
  {
    const Agent agent("node", loop->executor(), {},
                      AgentOptions{.max_queued_messages = 1, .overflow = OverflowPolicy::wait});
    spawned.push_back(loop->spawn(ask_for_ever(agent, Message{.request_id = "r1"})));
    spawned.push_back(loop->spawn(send_for_ever(agent, Message{.request_id = "r2"})));
    spawned.push_back(loop->spawn(ask_for_ever(agent, Message{.request_id = "r3"})));
    const Agent idle("idle", loop->executor());
    spawned.push_back(loop->spawn(poll_for_ever(idle)));
    loop->drain();
    CHECK(agent.counters().queued == 1);
  }
  loop.reset();
  for (const auto& one : spawned) {
    CHECK_FALSE(one.done());
  }
}

// ---- get_task: its end

TEST_CASE("poll: it ends at its time with poll_ended, and has taken nothing") {
  Story story;
  auto polled = story.loop.spawn(story.agent->get_task(story.loop.now() + 50s));
  auto patient = story.loop.spawn(story.agent->get_task());
  story.loop.advance(50s - 1ns);
  CHECK_FALSE(polled.done());
  story.loop.advance(1ns);
  CHECK(polled.value().error() == errc::poll_ended);
  REQUIRE(story.send("r1"));
  story.loop.drain();
  REQUIRE(patient.done());
  CHECK(patient.value()->message()->request_id == "r1");
  patient.value()->delivered();
  auto past = story.loop.spawn(story.agent->get_task(story.loop.now() - 1s));
  story.loop.drain();
  CHECK(past.value().error() == errc::poll_ended);
}

TEST_CASE("poll: its time is over in the turn in which a task comes: the task goes to the next") {
  Story story;
  auto first = story.loop.spawn(story.agent->get_task(story.loop.now() + 1s));
  auto second = story.loop.spawn(story.agent->get_task());
  story.loop.drain();
  ManualClock::advance(1s);
  story.loop.in_one_turn([&] { REQUIRE(story.send("r1")); });
  REQUIRE(first.done());
  REQUIRE(second.done() != first.value().has_value());
  auto& served = first.value().has_value() ? first.value() : second.value();
  CHECK(served->message()->request_id == "r1");
  served->delivered();
}

TEST_CASE("poll: the end of the agent ends it") {
  for (const bool by_handle : {false, true}) {
    Story story;
    auto polled = story.loop.spawn(story.agent->get_task());
    auto lazy = story.agent->get_task();
    story.loop.drain();
    if (by_handle) {
      story.agent.reset();
    } else {
      story.agent->stop();
      CHECK(story.loop.run(story.agent->get_task()).error() == errc::stopped);
      CHECK(story.send("r1").error() == errc::stopped);
    }
    story.loop.drain();
    CHECK(polled.value().error() == errc::stopped);
    CHECK(story.loop.run(std::move(lazy)).error() == errc::stopped);
  }
}
