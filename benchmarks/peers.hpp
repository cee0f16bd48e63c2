#pragma once

// The peers of the workloads over many agents, under one face: the same steps, each in its own way.

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "fedagent/coarse_clock.hpp"
#include "fedagent_user.hpp"
#include "limit.hpp"
#include "raw_asio.hpp"
#include "workload.hpp"

namespace bench {

/// Calls `turn()` in turns of the loop until it returns false.
template <class Turn>
void run_turns(boost::asio::io_context& io, Turn turn) {
  std::function<void()> next = [&] {
    if (turn()) {
      boost::asio::post(io, std::ref(next));
    } else {
      io.stop();
    }
  };
  boost::asio::post(io, std::ref(next));
  io.restart();
  io.run();
}

/// Runs what is ready, until nothing is.
inline void settle(boost::asio::io_context& io) {
  io.restart();
  io.poll();
}

class LimitPeer {
 public:
  void create(const std::vector<std::string>& ids) {
    for (const auto& id : ids) {
      store_.retrieve(id);
    }
  }
  auto lookup(const std::string& id) { return store_.get(id); }
  /// The agents in the order of these ids, for the calls below.
  void hold(const std::vector<std::string>& ids) {
    for (const auto& id : ids) {
      agents_.push_back(store_.get(id));
    }
  }

  // ---- liveness

  void poll_opens(std::size_t number) { agents_[number]->poll_opened(); }
  void poll_ends(std::size_t number) {
    agents_[number]->poll_ended(store_.wheel, limit::Clock::now());
  }
  /// Each agent has a poll that waits for a task.
  void park_all() {
    for (auto* const agent : agents_) {
      agent->poll_opened();
      agent->park({[](void*, const Message&) {}, this});
    }
  }
  template <class Turn>
  void run(Turn turn) {
    while (turn()) {
      store_.wheel.advance(limit::Clock::now(), [](limit::TimingWheel::Entry& due) {
        static_cast<limit::Agent&>(due).disconnected();
      });
    }
  }

  // ---- broadcasts

  void broadcast() {
    const auto message = limit::share(Message());
    store_.for_each([&](limit::Agent& agent) { agent.send(message); });
  }
  void broadcast_requests(std::uint64_t number, std::size_t& answered) {
    const auto message = limit::share(Message(number));
    const limit::Callback on_reply{
        [](void* count, const Message&) { ++*static_cast<std::size_t*>(count); }, &answered};
    store_.for_each([&](limit::Agent& agent) { agent.send(message, on_reply); });
  }
  /// Calls `sends()`, then all nodes come once, and so on until `sends()` returns false.
  template <class Sends>
  void run_broadcasts(Sends sends) {
    while (sends()) {
      for (auto* const agent : agents_) {
        agent->poll_opened();
        const auto task = agent->take();
        if (!task->message.request_id().empty()) {
          agent->reply(task->message.reply());
        }
        agent->poll_ended(store_.wheel, limit::Clock::now());
      }
    }
  }

 private:
  limit::Store store_;
  std::vector<limit::Agent*> agents_{};
};

class RawAsioPeer {
 public:
  void create(const std::vector<std::string>& ids) {
    for (const auto& id : ids) {
      store_.retrieve(id);
    }
  }
  auto lookup(const std::string& id) { return store_.get(id); }
  void hold(const std::vector<std::string>& ids) {
    for (const auto& id : ids) {
      agents_.push_back(store_.get(id));
    }
  }

  void poll_opens(std::size_t number) { agents_[number]->poll_opened(); }
  void poll_ends(std::size_t number) { agents_[number]->poll_ended(); }
  void park_all() {
    for (const auto& agent : agents_) {
      boost::asio::co_spawn(io_, raw_asio::poll(agent), boost::asio::detached);
    }
    settle(io_);
  }
  template <class Turn>
  void run(Turn turn) {
    run_turns(io_, std::move(turn));
  }

  void broadcast() {
    const auto message = std::make_shared<const Message>();
    store_.for_each([&](raw_asio::Agent& agent) { agent.try_send(message); });
  }
  void broadcast_requests(std::uint64_t number, std::size_t& answered) {
    const auto message = std::make_shared<const Message>(number);
    store_.for_each([&](raw_asio::Agent& agent) {
      agent.try_send(message, [&answered](const raw_asio::MessagePtr&) { ++answered; });
    });
  }
  template <class Sends>
  void run_broadcasts(Sends sends) {
    boost::asio::co_spawn(io_, visit_all_after(sends), [this](std::exception_ptr) { io_.stop(); });
    io_.restart();
    io_.run();
  }

 private:
  template <class Sends>
  boost::asio::awaitable<void> visit_all_after(Sends& sends) {
    while (sends()) {
      co_await raw_asio::visit_all(agents_);
    }
  }

  boost::asio::io_context io_{1};
  raw_asio::Store store_{io_.get_executor()};
  std::vector<std::shared_ptr<raw_asio::Agent>> agents_{};
};

/// @tparam Clock What the agents tell the time by.
template <class Clock>
class FedagentPeerWith {
  using Store = user::StoreWith<Clock>;
  using Agent = typename Store::agent_type;

 public:
  void create(const std::vector<std::string>& ids) {
    for (const auto& id : ids) {
      (void)store_.retrieve(id);
    }
  }
  auto lookup(const std::string& id) { return store_.get(id); }
  /// Ends the agents one by one; a store that ends with a million of them takes a minute.
  void erase(const std::vector<std::string>& ids) {
    for (const auto& id : ids) {
      store_.erase(id);
    }
  }
  void hold(const std::vector<std::string>& ids) {
    for (const auto& id : ids) {
      agents_.push_back(store_.get(id).value());
    }
  }

  void poll_opens(std::size_t number) { agents_[number].set_active(); }
  void poll_ends(std::size_t number) { agents_[number].change_node_status_after_task(); }
  void park_all() {
    for (const auto& agent : agents_) {
      connections_.push_back(std::make_unique<user::Connection<Store>>(agent));
    }
  }
  void park_all_in_coroutines() {
    for (const auto& agent : agents_) {
      boost::asio::co_spawn(io_, user::poll(agent), boost::asio::detached);
    }
    settle(io_);
  }
  template <class Turn>
  void run(Turn turn) {
    run_turns(io_, std::move(turn));
  }

  void broadcast() { store_.broadcast(Message()); }
  void broadcast_requests(std::uint64_t number, std::size_t& answered) {
    const auto message = std::make_shared<const Message>(number);
    store_.for_each([&](const Agent& agent) {
      (void)agent.try_send(message,
                           [&answered](const typename Store::outcome_type&) { ++answered; });
    });
  }
  template <class Sends>
  void run_broadcasts(Sends sends) {
    boost::asio::co_spawn(io_, visit_all_after(sends), [this](std::exception_ptr) { io_.stop(); });
    io_.restart();
    io_.run();
  }

 private:
  static fedagent::StoreOptions options() {
    fedagent::StoreOptions options;
    options.agent.disconnect_timeout = disconnect_timeout;
    return options;
  }

  template <class Sends>
  user::awaitable<void> visit_all_after(Sends& sends) {
    while (sends()) {
      co_await user::visit_all(agents_);
    }
  }

  boost::asio::io_context io_{1};
  Store store_{io_.get_executor(), options()};
  std::vector<Agent> agents_{};
  std::vector<std::unique_ptr<user::Connection<Store>>> connections_{};
};

using FedagentPeer = FedagentPeerWith<std::chrono::steady_clock>;
using FedagentCoarsePeer = FedagentPeerWith<fedagent::CoarseClock>;

/// With a coroutine in `get_task` for each parked poll.
class FedagentCoroutinesPeer : public FedagentPeer {
 public:
  void park_all() { park_all_in_coroutines(); }
};

/// A peer with so many agents, whose nodes come in a shuffled order. Made once in each process.
/** It is never destroyed: a million agents take their time, and nobody waits for it. */
template <class Peer>
Peer& shared_peer(std::size_t count) {
  static auto& peers = *new std::map<std::size_t, std::unique_ptr<Peer>>();
  auto& peer = peers[count];
  if (!peer) {
    peer = std::make_unique<Peer>();
    peer->create(node_ids(count));
    peer->hold(shuffled_node_ids(count));
  }
  return *peer;
}

}  // namespace bench
