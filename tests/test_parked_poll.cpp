// parked_poll.hpp: a poll that waits without a coroutine.
#include "fedagent/parked_poll.hpp"

#include <doctest/doctest.h>
#include <boost/asio/post.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "support/story.hpp"

using namespace test;
using enum NodeActiveStatus;
using boost::asio::error::operation_aborted;
using fedagent::PollPolicy;
using Poll = fedagent::Poll<Transport, Message, fedagent::NoObserver>;

namespace {

/// Counts its calls of `on_ready`, and looks when the test says so.
class Parked final : public fedagent::ParkedPoll<Transport, Message, fedagent::NoObserver> {
 public:
  /// What it has got: the request id of a task, or why there is none. Empty: it waits.
  std::string look() {
    auto got = this->try_get_task();
    if (!got) {
      return {};
    }
    if (!*got) {
      return got->error().message();
    }
    auto id = (*got)->message()->request_id;
    (*got)->delivered();
    return id;
  }

  int ready = 0;

 private:
  void on_ready() noexcept override { ++ready; }
};

/// Posts its look, as a transport does, and writes down what it got.
class Served final : public fedagent::ParkedPoll<Transport, Message, fedagent::NoObserver> {
 public:
  Served(Loop& loop, std::string name, std::vector<std::string>& log)
      : loop_(&loop), name_(std::move(name)), log_(&log) {}

  void look() {
    auto got = this->try_get_task();
    if (got && *got) {
      log_->push_back(name_ + " " + (*got)->message()->request_id);
      (*got)->delivered();
    }
  }

 private:
  void on_ready() noexcept override {
    boost::asio::post(loop_->io, [this] { look(); });
  }

  Loop* loop_;
  std::string name_;
  std::vector<std::string>* log_;
};

std::string says(boost::system::error_code error) { return error.message(); }

awaitable<int> write_down(awaitable<result<Task>> getting, std::string name,
                          std::vector<std::string>& log) {
  auto got = co_await std::move(getting);
  if (got) {
    log.push_back(name + " " + got->message()->request_id);
    got->delivered();
  }
  co_return 0;
}

}  // namespace

TEST_CASE("parked poll: the node is ACTIVE from open to close, and WAITING afterwards") {
  Story story;
  {
    Parked first;
    CHECK_FALSE(first.is_open());
    first.close();
    CHECK_FALSE(story.agent->has_polled());
    REQUIRE_FALSE(first.open(*story.agent));
    CHECK(first.is_open());
    CHECK(story.agent->open_polls() == 1);
    {
      Parked second;
      REQUIRE_FALSE(second.open(*story.agent));
      CHECK(story.agent->open_polls() == 2);
    }
    CHECK(story.agent->open_polls() == 1);
    CHECK(story.status() == active);
    first.close();
    CHECK_FALSE(first.is_open());
    CHECK(story.status() == waiting);
    first.close();
    CHECK(story.agent->open_polls() == 0);
  }
  story.loop.advance(10s);
  CHECK(story.status() == disconnected);
}

TEST_CASE("parked poll: a task that is there is handed over at once, without a call") {
  Story story;
  REQUIRE(story.send("r1"));
  REQUIRE(story.send("r2"));
  Parked poll;
  REQUIRE_FALSE(poll.open(*story.agent));
  CHECK(poll.look() == "r1");
  CHECK(poll.look() == "r2");
  CHECK(poll.ready == 0);
  CHECK(story.counters().leased == 2);
}

TEST_CASE("parked poll: on_ready is called once for what has come until it looks") {
  Story story;
  Parked poll;
  REQUIRE_FALSE(poll.open(*story.agent));
  REQUIRE(story.send("r1"));
  CHECK(poll.ready == 0);  // it does not wait yet
  CHECK(poll.look() == "r1");
  CHECK(poll.look().empty());
  CHECK(poll.look().empty());
  CHECK(poll.ready == 0);
  REQUIRE(story.send("r2"));
  CHECK(poll.ready == 1);
  REQUIRE(story.send("r3"));
  CHECK(poll.ready == 1);
  CHECK(poll.look() == "r2");
  CHECK(poll.look() == "r3");
  CHECK(poll.look().empty());
  REQUIRE(story.send("r4"));
  CHECK(poll.ready == 2);
  CHECK(poll.look() == "r4");
}

TEST_CASE("parked poll: called for a task that is gone when it looks, it waits on in its place") {
  Story story;
  Parked poll;
  REQUIRE_FALSE(poll.open(*story.agent));
  CHECK(poll.look().empty());
  REQUIRE(story.send("r1"));
  CHECK(poll.ready == 1);
  story.flush("r1");
  CHECK(poll.look().empty());
  REQUIRE(story.send("r2"));
  CHECK(poll.ready == 2);
  CHECK(poll.look() == "r2");
}

TEST_CASE("parked poll: what is refused is not open, and changes nothing") {
  Story story(AgentOptions{.polls = PollPolicy::reject});
  Parked first;
  REQUIRE_FALSE(first.open(*story.agent));
  CHECK(first.look().empty());
  Parked second;
  CHECK(second.open(*story.agent) == errc::poll_refused);
  CHECK_FALSE(second.is_open());
  CHECK(story.agent->open_polls() == 1);
  second.close();
  CHECK(story.agent->open_polls() == 1);
  REQUIRE(story.send("r1"));
  CHECK(first.ready == 1);
  CHECK(first.look() == "r1");
  first.close();
  REQUIRE_FALSE(second.open(*story.agent));
  CHECK(second.is_open());
}

TEST_CASE("parked poll: C10 (H4) a newer poll supersedes it, whatever that waits with") {
  Story story;
  Parked older;
  REQUIRE_FALSE(older.open(*story.agent, 1));
  CHECK(older.look().empty());
  std::optional<Poll> coroutine;
  Parked parked;
  SUBCASE("a parked one") { REQUIRE_FALSE(parked.open(*story.agent, 2)); }
  SUBCASE("one with a coroutine") { coroutine.emplace(*story.agent, 2); }
  CHECK(older.ready == 1);
  CHECK(older.look() == says(errc::superseded));
  CHECK(older.look() == says(errc::superseded));
  CHECK(story.agent->open_polls() == 2);
  older.close();
  CHECK(story.agent->open_polls() == 1);
  CHECK(older.ready == 1);
}

TEST_CASE("parked poll: C10 (H4) superseded before it waits, it learns that when it looks") {
  Story story;
  Parked older;
  REQUIRE_FALSE(older.open(*story.agent, 1));
  Parked newer;
  REQUIRE_FALSE(newer.open(*story.agent, 2));
  REQUIRE(story.send("r1"));
  CHECK(older.ready == 0);
  CHECK(older.look() == says(errc::superseded));
  CHECK(newer.look() == "r1");
}

TEST_CASE("parked poll: C10 (H4) superseded when it was called for a task, it passes that on") {
  Story story;
  Parked older;
  REQUIRE_FALSE(older.open(*story.agent, 1));
  CHECK(older.look().empty());
  REQUIRE(story.send("r1"));
  CHECK(older.ready == 1);
  Parked newer;
  REQUIRE_FALSE(newer.open(*story.agent, 2));
  CHECK(newer.look().empty());  // nobody overtakes
  SUBCASE("when it looks") { CHECK(older.look() == says(errc::superseded)); }
  SUBCASE("when it is closed") { older.close(); }
  CHECK(older.ready == 1);
  CHECK(newer.ready == 1);
  CHECK(newer.look() == "r1");
  CHECK(story.counters().redelivered == 0);
}

TEST_CASE("parked poll: C10 it waits in one line with polls and with get_task, first come first") {
  Story story(AgentOptions{.polls = PollPolicy::oldest_first});
  std::vector<std::string> log;
  Served a(story.loop, "a", log);
  Served b(story.loop, "b", log);
  Poll poll(*story.agent, 3);
  REQUIRE_FALSE(a.open(*story.agent, 1));
  REQUIRE_FALSE(b.open(*story.agent, 2));
  a.look();
  auto one = story.loop.spawn(write_down(story.agent->get_task(), "get_task", log));
  story.loop.drain();
  b.look();
  auto two = story.loop.spawn(write_down(poll.get_task(), "poll", log));
  story.loop.drain();
  SUBCASE("one task at a time") {
    for (const auto* id : {"r1", "r2", "r3", "r4"}) {
      REQUIRE(story.send(id));
      story.loop.drain();
    }
  }
  SUBCASE("all at once") {
    for (const auto* id : {"r1", "r2", "r3", "r4"}) {
      REQUIRE(story.send(id));
    }
    story.loop.drain();
  }
  CHECK(log == std::vector<std::string>{"a r1", "get_task r2", "b r3", "poll r4"});
}

TEST_CASE("parked poll: at its deadline it ends with poll_ended; the time runs from open") {
  Story story(AgentOptions{.poll_timeout = 10s, .poll_jitter = 0});
  Parked poll;
  REQUIRE_FALSE(poll.open(*story.agent));
  story.loop.advance(4s);
  CHECK(poll.look().empty());
  story.loop.advance(6s - 1ns);
  CHECK(poll.ready == 0);
  CHECK(poll.look().empty());
  story.loop.advance(1ns);
  CHECK(poll.ready == 1);
  SUBCASE("nothing has come") { CHECK(poll.look() == says(errc::poll_ended)); }
  SUBCASE("a task has come since: it stays for the next poll") {
    REQUIRE(story.send("r1"));
    CHECK(poll.look() == says(errc::poll_ended));
    CHECK(story.counters().queued == 1);
  }
  story.loop.advance(1h);
  CHECK(poll.ready == 1);
}

TEST_CASE("parked poll: after its task, or closed, it has no deadline any more") {
  Story story(AgentOptions{.poll_timeout = 10s, .poll_jitter = 0});
  Parked poll;
  REQUIRE_FALSE(poll.open(*story.agent));
  CHECK(poll.look().empty());
  int called = 0;
  SUBCASE("after its task") {
    REQUIRE(story.send("r1"));
    CHECK(poll.look() == "r1");
    called = 1;
  }
  SUBCASE("closed") { poll.close(); }
  story.loop.advance(1h);
  CHECK(poll.ready == called);
}

TEST_CASE("parked poll: it learns why its agent ends, also when that is gone by then") {
  Loop loop;
  Store store(loop.executor());
  std::optional<Store::agent_type> handle = *store.retrieve("node");
  Parked poll;
  REQUIRE_FALSE(poll.open(*handle));
  CHECK(poll.look().empty());
  auto why = errc::removed;
  SUBCASE("removed; there is a handle yet") { store.erase("node"); }
  SUBCASE("removed; it has gone with its last handle") {
    handle.reset();
    store.erase("node");
  }
  SUBCASE("stopped; there is a handle yet") {
    store.stop();
    why = errc::stopped;
  }
  SUBCASE("stopped; it has gone with its last handle") {
    handle.reset();
    store.stop();
    why = errc::stopped;
  }
  CHECK(poll.ready == 1);
  CHECK(poll.look() == says(why));
  CHECK(poll.ready == 1);
  poll.close();
  CHECK_FALSE(poll.is_open());
}

TEST_CASE("parked poll: at an agent that has ended it does not open, and says why") {
  Loop loop;
  Store store(loop.executor());
  const auto removed = *store.retrieve("removed");
  const auto stopped = *store.retrieve("stopped");
  store.erase("removed");
  store.stop();
  Parked poll;
  CHECK(poll.open(removed) == errc::removed);
  CHECK(poll.open(stopped) == errc::stopped);
  CHECK_FALSE(poll.is_open());
}

TEST_CASE("parked poll: closed when it was called for a task, it passes that on to the next one") {
  Story story(AgentOptions{.polls = PollPolicy::oldest_first});
  std::optional<Parked> first(std::in_place);
  Parked second;
  REQUIRE_FALSE(first->open(*story.agent));
  REQUIRE_FALSE(second.open(*story.agent));
  CHECK(first->look().empty());
  CHECK(second.look().empty());
  REQUIRE(story.send("r1"));
  CHECK(first->ready == 1);
  CHECK(second.ready == 0);
  SUBCASE("closed") { first->close(); }
  SUBCASE("destroyed") { first.reset(); }
  CHECK(second.ready == 1);
  CHECK(second.look() == "r1");
}

TEST_CASE("parked poll: it may be destroyed in line, after its agent, its store and the loop") {
  auto loop = std::make_unique<Loop>();
  std::optional<Store> store(std::in_place, loop->executor());
  std::optional<Parked> poll(std::in_place);
  std::optional<Parked> other(std::in_place);
  REQUIRE_FALSE(poll->open(*store->retrieve("node"), 1));
  REQUIRE_FALSE(other->open(*store->retrieve("other"), 1));
  CHECK(poll->look().empty());
  CHECK(other->look().empty());
  poll.reset();
  CHECK(store->get("node")->open_polls() == 0);
  store.reset();
  CHECK(other->ready == 1);
  loop->drain();
  loop.reset();
  CHECK(other->look() == says(errc::stopped));
  other.reset();
}

TEST_CASE("parked poll: opened again, nothing is left of what it was before") {
  Story story(AgentOptions{.poll_timeout = 10s, .poll_jitter = 0});
  Parked poll;
  REQUIRE_FALSE(poll.open(*story.agent, 1));
  CHECK(poll.look().empty());
  int before = 0;
  SUBCASE("after its deadline") {
    story.loop.advance(10s);
    CHECK(poll.look() == says(errc::poll_ended));
    before = 1;
  }
  SUBCASE("superseded, and never looked") {
    Parked newer;
    REQUIRE_FALSE(newer.open(*story.agent, 2));
    before = 1;
  }
  SUBCASE("called for a task that it never took") {
    REQUIRE(story.send("r0"));
    story.flush("r0");
    before = 1;
  }
  SUBCASE("while it waited") { story.loop.advance(5s); }
  poll.close();
  CHECK(poll.ready == before);
  REQUIRE_FALSE(poll.open(*story.agent, 3));
  CHECK(poll.look().empty());
  // The deadline is the new one.
  story.loop.advance(10s - 1ns);
  CHECK(poll.ready == before);
  REQUIRE(story.send("r1"));
  CHECK(poll.ready == before + 1);
  CHECK(poll.look() == "r1");
  CHECK(poll.look().empty());
  story.loop.advance(1ns);
  CHECK(poll.ready == before + 2);
  CHECK(poll.look() == says(errc::poll_ended));
}

TEST_CASE("parked poll: opened at another agent, it is that one's") {
  Loop loop;
  Store store(loop.executor());
  Parked poll;
  REQUIRE_FALSE(poll.open(*store.retrieve("a")));
  CHECK(poll.look().empty());
  poll.close();
  REQUIRE_FALSE(poll.open(*store.retrieve("b")));
  CHECK(poll.look().empty());
  REQUIRE(store.try_send("a", message("r1")));
  CHECK(poll.ready == 0);
  REQUIRE(store.try_send("b", message("r2")));
  CHECK(poll.ready == 1);
  CHECK(poll.look() == "r2");
  CHECK(store.get("a")->open_polls() == 0);
  CHECK(store.get("b")->open_polls() == 1);
}

TEST_CASE("parked poll: the session is that of its open, and confirms as that of a poll does") {
  Story story;
  Parked poll;
  REQUIRE(story.send("r1"));
  REQUIRE_FALSE(poll.open(*story.agent, 1));
  CHECK(poll.look() == "r1");
  poll.close();
  SUBCASE("the same one") {
    REQUIRE_FALSE(poll.open(*story.agent, 1));
    CHECK(story.counters().confirmed == 1);
    CHECK(poll.look().empty());
  }
  SUBCASE("another one") {
    REQUIRE_FALSE(poll.open(*story.agent, 2));
    CHECK(story.counters().redelivered == 1);
    CHECK(poll.look() == "r1");
  }
}

TEST_CASE("parked poll: a handler that runs while it looks may close it, and the task goes on") {
  Story story(AgentOptions{.max_age = 10s, .polls = PollPolicy::oldest_first});
  Parked first;
  Parked second;
  REQUIRE_FALSE(first.open(*story.agent));
  REQUIRE_FALSE(second.open(*story.agent));
  CHECK(first.look().empty());
  CHECK(second.look().empty());
  const auto close = [&](const fedagent::Outcome<Message>& outcome) {
    CHECK(outcome.error() == errc::expired);
    first.close();
  };
  REQUIRE(story.agent->try_send(story.make("r1"), close));
  CHECK(first.ready == 1);
  ManualClock::advance(10s);  // and the timer is late
  SUBCASE("no other task is there") {
    CHECK(first.look() == says(operation_aborted));
    REQUIRE(story.send("r2"));
  }
  SUBCASE("another task is there") {
    REQUIRE(story.send("r2"));
    CHECK(first.look() == says(operation_aborted));
  }
  CHECK_FALSE(first.is_open());
  CHECK(story.counters().leased == 0);
  CHECK(second.ready == 1);
  CHECK(second.look() == "r2");
}

TEST_CASE("parked poll: a handler that runs while it opens may close it, and it is not open") {
  Story story(AgentOptions{.max_retries = 0});
  Parked poll;
  const auto close = [&](const fedagent::Outcome<Message>& outcome) {
    CHECK(outcome.error() == errc::retries_exhausted);
    poll.close();
  };
  REQUIRE(story.agent->try_send(story.make("r1"), close));
  Parked former;
  REQUIRE_FALSE(former.open(*story.agent, 1));
  CHECK(former.look() == "r1");
  former.close();
  CHECK(poll.open(*story.agent, 2) == operation_aborted);
  CHECK_FALSE(poll.is_open());
  CHECK(story.agent->open_polls() == 0);
  CHECK(story.status() == waiting);
  REQUIRE_FALSE(poll.open(*story.agent, 2));
  CHECK(story.agent->open_polls() == 1);
  CHECK(poll.look().empty());
}
