#pragma once

#include <doctest/doctest.h>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <exception>
#include <memory>
#include <optional>
#include <source_location>
#include <utility>

#include "fedagent/fedagent.hpp"
#include "fedagent/transport/memory.hpp"
#include "support/manual_clock.hpp"
#include "support/printing.hpp"

namespace test {

using namespace std::chrono_literals;
using fedagent::errc;
using fedagent::NodeActiveStatus;
using fedagent::ReplyDisposition;

using Executor = boost::asio::io_context::executor_type;
using Message = fedagent::memory::Message;
using MessagePtr = fedagent::MessagePtr<Message>;
using Transport = fedagent::memory::Transport<Message, Executor, ManualClock>;
using Agent = fedagent::NodeAgent<Transport>;
using Store = fedagent::AgentStore<Transport>;
using Node = fedagent::memory::Node<Store>;
template <class T>
using awaitable = boost::asio::awaitable<T, Executor>;
template <class T>
using result = boost::system::result<T>;

inline MessagePtr message(std::string request_id, std::string body = "work") {
  return std::make_shared<const Message>(
      Message{.request_id = std::move(request_id), .body = std::move(body)});
}

/// What a spawned coroutine has come to.
template <class T>
class Spawned {
 public:
  bool done() const { return state_->value.has_value() || state_->error != nullptr; }
  bool threw() const { return state_->error != nullptr; }
  /// The result; fails the test when there is none yet.
  T& value(std::source_location where = std::source_location::current()) const {
    if (state_->error) {
      std::rethrow_exception(state_->error);
    }
    INFO("called at ", where.file_name(), ":", where.line());
    REQUIRE(state_->value.has_value());
    return *state_->value;
  }
  /// Cancels the coroutine through its slot: in a handler of the loop at once, else at its next
  /// turn.
  void cancel(
      boost::asio::cancellation_type type = boost::asio::cancellation_type::terminal) const {
    state_->signal.emit(type);
  }

 private:
  friend class Loop;
  struct State {
    std::optional<T> value;
    std::exception_ptr error;
    boost::asio::cancellation_signal signal;
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

/// A driven loop on the manual clock. Nothing runs but in `drain` and `advance`.
class Loop {
 public:
  Loop() { ManualClock::reset(); }
  Executor executor() { return io.get_executor(); }

  /// Runs all that is ready.
  std::size_t drain() {
    std::size_t ran = 0;
    while (true) {
      io.restart();
      const std::size_t now = io.poll();
      ran += now;
      if (now == 0) {
        return ran;
      }
    }
  }
  /// Runs what is ready, moves the clock, runs what is due.
  void advance(ManualClock::duration by) {
    drain();
    ManualClock::advance(by);
    drain();
  }
  /// Runs a function as a handler of the loop, then all that it makes ready. What it does to
  /// several coroutines, waking one and cancelling it, say, comes before any of them runs.
  template <class F>
  void in_one_turn(F function) {
    boost::asio::post(io, std::move(function));
    drain();
  }
  static ManualClock::time_point now() { return ManualClock::now(); }

  /// Starts a coroutine; its result is in what is returned.
  template <class T>
  Spawned<T> spawn(awaitable<T> coroutine) {
    Spawned<T> spawned;
    boost::asio::co_spawn(io, std::move(coroutine),
                          boost::asio::bind_cancellation_slot(
                              spawned.state_->signal.slot(),
                              [state = spawned.state_](std::exception_ptr error, T value) {
                                if (error) {
                                  state->error = error;
                                } else {
                                  state->value.emplace(std::move(value));
                                }
                              }));
    return spawned;
  }
  /// As `spawn`, for one that is cancelled before it has waited for anything: `co_spawn` throws at
  /// the end of such a one, as it waits itself then.
  template <class T>
  Spawned<T> spawn_after_a_wait(awaitable<T> coroutine) {
    return spawn(after_a_wait(std::move(coroutine)));
  }
  /// Runs a coroutine to its end; a hang fails the test.
  template <class T>
  T run(awaitable<T> coroutine, std::source_location where = std::source_location::current()) {
    auto spawned = spawn(std::move(coroutine));
    drain();
    INFO("a coroutine that was run to its end hangs, called at ", where.file_name(), ":",
         where.line());
    REQUIRE(spawned.done());
    return std::move(spawned.value());
  }

  boost::asio::io_context io;

 private:
  template <class T>
  static awaitable<T> after_a_wait(awaitable<T> coroutine) {
    co_await boost::asio::post(boost::asio::deferred);
    co_return co_await std::move(coroutine);
  }
};

}  // namespace test
