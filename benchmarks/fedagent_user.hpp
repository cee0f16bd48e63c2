#pragma once

// fedagent as its user writes it, for all workloads: the types, and the node's side.

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <memory>
#include <vector>

#include "fedagent/agent_store.hpp"
#include "fedagent/parked_poll.hpp"
#include "fedagent/transport/memory.hpp"
#include "workload.hpp"

namespace bench::user {

namespace asio = boost::asio;
using Executor = asio::io_context::executor_type;
template <class Clock>
using StoreWith = fedagent::AgentStore<fedagent::memory::Transport<Message, Executor, Clock>>;
using Store = StoreWith<std::chrono::steady_clock>;
using Agent = Store::agent_type;
using MessagePtr = Store::message_ptr;
using Outcome = Store::outcome_type;
template <class T>
using awaitable = asio::awaitable<T, Executor>;

/// A node that answers everything, in one poll that never ends.
template <class Agent>
awaitable<void> answer(Agent agent) {
  agent.set_active();
  for (;;) {
    auto task = co_await agent.get_task();
    if (!task) {
      co_return;
    }
    auto reply = task->message()->reply();
    task->delivered();
    (void)agent.try_on_reply(std::move(reply));
  }
}

/// One poll that waits for a task, as a part of what a transport has for each connection.
template <class Store>
struct Connection final
    : fedagent::ParkedPoll<typename Store::transport_type, Message, fedagent::NoObserver> {
  explicit Connection(const typename Store::agent_type& agent) {
    this->open(agent);
    (void)this->try_get_task();
  }
  void on_ready() noexcept override {}
};

/// One poll that waits for a task in a coroutine.
template <class Agent>
awaitable<void> poll(Agent agent) {
  agent.set_active();
  (void)co_await agent.get_task();
}

/// Every node comes once: it polls, takes what is there, replies when asked to, and goes.
template <class Agent>
awaitable<void> visit_all(const std::vector<Agent>& agents) {
  for (const auto& agent : agents) {
    agent.set_active();
    auto task = co_await agent.get_task();
    const auto message = task->message();
    task->delivered();
    if (!message->request_id().empty()) {
      (void)agent.try_on_reply(message->reply());
    }
    agent.change_node_status_after_task();
  }
}

}  // namespace bench::user
