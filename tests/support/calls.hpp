#pragma once

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/this_coro.hpp>
#include <cstdint>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/loop.hpp"

namespace test {

using boost::asio::error::operation_aborted;

/// What `deliver` of a call does.
enum class Delivery { succeeds, fails, cannot_encode, throws, hangs };

/// The server side of a task call that does what the test says.
class Call {
 public:
  explicit Call(std::string node_id, fedagent::SessionId session = 1,
                Delivery first_delivery = Delivery::succeeds)
      : delivery(first_delivery), node_id_(std::move(node_id)), session_(session) {}
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  std::string_view node_id() const noexcept { return node_id_; }
  fedagent::SessionId session() const noexcept { return session_; }

  awaitable<result<void>> deliver(MessagePtr message) {
    received.push_back(message->body);
    switch (delivery) {
      case Delivery::succeeds:
        break;
      case Delivery::fails:
        co_return make_error_code(boost::asio::error::broken_pipe);
      case Delivery::cannot_encode:
        co_return make_error_code(errc::not_encodable);
      case Delivery::throws:
        throw std::runtime_error("no bytes for this message");
      case Delivery::hangs: {
        const auto executor = co_await boost::asio::this_coro::executor;
        Gate gate(*this, executor);
        co_await gate.timer.async_wait(boost::asio::as_tuple(boost::asio::deferred));
        const auto state = co_await boost::asio::this_coro::cancellation_state;
        if (state.cancelled() != boost::asio::cancellation_type::none) {
          co_return make_error_code(operation_aborted);
        }
        break;
      }
    }
    co_return result<void>();
  }

  /// Lets a delivery that hangs succeed.
  void release() {
    if (gate_ != nullptr) {
      gate_->timer.cancel();
    }
  }
  bool delivering() const noexcept { return gate_ != nullptr; }

  Delivery delivery;
  /// The body of each message that `deliver` was called with.
  std::vector<std::string> received{};

 private:
  // What a delivery that hangs waits for; it lives in the coroutine and goes with it.
  struct Gate {
    Gate(Call& of, const Executor& executor)
        : call(&of), timer(executor, ManualClock::time_point::max()) {
      call->gate_ = this;
    }
    Gate(const Gate&) = delete;
    Gate& operator=(const Gate&) = delete;
    ~Gate() { call->gate_ = nullptr; }

    Call* call;
    boost::asio::basic_waitable_timer<ManualClock, boost::asio::wait_traits<ManualClock>, Executor>
        timer;
  };

  std::string node_id_;
  fedagent::SessionId session_;
  Gate* gate_ = nullptr;
};

/// What an observer has seen, one line for each event.
struct Log {
  std::vector<std::string> lines{};

  /// How many lines start with this.
  std::size_t count(std::string_view start) const {
    std::size_t found = 0;
    for (const auto& line : lines) {
      found += line.starts_with(start) ? 1U : 0U;
    }
    return found;
  }
};

/// An observer that writes everything down.
class Recorder {
 public:
  void on_status(std::string_view node, NodeActiveStatus from, NodeActiveStatus to) const {
    add("status", node, std::string(to_string(from)) + " " + std::string(to_string(to)));
  }
  void on_queued(std::string_view node, const MessagePtr& message,
                 NodeActiveStatus /*status*/) const {
    add("queued", node, message->body);
  }
  void on_delivered(std::string_view node, const MessagePtr& message) const {
    add("delivered", node, message->body);
  }
  void on_confirmed(std::string_view node, const MessagePtr& message) const {
    add("confirmed", node, message->body);
  }
  void on_requeued(std::string_view node, const MessagePtr& message,
                   std::uint32_t retry_count) const {
    add("requeued", node, message->body + " " + std::to_string(retry_count));
  }
  void on_dropped(std::string_view node, const MessagePtr& message,
                  boost::system::error_code error) const {
    add("dropped", node, message->body + ", " + error.message());
  }
  void on_refused(std::string_view node, const MessagePtr& message,
                  boost::system::error_code error) const {
    add("refused", node, message->body + ", " + error.message());
  }
  void on_reply(std::string_view node, const MessagePtr& message,
                ReplyDisposition disposition) const {
    add("reply", node, message->request_id + " " + std::to_string(static_cast<int>(disposition)));
  }
  void on_unknown_node(std::string_view node, const MessagePtr& message) const {
    add("unknown", node, message->request_id);
  }
  void on_wrong_node(std::string_view node, std::string_view claim) const {
    add("wrong", node, claim);
  }
  void on_handler_error(std::string_view node, std::exception_ptr error) const {
    try {
      std::rethrow_exception(std::move(error));
    } catch (const std::exception& exception) {
      add("error", node, exception.what());
    }
  }
  /// Takes text, and fails on a number.
  void on_feedback(std::string_view node, const std::string& text) const {
    add("feedback", node, text);
  }
  void on_feedback(std::string_view /*node*/, int /*number*/) const {
    throw std::runtime_error("a number is no feedback");
  }

  const Log& log() const { return *log_; }

 private:
  void add(std::string_view what, std::string_view node, std::string_view more) const {
    log_->lines.push_back(std::string(what) + " " + std::string(node) + " " + std::string(more));
  }

  std::shared_ptr<Log> log_ = std::make_shared<Log>();
};

using ObservedStore = fedagent::AgentStore<Transport, Message, Recorder>;

/// The outcome of one request, and how often it came.
class Ending {
 public:
  /// The handler to send with.
  auto handler() const {
    return [state = state_](fedagent::Outcome<Message> outcome) {
      ++state->times;
      state->outcome = std::move(outcome);
    };
  }
  int times() const { return state_->times; }
  /// Whether it ended once, with this error.
  bool is(errc error) const {
    return state_->times == 1 && state_->outcome.has_error() && state_->outcome.error() == error;
  }
  /// Whether it ended once, with a reply.
  bool is_reply() const { return state_->times == 1 && state_->outcome.has_value(); }

 private:
  struct State {
    int times = 0;
    fedagent::Outcome<Message> outcome{};
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace test
