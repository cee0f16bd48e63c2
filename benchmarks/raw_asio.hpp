#pragma once

// The afternoon's version: what a user of Asio writes for this work, with Asio's parts as they
// come.
//
// A channel for each agent is its queue, a timer for each agent is its liveness, and a flat map
// holds the open requests. It has the shape of the Python original: `send` starts a coroutine that
// waits for room in the queue. `try_send` is the quicker way that loses what finds no room.
//
// It leaves out what fedagent does besides: leases and redelivery (a
// message that a poll has taken is gone; with Asio 1.81 also one that a cancelled poll was given),
// deadlines and ages of messages, several polls of one node, outcomes other than the reply, late
// replies told apart, counters, hooks, other threads, and an end that every wait learns of.

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/experimental/channel.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/container_hash/hash.hpp>
#include <boost/unordered/unordered_flat_map.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "workload.hpp"

namespace bench::raw_asio {

namespace asio = boost::asio;
using MessagePtr = std::shared_ptr<const Message>;
using Handler = std::function<void(const MessagePtr&)>;

/// Finds a string by a view of it.
struct Hash : boost::hash<std::string_view> {
  using is_transparent = void;
};

enum class Status { waiting, active, disconnected };

class Agent {
 public:
  Agent(std::string id, const asio::any_io_executor& executor)
      : id_(std::move(id)), queue_(executor, queue_limit), liveness_(executor) {}

  const std::string& id() const noexcept { return id_; }
  Status status() const noexcept { return status_; }

  /// Sends from anywhere in the loop. With a handler the reply is awaited.
  void send(MessagePtr message, Handler on_reply = {}) {
    asio::co_spawn(queue_.get_executor(), send_async(std::move(message), std::move(on_reply)),
                   asio::detached);
  }
  asio::awaitable<void> send_async(MessagePtr message, Handler on_reply = {}) {
    open_request(*message, std::move(on_reply));
    co_await queue_.async_send(boost::system::error_code(), std::move(message),
                               asio::use_awaitable);
  }
  /// @return Whether there was room.
  bool try_send(MessagePtr message, Handler on_reply = {}) {
    open_request(*message, std::move(on_reply));
    return queue_.try_send(boost::system::error_code(), std::move(message));
  }

  asio::awaitable<MessagePtr> get_task() {
    co_return co_await queue_.async_receive(asio::use_awaitable);
  }

  /// A coroutine, as the original's is: a message for another node would wait for room there.
  /** @return Whether somebody waited for this. */
  asio::awaitable<bool> on_reply(Message reply) {
    const auto found = open_.find(reply.request_id());
    if (found == open_.end()) {
      co_return false;
    }
    const auto handler = std::move(found->second);
    open_.erase(found);
    handler(std::make_shared<const Message>(reply));
    co_return true;
  }

  void poll_opened() {
    status_ = Status::active;
    liveness_.cancel();
  }
  void poll_ended() {
    status_ = Status::waiting;
    liveness_.expires_after(disconnect_timeout);
    liveness_.async_wait([this](boost::system::error_code error) {
      if (!error) {
        status_ = Status::disconnected;
      }
    });
  }

 private:
  static constexpr std::size_t queue_limit = 4096;

  void open_request(const Message& message, Handler on_reply) {
    if (on_reply) {
      open_.try_emplace(std::string(message.request_id()), std::move(on_reply));
    }
  }

  std::string id_;
  asio::experimental::channel<void(boost::system::error_code, MessagePtr)> queue_;
  asio::steady_timer liveness_;
  boost::unordered_flat_map<std::string, Handler, Hash, std::equal_to<>> open_;
  Status status_ = Status::active;
};

class Store {
 public:
  explicit Store(asio::any_io_executor executor) : executor_(std::move(executor)) {}

  std::shared_ptr<Agent> get(const std::string& id) const {
    const auto found = agents_.find(id);
    return found == agents_.end() ? nullptr : found->second;
  }
  std::shared_ptr<Agent> retrieve(const std::string& id) {
    auto& agent = agents_[id];
    if (!agent) {
      agent = std::make_shared<Agent>(id, executor_);
    }
    return agent;
  }

  /// Calls `function(agent)` for each agent.
  template <class Function>
  void for_each(Function function) {
    for (const auto& [id, agent] : agents_) {
      function(*agent);
    }
  }

 private:
  asio::any_io_executor executor_;
  boost::unordered_flat_map<std::string, std::shared_ptr<Agent>> agents_;
};

/// A node that answers everything, in one poll that never ends.
inline asio::awaitable<void> answer(std::shared_ptr<Agent> agent) {
  agent->poll_opened();
  for (;;) {
    const auto task = co_await agent->get_task();
    co_await agent->on_reply(task->reply());
  }
}

/// One poll, which waits for a task.
inline asio::awaitable<void> poll(std::shared_ptr<Agent> agent) {
  agent->poll_opened();
  co_await agent->get_task();
}

/// Every node comes once: it polls, takes what is there, replies when asked to, and goes.
inline asio::awaitable<void> visit_all(const std::vector<std::shared_ptr<Agent>>& agents) {
  for (const auto& agent : agents) {
    agent->poll_opened();
    const auto task = co_await agent->get_task();
    if (!task->request_id().empty()) {
      co_await agent->on_reply(task->reply());
    }
    agent->poll_ended();
  }
}

}  // namespace bench::raw_asio
