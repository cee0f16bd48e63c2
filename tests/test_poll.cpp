// poll.hpp: polls with a scope, and how a lease is confirmed or lost.
#include "fedagent/poll.hpp"

#include <doctest/doctest.h>
#include <boost/asio/this_coro.hpp>
#include <memory>
#include <optional>
#include <string>

#include "support/story.hpp"

using namespace test;
using enum NodeActiveStatus;
using boost::asio::error::operation_aborted;
using fedagent::PollPolicy;
using Poll = fedagent::Poll<Transport, Message, fedagent::NoObserver>;

namespace {

// Takes a task with a poll of this session. @return Its request id.
std::string deliver(Story& story, fedagent::SessionId session) {
  Poll poll(*story.agent, session);
  REQUIRE_FALSE(poll.error());
  auto task = story.loop.run(poll.get_task());
  REQUIRE(task.has_value());
  auto id = task->message()->request_id;
  task->delivered();
  return id;
}

}  // namespace

TEST_CASE("poll: it is open as long as the object lives") {
  Story story;
  {
    const Poll first(*story.agent);
    CHECK_FALSE(first.error());
    CHECK(story.agent->open_polls() == 1);
    CHECK(story.agent->has_polled());
    {
      const Poll second(*story.agent);
      CHECK(story.agent->open_polls() == 2);
    }
    CHECK(story.status() == active);
    CHECK(story.agent->open_polls() == 1);
  }
  CHECK(story.status() == waiting);
  story.loop.advance(10s);
  CHECK(story.status() == disconnected);
}

TEST_CASE("poll: a task in hand that nobody has looked at is not charged to a new session") {
  Story story({.max_retries = 0});
  REQUIRE(story.send("r1"));
  Poll first(*story.agent, 1);
  auto unread = story.loop.run(first.get_task());
  REQUIRE(unread.has_value());
  const Poll second(*story.agent, 2);
  CHECK(story.outcomes.count("r1") == 0);
  CHECK(story.counters().queued == 1);
  CHECK(deliver(story, 3) == "r1");
  CHECK(story.reply("r1") == ReplyDisposition::delivered);
}

TEST_CASE("poll: a stale task that is looked at late is no attempt of the lease that followed") {
  Story story({.max_retries = 0});
  REQUIRE(story.send("r1"));
  Poll first(*story.agent, 1);
  auto stale = story.loop.run(first.get_task());
  REQUIRE(stale.has_value());
  Poll second(*story.agent, 2);
  {
    auto unread = story.loop.run(second.get_task());
    REQUIRE(unread.has_value());
    SUBCASE("looked at before it went back") { stale->message(); }
    SUBCASE("not looked at") {}
  }
  CHECK(story.outcomes.count("r1") == 0);
  CHECK(story.counters().queued == 1);
  CHECK(story.counters().redelivered == 0);
}

TEST_CASE("poll: the reply to a task that only its earlier lease has looked at is taken") {
  Story story;
  REQUIRE(story.send("r1"));
  Poll first(*story.agent, 1);
  auto stale = story.loop.run(first.get_task());
  REQUIRE(stale.has_value());
  Poll second(*story.agent, 2);
  stale->message();
  auto again = story.loop.run(second.get_task());
  REQUIRE(again.has_value());
  CHECK(story.reply("r1") == ReplyDisposition::delivered);
}

// ---- C10: which poll is served

TEST_CASE("C10 (H4): by default the newest poll wins, and the older one ends as superseded") {
  Story story;
  Poll zombie(*story.agent, 1);
  auto zombie_waits = story.loop.spawn(zombie.get_task());
  story.loop.drain();
  Poll live(*story.agent, 2);
  auto live_waits = story.loop.spawn(live.get_task());
  story.loop.drain();
  CHECK(zombie_waits.value().error() == errc::superseded);
  REQUIRE(story.send("r1"));
  story.loop.drain();
  CHECK(live_waits.value()->message()->request_id == "r1");
  live_waits.value()->delivered();
  // It may not come again.
  CHECK(story.loop.run(zombie.get_task()).error() == errc::superseded);
}

TEST_CASE("C10 (H4): a poll that is superseded in the turn of its end ends as superseded") {
  Story story;
  Poll zombie(*story.agent, 1);
  auto zombie_waits = story.loop.spawn(zombie.get_task(story.loop.now() + 10s));
  story.loop.drain();
  std::optional<Poll> live;
  boost::asio::post(story.loop.io, [&] { live.emplace(*story.agent, 2); });
  ManualClock::advance(10s);
  story.loop.drain();
  CHECK(zombie_waits.value().error() == errc::superseded);
}

TEST_CASE("C10 (H4): a poll that was woken and then superseded passes the task on to the newest") {
  Story story;
  Poll zombie(*story.agent, 1);
  auto zombie_waits = story.loop.spawn(zombie.get_task());
  story.loop.drain();
  std::optional<Poll> live;
  Spawned<result<Task>> live_waits;
  story.loop.in_one_turn([&] {
    REQUIRE(story.send("r1"));
    live.emplace(*story.agent, 2);
    live_waits = story.loop.spawn(live->get_task());
  });
  CHECK(zombie_waits.value().error() == errc::superseded);
  REQUIRE(live_waits.done());
  CHECK(live_waits.value()->message()->request_id == "r1");
  CHECK(live_waits.value()->retry_count() == 0);
  live_waits.value()->delivered();
}

TEST_CASE("C10: a superseded poll still counts as open until it ends") {
  Story story;
  auto older = std::make_unique<Poll>(*story.agent);
  auto newer = std::make_unique<Poll>(*story.agent);
  newer.reset();
  CHECK(story.status() == active);
  older.reset();
  CHECK(story.status() == waiting);
}

TEST_CASE("C10: oldest_first lets the newer poll wait behind the older") {
  Story story(AgentOptions{.polls = PollPolicy::oldest_first});
  Poll first(*story.agent);
  Poll second(*story.agent);
  auto one = story.loop.spawn(first.get_task());
  auto two = story.loop.spawn(second.get_task());
  story.loop.drain();
  REQUIRE(story.send("r1"));
  story.loop.drain();
  CHECK(one.value()->message()->request_id == "r1");
  CHECK_FALSE(two.done());
  one.value()->delivered();
  REQUIRE(story.send("r2"));
  story.loop.drain();
  CHECK(two.value()->message()->request_id == "r2");
  two.value()->delivered();
}

TEST_CASE("C10: reject refuses the newer poll, which then changes nothing") {
  Story story(AgentOptions{.polls = PollPolicy::reject});
  auto first = std::make_unique<Poll>(*story.agent);
  {
    Poll second(*story.agent);
    CHECK(second.error() == errc::poll_refused);
    CHECK(story.agent->open_polls() == 1);
  }
  CHECK(story.status() == active);
  CHECK(story.agent->open_polls() == 1);
  first.reset();
  CHECK(story.status() == waiting);
  CHECK_FALSE(Poll(*story.agent).error());
}

TEST_CASE("poll: what it did not open it does not serve") {
  Story story(AgentOptions{.polls = PollPolicy::reject});
  const Poll first(*story.agent);
  Poll second(*story.agent);
  REQUIRE(second.error() == errc::poll_refused);
  REQUIRE(story.send("r1"));
  CHECK(story.loop.run(second.get_task()).error() == errc::poll_refused);
  CHECK(story.counters().queued == 1);
}

// ---- poll_timeout

TEST_CASE("poll: it ends at its timeout with poll_ended; the time runs from when it was opened") {
  Story story(AgentOptions{.poll_timeout = 50s, .poll_jitter = 0});
  Poll poll(*story.agent);
  story.loop.advance(20s);
  auto polled = story.loop.spawn(poll.get_task());
  story.loop.advance(30s - 1ns);
  CHECK_FALSE(polled.done());
  story.loop.advance(1ns);
  CHECK(polled.value().error() == errc::poll_ended);
  CHECK(story.status() == active);
}

TEST_CASE("poll: a wait may end before its poll does, which stays open and may wait again") {
  Story story(AgentOptions{.poll_timeout = 50s, .poll_jitter = 0});
  Poll poll(*story.agent);
  auto polled = story.loop.spawn(poll.get_task(story.loop.now() + 20s));
  story.loop.advance(20s - 1ns);
  CHECK_FALSE(polled.done());
  story.loop.advance(1ns);
  CHECK(polled.value().error() == errc::poll_ended);
  CHECK(story.agent->open_polls() == 1);
  CHECK(story.status() == active);

  polled = story.loop.spawn(poll.get_task(story.loop.now() + 20s));
  REQUIRE(story.send("a"));
  story.loop.drain();
  CHECK(polled.value()->message()->request_id == "a");
}

TEST_CASE("poll: no wait goes beyond the end of its poll, however late its own is") {
  Story story(AgentOptions{.poll_timeout = 50s, .poll_jitter = 0});
  Poll poll(*story.agent);
  story.loop.advance(20s);
  auto polled = story.loop.spawn(poll.get_task(story.loop.now() + 31s));
  story.loop.advance(30s - 1ns);
  CHECK_FALSE(polled.done());
  story.loop.advance(1ns);
  CHECK(polled.value().error() == errc::poll_ended);
}

TEST_CASE("poll: a wait whose end is over takes what is there, and does not wait") {
  Story story;
  Poll poll(*story.agent);
  REQUIRE(story.send("a"));
  const auto over = story.loop.now() - 1s;
  CHECK(story.loop.run(poll.get_task(over))->message()->request_id == "a");
  REQUIRE(story.send("b"));
  CHECK(story.deliver() == "a");
  CHECK(story.deliver() == "b");
  CHECK(story.loop.run(poll.get_task(over)).error() == errc::poll_ended);
}

TEST_CASE("poll: jitter makes it end earlier by at most its part; zero is no timeout") {
  Story story(AgentOptions{.poll_timeout = 50s, .poll_jitter = 0.1});
  bool differ = false;
  std::optional<ManualClock::duration> first;
  for (int i = 0; i < 20; ++i) {
    Poll poll(*story.agent);
    const auto start = story.loop.now();
    auto polled = story.loop.spawn(poll.get_task());
    story.loop.advance(45s - 1ns);
    CHECK_FALSE(polled.done());
    while (!polled.done() && story.loop.now() < start + 51s) {
      story.loop.advance(50ms);
    }
    const auto took = story.loop.now() - start;
    CHECK(took <= 50s + 50ms);
    differ = differ || (first && *first != took);
    first = took;
  }
  CHECK(differ);

  Story patient(AgentOptions{.poll_timeout = 0s});
  Poll poll(*patient.agent);
  auto polled = patient.loop.spawn(poll.get_task());
  patient.loop.advance(366 * 24h);
  CHECK_FALSE(polled.done());
  patient.agent->stop();
  patient.loop.drain();
  CHECK(polled.value().error() == errc::stopped);
}

// ---- leases (E12, H5)

TEST_CASE("lease (E12): the next poll of the same session confirms what was delivered") {
  Story story;
  REQUIRE(story.send("r1"));
  CHECK(deliver(story, 1) == "r1");
  CHECK(story.counters().confirmed == 0);
  CHECK(story.counters().leased == 1);
  {
    const Poll next(*story.agent, 1);
    CHECK(story.counters().confirmed == 1);
    CHECK(story.counters().leased == 0);
  }
  CHECK(story.counters().open_requests == 1);
  CHECK(story.reply("r1") == ReplyDisposition::delivered);
}

TEST_CASE("lease (E12): a poll of another session tells that it was lost: it comes again, first") {
  Story story;
  REQUIRE(story.send("r1"));
  REQUIRE(story.send("r2"));
  CHECK(deliver(story, 1) == "r1");
  Poll restarted(*story.agent, 2);
  CHECK(story.counters().redelivered == 1);
  {
    auto task = story.loop.run(restarted.get_task());
    CHECK(task->message()->request_id == "r1");
    CHECK(task->retry_count() == 1);
    task->delivered();
  }
  CHECK(deliver(story, 2) == "r2");
  CHECK(story.counters().confirmed == 1);
}

TEST_CASE("lease: a session that is not known confirms, whoever took it") {
  for (const auto taken_by : {0, 7}) {
    for (const auto polled_by : {0, 7}) {
      Story story;
      REQUIRE(story.send("r1"));
      CHECK(deliver(story, static_cast<fedagent::SessionId>(taken_by)) == "r1");
      const Poll next(*story.agent, static_cast<fedagent::SessionId>(polled_by));
      CHECK(story.counters().confirmed == 1);
    }
  }
}

TEST_CASE("lease: at the disconnection what was delivered and not confirmed comes back, in order") {
  Story story;
  for (const auto* id : {"r1", "r2", "r3"}) {
    REQUIRE(story.send(id));
  }
  CHECK(deliver(story, 1) == "r1");
  { const Poll same(*story.agent, 1); }
  {
    // Two in one poll: none of them is confirmed.
    Poll poll(*story.agent, 1);
    story.loop.run(poll.get_task())->delivered();
    story.loop.run(poll.get_task())->delivered();
  }
  CHECK(story.counters().leased == 2);
  story.loop.advance(10s);
  CHECK(story.status() == disconnected);
  CHECK(story.counters().leased == 0);
  CHECK(story.counters().queued == 2);
  CHECK(story.counters().redelivered == 2);
  CHECK(deliver(story, 1) == "r2");
  CHECK(deliver(story, 1) == "r3");
}

TEST_CASE("lease (H4): what a frozen poll holds in its hands goes to the poll of a new session") {
  Story story;
  REQUIRE(story.send("r1"));
  Poll frozen(*story.agent, 1);
  auto held = story.loop.run(frozen.get_task());
  held->message();
  Poll live(*story.agent, 2);
  {
    auto task = story.loop.run(live.get_task());
    CHECK(task->message()->request_id == "r1");
    CHECK(task->retry_count() == 1);
    // The frozen one wakes up: what it says is about a lease that is no more.
    SUBCASE("and thinks that it has delivered") {
      held->delivered();
      CHECK(story.agent->task_done());  // the task is still in the hand of the live one
    }
    SUBCASE("and thinks that it has failed") {
      held = result<Task>(Task());
      CHECK(story.counters().queued == 0);
    }
    SUBCASE("and thinks that it could not encode it") {
      held->not_encodable();
      CHECK(story.counters().open_requests == 1);
    }
    CHECK(story.counters().leased == 1);
    task->delivered();
  }
  CHECK(story.reply("r1") == ReplyDisposition::delivered);
}

TEST_CASE("lease: what is in hand stays there when the same session, or an unknown one, polls") {
  for (const auto session : {1, 0}) {
    Story story;
    REQUIRE(story.send("r1"));
    Poll first(*story.agent, 1);
    auto held = story.loop.run(first.get_task());
    held->message();
    const Poll second(*story.agent, static_cast<fedagent::SessionId>(session));
    CHECK(story.counters().leased == 1);
    CHECK(story.counters().redelivered == 0);
    held->delivered();
    // Its own next poll is here already.
    CHECK(story.counters().confirmed == (session == 1 ? 1 : 0));
  }
}

TEST_CASE(
    "lease: without newest_wins the poll of another session does not take from a poll's hands") {
  Story story(AgentOptions{.polls = PollPolicy::oldest_first});
  REQUIRE(story.send("r1"));
  Poll first(*story.agent, 1);
  auto held = story.loop.run(first.get_task());
  held->message();
  const Poll second(*story.agent, 2);
  CHECK(story.counters().leased == 1);
  CHECK(story.counters().queued == 0);
  held->delivered();
}

TEST_CASE("lease: a message without an id ends when its delivery is confirmed, and is let go of") {
  Story story;
  REQUIRE(story.agent->try_send(story.make("", "fire and forget")));
  CHECK(deliver(story, 1).empty());
  CHECK(story.alive() == 1);
  const Poll next(*story.agent, 1);
  CHECK(story.counters().confirmed == 1);
  CHECK(story.alive() == 0);
}

TEST_CASE("lease: a delivery that is reported after its poll has ended counts") {
  Story story;
  REQUIRE(story.send("r1"));
  std::optional<result<Task>> task;
  {
    Poll poll(*story.agent, 1);
    task = story.loop.run(poll.get_task());
  }
  (*task)->message();
  (*task)->delivered();
  task.reset();
  CHECK(story.counters().leased == 1);
  CHECK(story.reply("r1") == ReplyDisposition::delivered);
}

TEST_CASE(
    "poll: cancelled while it waits it has taken nothing, and the node is WAITING when it ends") {
  Story story;
  auto poll = std::make_unique<Poll>(*story.agent);
  auto polled = story.loop.spawn(poll->get_task());
  story.loop.drain();
  story.loop.in_one_turn([&] {
    REQUIRE(story.send("r1"));
    polled.cancel();
  });
  CHECK(polled.value().error() == operation_aborted);
  poll.reset();
  CHECK(story.status() == waiting);
  CHECK(story.counters().queued == 1);
}

TEST_CASE("poll: it may outlive its agent, and opens not at one that has ended") {
  Story story;
  Poll poll(*story.agent);
  auto polled = story.loop.spawn(poll.get_task());
  story.loop.drain();
  SUBCASE("the agent has gone") {
    story.agent.reset();
    story.loop.drain();
    CHECK(polled.value().error() == errc::stopped);
    CHECK(story.loop.run(poll.get_task()).error() == errc::stopped);
  }
  SUBCASE("the agent has been stopped") {
    story.agent->stop();
    story.loop.drain();
    CHECK(polled.value().error() == errc::stopped);
    Poll late(*story.agent);
    CHECK(late.error() == errc::stopped);
    CHECK(story.loop.run(late.get_task()).error() == errc::stopped);
  }
}

TEST_CASE("poll: the policy is for one agent; what another does with the same session is its own") {
  Loop loop;
  Store store(loop.executor());
  const auto a = store.retrieve("a").value();
  const auto b = store.retrieve("b").value();
  Poll first(a, 1);
  Poll second(b, 1);
  auto one = loop.spawn(first.get_task());
  loop.drain();
  CHECK_FALSE(one.done());
  CHECK(a.open_polls() == 1);
  CHECK(b.open_polls() == 1);
}

namespace {

// Says with which error a poll has ended; nothing of its wait is left then.
awaitable<boost::system::error_code> end_of(Poll* poll) {
  const auto got = co_await poll->get_task();
  // Else the end of a cancelled coroutine throws.
  co_await boost::asio::this_coro::reset_cancellation_state();
  co_return got ? boost::system::error_code() : got.error();
}

}  // namespace

TEST_CASE(
    "poll: a handler that runs while it looks may cancel it, and nothing of it stays in line") {
  Story story(AgentOptions{.max_age = 10s});
  Poll poll(*story.agent, 1);
  Spawned<boost::system::error_code> ended;
  REQUIRE(
      story.agent->try_send(story.make("r1"), [&](const Agent::outcome_type&) { ended.cancel(); }));
  ManualClock::advance(10s);  // and the timer is late
  ended = story.loop.spawn(end_of(&poll));
  story.loop.drain();
  CHECK(ended.value() == operation_aborted);
  // It is superseded where it is open, and not where it waited.
  Poll other(*story.agent, 2);
  auto waits = story.loop.spawn(other.get_task());
  REQUIRE(story.send("r2"));
  story.loop.drain();
  CHECK(waits.value()->message()->request_id == "r2");
  waits.value()->delivered();
  CHECK(story.loop.run(poll.get_task()).error() == errc::superseded);
}

TEST_CASE("poll: a poll that has lost its loop may be superseded at its agent") {
  auto loop = std::make_unique<Loop>();
  const Agent agent("node", loop->executor());
  Poll poll(agent, 1);
  auto waits = loop->spawn(poll.get_task());
  loop->drain();
  loop.reset();
  const Poll newer(agent, 2);
  CHECK_FALSE(newer.error());
  CHECK(agent.open_polls() == 2);
  agent.stop();
}

TEST_CASE("C10: a newer poll supersedes polls; a get_task without one goes on waiting") {
  Story story;
  Poll older(*story.agent, 1);
  auto of_poll = story.loop.spawn(older.get_task());
  auto alone = story.loop.spawn(story.agent->get_task());
  story.loop.drain();
  const Poll newer(*story.agent, 2);
  story.loop.drain();
  CHECK(of_poll.value().error() == errc::superseded);
  CHECK_FALSE(alone.done());
  REQUIRE(story.send("r1"));
  story.loop.drain();
  CHECK(alone.value()->message()->request_id == "r1");
  alone.value()->delivered();
}
