// One story whose n-th operation of the transport fails, for n = 1, 2, … until none is left to
// fail.

#include <doctest/doctest.h>

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>
#include <deque>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "fedagent/service.hpp"
#include "support/calls.hpp"

namespace {

using namespace test;
using fedagent::serve_reply;
using fedagent::serve_task_call;

enum class Failure { error, exception, cancellation };

/// Counts the operations of the transport and lets one of them fail.
struct Faults {
  Failure failure;
  std::size_t fails_at;
  std::size_t operations = 0;

  /// @return Whether this operation is the one.
  bool next() { return ++operations == fails_at; }
  bool reached() const { return operations >= fails_at; }
};

/// The transport, whose decode may fail.
struct FaultyTransport : Transport {
  static inline Faults* faults = nullptr;

  static result<Message> decode(Message wire) {
    // It does not throw and cannot be cancelled.
    if (faults != nullptr && faults->next()) {
      return make_error_code(boost::asio::error::connection_reset);
    }
    return wire;
  }
};

using FaultyStore = fedagent::AgentStore<FaultyTransport>;

/// Both ends of a node's calls. It remembers what it has got.
class FaultyNode {
 public:
  FaultyNode(FaultyStore& store, Faults& faults, std::string id)
      : store_(&store), faults_(&faults), id_(std::move(id)) {}

  std::string_view node_id() const noexcept { return id_; }
  fedagent::SessionId session() const noexcept { return session_; }

  /// Three points to fail at: before the bytes are written, in between, and after.
  awaitable<result<void>> deliver(MessagePtr message) {
    for (int part = 0; part < 3; ++part) {
      if (faults_->next()) {
        if (faults_->failure == Failure::exception) {
          throw std::runtime_error("the call broke");
        }
        if (faults_->failure == Failure::error) {
          co_return make_error_code(boost::asio::error::connection_reset);
        }
        const auto executor = co_await boost::asio::this_coro::executor;
        co_await boost::asio::post(executor, boost::asio::deferred);
        signal_.emit(boost::asio::cancellation_type::terminal);
        co_await boost::asio::post(executor, boost::asio::deferred);  // throws
        co_return make_error_code(operation_aborted);
      }
      if (part == 1) {
        received_ = message;
      }
      const auto executor = co_await boost::asio::this_coro::executor;
      co_await boost::asio::post(executor, boost::asio::deferred);
    }
    co_return result<void>();
  }

  /// One poll, and the reply to what it got. Every operation may fail.
  void work(Loop& loop) {
    if (faults_->next()) {
      if (faults_->failure == Failure::cancellation) {
        poll(loop, true);
      }
      return;  // the call did not even open
    }
    poll(loop, false);
    while (!replies_.empty()) {
      if (faults_->next()) {
        return;  // the reply did not arrive
      }
      if (!loop.run(serve_reply(*store_, id_, replies_.front()))) {
        return;  // the node was told that it failed, and will try again
      }
      replies_.pop_front();
    }
  }

  const std::vector<std::string>& seen() const { return seen_; }

 private:
  void poll(Loop& loop, bool cancel_while_waiting) {
    received_.reset();
    bool failed = true;
    bool done = false;
    boost::asio::co_spawn(loop.io, serve_task_call(*store_, *this),
                          boost::asio::bind_cancellation_slot(
                              signal_.slot(), [&](std::exception_ptr error, result<void> served) {
                                done = true;
                                failed = error != nullptr || !served;
                              }));
    loop.drain();
    if (!done && cancel_while_waiting) {
      signal_.emit(boost::asio::cancellation_type::terminal);
    } else if (!done) {
      loop.advance(60s);  // nothing to do
    }
    loop.drain();
    REQUIRE(done);
    if (failed) {
      ++session_;  // the node connects again
    }
    if (received_) {
      seen_.push_back(received_->body);
      if (!received_->request_id.empty()) {
        replies_.push_back({.request_id = received_->request_id, .body = "done"});
      }
    }
  }

  FaultyStore* store_;
  Faults* faults_;
  std::string id_;
  fedagent::SessionId session_ = 1;
  MessagePtr received_{};
  std::deque<Message> replies_{};
  std::vector<std::string> seen_{};
  boost::asio::cancellation_signal signal_{};
};

/// @return Whether the operation that was to fail was reached.
bool story(Failure failure, std::size_t fails_at) {
  Loop loop;
  FaultyStore store(loop.executor());
  Faults faults{failure, fails_at};
  FaultyTransport::faults = &faults;
  FaultyNode node(store, faults, "n");
  const auto agent = store.retrieve("n").value();

  std::vector<Ending> endings;
  const auto send = [&](const std::string& id, const std::string& body) {
    if (id.empty()) {
      REQUIRE(agent.try_send(message(id, body)));
    } else {
      auto& ending = endings.emplace_back();
      REQUIRE(agent.try_send(message(id, body), ending.handler()));
    }
  };
  send("1", "one");
  send("", "note");
  send("2", "two");
  for (int turn = 0; turn < 8; ++turn) {
    if (turn == 1) {
      send("3", "three");
    }
    node.work(loop);
    CHECK(agent.counters().balanced());
  }

  // Each request has its reply, whatever failed: nothing is lost.
  for (const auto& ending : endings) {
    CHECK(ending.is_reply());
  }
  const std::set<std::string> kinds(node.seen().begin(), node.seen().end());
  CHECK(kinds == std::set<std::string>{"one", "two", "three", "note"});
  // One failure, at most one task more than once.
  CHECK(node.seen().size() <= 5);
  // The first time of each is in the order of the sends.
  std::vector<std::string> first;
  for (const auto& body : node.seen()) {
    if (std::find(first.begin(), first.end(), body) == first.end()) {
      first.push_back(body);
    }
  }
  CHECK(first == std::vector<std::string>{"one", "note", "two", "three"});

  const auto counters = agent.counters();
  CHECK(counters.accepted == 4);
  CHECK(counters.confirmed == 4);
  CHECK(counters.replied == 3);
  CHECK(counters.redelivered <= 1);
  CHECK(counters.queued == 0);
  CHECK(counters.leased == 0);
  CHECK(counters.open_requests == 0);
  FaultyTransport::faults = nullptr;
  return faults.reached();
}

void fail_anywhere(Failure failure) {
  std::size_t n = 1;
  while (true) {
    CAPTURE(n);
    if (!story(failure, n)) {
      break;
    }
    ++n;
  }
  CHECK(n > 20);  // the story has that many operations
}

TEST_CASE("fail anywhere: the n-th operation ends with an error, and nothing is lost") {
  fail_anywhere(Failure::error);
}
TEST_CASE("fail anywhere: the n-th operation throws, and nothing is lost") {
  fail_anywhere(Failure::exception);
}
TEST_CASE("fail anywhere: the n-th operation is cancelled, and nothing is lost") {
  fail_anywhere(Failure::cancellation);
}

TEST_CASE("fail anywhere: when every delivery fails, each message ends after its attempts") {
  for (const auto failure : {Delivery::fails, Delivery::throws}) {
    Loop loop;
    Store store(loop.executor());
    const auto agent = store.retrieve("n").value();
    Ending one;
    Ending two;
    REQUIRE(agent.try_send(message("1"), one.handler()));
    REQUIRE(agent.try_send(message("2"), two.handler()));
    for (int attempt = 0; attempt < 12; ++attempt) {
      Call call("n", 1, failure);
      auto served = loop.spawn(serve_task_call(store, call));
      loop.drain();
      CHECK(call.received.size() == 1);
    }
    CHECK(one.is(errc::retries_exhausted));
    CHECK(two.is(errc::retries_exhausted));
    CHECK(agent.counters().balanced());
    CHECK(agent.counters().queued == 0);
  }
}

}  // namespace
