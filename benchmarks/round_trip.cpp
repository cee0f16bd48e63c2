// W1: a message is sent, the parked poll wakes and takes it, its node replies, the reply finds its
// request, the handler runs, and the request is forgotten. One thread; 1 or 64 outstanding.
//
// There are two agents, and the handler of the last reply sends to the other one. So the poll that
// gets the next message is always parked, and all of it happens within one `run` of the loop, whose
// recycled memory counts as what it is: no allocation.

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fedagent/coarse_clock.hpp"
#include "fedagent/service.hpp"
#include "fedagent_user.hpp"
#include "limit.hpp"
#include "raw_asio.hpp"
#include "workload.hpp"

namespace asio = boost::asio;
using bench::Message;
using bench::Meter;

namespace {

/// Sends the next messages when all are answered, until the benchmark has had enough.
/** @tparam Derived `send(turn, message)` sends to that agent, with a handler that calls `answered`.
 */
template <class Derived>
class Driver {
 public:
  Driver(benchmark::State& state, asio::io_context& io) : state_(state), io_(io) {}

  void answered() {
    if (--unanswered_ > 0) {
      return;
    }
    if (warm_up_ > 0) {
      warm_up_ -= outstanding_;
    } else {
      if (!meter_) {
        meter_.emplace(state_);
      }
      if (!state_.KeepRunningBatch(outstanding_)) {
        meter_.reset();
        io_.stop();
        return;
      }
    }
    send_next();
  }

  void send_next() {
    turn_ = 1 - turn_;
    for (unanswered_ = 0; unanswered_ < outstanding_; ++unanswered_) {
      static_cast<Derived*>(this)->send(turn_, std::make_shared<const Message>(++number_));
    }
  }

 private:
  benchmark::State& state_;
  asio::io_context& io_;
  const std::int64_t outstanding_ = state_.range(0);
  // fedagent remembers the latest 1024 requests of each agent; from then on nothing grows.
  std::int64_t warm_up_ = 6000;
  std::int64_t unanswered_ = 0;
  std::uint64_t number_ = 0;
  std::size_t turn_ = 0;
  std::optional<Meter> meter_;
};

// ---- limit

/// The node's side: answers what it gets; a parked poll gets it in the call that sends.
struct LimitNode {
  bench::limit::Agent& agent;

  void park() {
    agent.park(
        {[](void* node, const Message& task) { static_cast<LimitNode*>(node)->got(task); }, this});
  }
  void got(const Message& task) {
    agent.reply(task.reply());
    while (const auto more = agent.take()) {
      agent.reply(more->message.reply());
    }
    park();
  }
};

/// As many messages as are ever in use; what nobody else holds is written anew.
class MessagePool {
 public:
  explicit MessagePool(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      messages_.push_back(bench::limit::share(Message()));
    }
  }
  const bench::limit::SharedMessage& next(std::uint64_t number) {
    auto& message = messages_[number % messages_.size()];
    message->message = Message(number);
    return message;
  }

 private:
  std::vector<bench::limit::SharedMessage> messages_;
};

void limit(benchmark::State& state) {
  const auto outstanding = bench::size_of(state);
  bench::limit::Store store;
  auto& agent = store.retrieve(bench::node_id(1));
  agent.poll_opened();
  LimitNode node{agent};
  MessagePool messages(outstanding);
  std::uint64_t number = 0;
  std::uint64_t answered = 0;
  const bench::limit::Callback on_reply{
      [](void* count, const Message&) { ++*static_cast<std::uint64_t*>(count); }, &answered};
  const auto batch = [&] {
    // With one outstanding the poll is parked; of many, all but the last are queued before it is.
    for (std::size_t i = 1; i < outstanding; ++i) {
      agent.send(messages.next(++number), on_reply);
    }
    node.park();
    agent.send(messages.next(++number), on_reply);
    agent.park({});
  };
  batch();
  Meter meter(state);
  while (state.KeepRunningBatch(static_cast<std::int64_t>(outstanding))) {
    batch();
  }
  if (answered != number) {
    state.SkipWithError("not every request was answered");
  }
}

// ---- raw_asio

/// @tparam tries Whether it sends with `try_send`.
template <bool tries>
struct RawAsioDriver : Driver<RawAsioDriver<tries>> {
  RawAsioDriver(benchmark::State& state, asio::io_context& io) : Driver<RawAsioDriver>(state, io) {}

  void send(std::size_t turn, std::shared_ptr<const Message> message) {
    auto on_reply = [this](const auto&) { this->answered(); };
    if constexpr (tries) {
      agents[turn]->try_send(std::move(message), on_reply);
    } else {
      agents[turn]->send(std::move(message), on_reply);
    }
  }

  std::vector<std::shared_ptr<bench::raw_asio::Agent>> agents{};
};

template <bool tries>
void raw_asio(benchmark::State& state) {
  asio::io_context io{1};
  bench::raw_asio::Store store(io.get_executor());
  RawAsioDriver<tries> driver(state, io);
  for (const auto& id : bench::node_ids(2)) {
    driver.agents.push_back(store.retrieve(id));
    asio::co_spawn(io, bench::raw_asio::answer(driver.agents.back()), asio::detached);
  }
  asio::post(io, [&] { driver.send_next(); });
  io.run();
}

// ---- fedagent

template <class Store>
struct FedagentDriver : Driver<FedagentDriver<Store>> {
  FedagentDriver(benchmark::State& state, asio::io_context& io)
      : Driver<FedagentDriver>(state, io) {}

  void send(std::size_t turn, typename Store::message_ptr message) {
    (void)agents[turn].try_send(std::move(message), [this](const auto&) { this->answered(); });
  }

  std::vector<typename Store::agent_type> agents{};
};

/// The node as a transport serves it: each task in a poll of its own, with its liveness.
template <class Store>
bench::user::awaitable<void> serve(Store& store, std::string id) {
  fedagent::memory::Node<Store> node(store, std::move(id));
  for (;;) {
    auto task = co_await node.poll();
    if (!task) {
      co_return;
    }
    (void)co_await node.reply((*task)->reply());
  }
}

template <class Clock, bool served>
void fedagent_round_trips(benchmark::State& state) {
  asio::io_context io{1};
  bench::user::StoreWith<Clock> store(io.get_executor());
  FedagentDriver<bench::user::StoreWith<Clock>> driver(state, io);
  for (const auto& id : bench::node_ids(2)) {
    driver.agents.push_back(store.retrieve(id).value());
    asio::co_spawn(io, served ? serve(store, id) : bench::user::answer(driver.agents.back()),
                   asio::detached);
  }
  asio::post(io, [&] { driver.send_next(); });
  io.run();
}

using Steady = std::chrono::steady_clock;
using fedagent::CoarseClock;

}  // namespace

BENCHMARK(limit)->Name("W1/limit")->Arg(1)->Arg(64);
BENCHMARK(raw_asio<false>)->Name("W1/raw_asio")->Arg(1)->Arg(64);
BENCHMARK(raw_asio<true>)->Name("W1/raw_asio_try")->Arg(1)->Arg(64);
BENCHMARK(fedagent_round_trips<Steady, false>)->Name("W1/fedagent")->Arg(1)->Arg(64);
BENCHMARK(fedagent_round_trips<CoarseClock, false>)->Name("W1/fedagent_coarse")->Arg(1)->Arg(64);
BENCHMARK(fedagent_round_trips<Steady, true>)->Name("W1/fedagent_served")->Arg(1)->Arg(64);

BENCHMARK_MAIN();
