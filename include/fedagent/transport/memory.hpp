#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/system/result.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "fedagent/service.hpp"

namespace fedagent::memory {

/// A message for tests, benchmarks and first examples.
struct Message {
  std::string request_id{};
  std::string body{};
  std::string destination{};
  std::string source{};

  std::size_t size() const noexcept {
    return request_id.size() + body.size() + destination.size() + source.size();
  }
};

/// A transport inside one process: what is sent is what arrives.
template <class Message_ = Message, class Executor = boost::asio::any_io_executor,
          class Clock = std::chrono::steady_clock>
struct Transport {
  using executor_type = Executor;
  using clock_type = Clock;
  using message_type = Message_;
  using wire_type = Message_;

  static boost::system::result<message_type> decode(wire_type wire) { return wire; }
};

/// The node's end: polls, replies, sends feedback, as a remote node would.
/**
 * One object is one session of the node. It runs on the store's executor.
 *
 * @par Lifetimes
 * The store must outlive it and its operations.
 * @par Thread safety
 * Unsafe: on the store's executor.
 */
template <class Store>
class Node {
 public:
  using message_type = typename Store::message_type;
  using message_ptr = typename Store::message_ptr;
  template <class T>
  using awaitable = typename Store::template awaitable<T>;

  /// @param session As `SessionId`: give another number to a node that was started anew.
  Node(Store& store, std::string node_id, SessionId session = 1)
      : store_(&store), node_id_(std::move(node_id)), session_(session) {}

  std::string_view node_id() const noexcept { return node_id_; }

  /// One poll: waits for a task.
  /**
   * @par Cancellation
   * The node goes away; no task is lost.
   * @par Errors
   * Those of `serve_task_call`.
   */
  awaitable<boost::system::result<message_ptr>> poll() {
    return poll_once(*store_, Call{node_id_, session_, {}});
  }

  /// Sends a reply, or an overlay message. @return What it was to the server, as `serve_reply`.
  awaitable<boost::system::result<ReplyDisposition>> reply(message_type message,
                                                           Receipt receipt = {}) {
    return serve_reply(*store_, node_id_, std::move(message), std::move(receipt));
  }

  template <class Feedback>
  boost::system::result<void> feedback(const Feedback& value) {
    return serve_feedback(*store_, node_id_, value);
  }

 private:
  struct Call {
    std::string node;
    SessionId session_id;
    message_ptr received;

    std::string_view node_id() const noexcept { return node; }
    SessionId session() const noexcept { return session_id; }
    awaitable<boost::system::result<void>> deliver(message_ptr message) {
      received = std::move(message);
      co_return boost::system::result<void>();
    }
  };

  static awaitable<boost::system::result<message_ptr>> poll_once(Store& store, Call call) {
    auto served = co_await serve_task_call(store, call);
    if (!served) {
      co_return served.error();
    }
    co_return std::move(call.received);
  }

  Store* store_;
  std::string node_id_;
  SessionId session_;
};

}  // namespace fedagent::memory
