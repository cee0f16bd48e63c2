// What a round costs for each node, beside the same requests sent one by one with a handler.
#include "fedagent/round.hpp"

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "allocations.hpp"
#include "fedagent/explain.hpp"
#include "fedagent/transport/memory.hpp"

namespace {

namespace asio = boost::asio;
using Executor = asio::io_context::executor_type;
using Message = fedagent::memory::Message;
using Store = fedagent::AgentStore<fedagent::memory::Transport<Message, Executor>>;
using Node = fedagent::memory::Node<Store>;
using fedagent::RoundPolicy;
using namespace std::chrono_literals;

/// A store with so many nodes, which the loop serves.
struct World {
  explicit World(std::size_t count) : store(io.get_executor()), rounds(store) {
    for (std::size_t i = 0; i < count; ++i) {
      ids.push_back(fmt::format("hospital-{:08}-of-a-long-enough-name", i));
      nodes.emplace_back(store, ids.back());
      (void)store.retrieve(ids.back());
    }
  }

  template <class T>
  void run(asio::awaitable<T, Executor> coroutine) {
    asio::co_spawn(io, std::move(coroutine), [this](std::exception_ptr thrown, auto&&...) {
      if (thrown) {
        std::rethrow_exception(thrown);
      }
      done = true;
    });
    done = false;
    while (!done) {
      io.run_one();
    }
  }

  asio::io_context io{1};
  Store store;
  fedagent::Rounds<Store::transport_type> rounds;
  std::vector<std::string> ids{};
  std::vector<Node> nodes{};
  bool done = false;
};

fedagent::MessagePtr<Message> request(std::uint64_t number) {
  return std::make_shared<const Message>(
      Message{.request_id = fmt::format("{:036}", number), .body = std::string(64, 'w')});
}

/// Every node polls, has its task, and replies: the same work for the round and its peer.
asio::awaitable<void, Executor> work(World& world, std::string request_id) {
  for (auto& node : world.nodes) {
    auto polling = node.poll();
    auto task = co_await std::move(polling);
    Message answer{.request_id = request_id, .body = "done"};
    auto replying = node.reply(std::move(answer));
    (void)co_await std::move(replying);
  }
}

void report(benchmark::State& state, bench::Allocations spent) {
  const auto nodes = static_cast<double>(state.iterations()) * static_cast<double>(state.range(0));
  state.SetItemsProcessed(static_cast<std::int64_t>(nodes));
  state.counters["time/node"] =
      benchmark::Counter(nodes, benchmark::Counter::kIsRate | benchmark::Counter::kInvert);
  state.counters["allocs/node"] = static_cast<double>(spent.count) / nodes;
  state.counters["bytes/node"] = static_cast<double>(spent.bytes) / nodes;
}

void requests_one_by_one(benchmark::State& state) {
  World world(static_cast<std::size_t>(state.range(0)));
  std::uint64_t number = 0;
  const auto before = bench::Allocations::now();
  for (auto _ : state) {
    const auto message = request(++number);
    std::size_t answered = 0;
    for (const auto& id : world.ids) {
      (void)world.store.try_send(id, message,
                                 [&answered](const fedagent::Outcome<Message>&) { ++answered; });
    }
    world.run(work(world, message->request_id));
    if (answered != world.ids.size()) {
      state.SkipWithError("not every node has answered");
    }
  }
  report(state, bench::Allocations::now() - before);
}

void round(benchmark::State& state, const RoundPolicy& policy) {
  World world(static_cast<std::size_t>(state.range(0)));
  std::uint64_t number = 0;
  const auto before = bench::Allocations::now();
  for (auto _ : state) {
    auto message = request(++number);
    auto id = message->request_id;
    std::size_t replied = 0;
    asio::co_spawn(
        world.io, world.rounds.run(world.ids, std::move(message), policy),
        [&replied](std::exception_ptr, const auto& result) { replied = result.replied; });
    world.run(work(world, std::move(id)));
    world.io.poll();
    if (replied != world.ids.size()) {
      state.SkipWithError("not every node has answered");
    }
  }
  report(state, bench::Allocations::now() - before);
}

void explain_a_round(benchmark::State& state) {
  World world(static_cast<std::size_t>(state.range(0)));
  asio::co_spawn(world.io, world.rounds.run(world.ids, request(1), {.per_node = 1h}),
                 [](std::exception_ptr, const auto&) {});
  world.io.poll();
  for (auto _ : state) {
    auto reports = fedagent::explain(world.rounds);
    benchmark::DoNotOptimize(reports.data());
  }
  state.counters["time/node"] = benchmark::Counter(
      static_cast<double>(state.range(0)),
      benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}

void sizes(benchmark::internal::Benchmark* benchmark) {
  benchmark->Arg(1'000)->Arg(10'000)->Arg(100'000)->Unit(benchmark::kMillisecond);
}

}  // namespace

BENCHMARK(requests_one_by_one)->Apply(sizes);
BENCHMARK_CAPTURE(round, plain, RoundPolicy{})->Apply(sizes);
BENCHMARK_CAPTURE(round, deadline_for_each, RoundPolicy{.deadline = 1h, .per_node = 1min})
    ->Apply(sizes);
BENCHMARK_CAPTURE(round, adaptive,
                  RoundPolicy{.per_node = fedagent::AdaptiveDeadline{.floor = 1min, .cap = 1h}})
    ->Apply(sizes);
BENCHMARK(explain_a_round)->Apply(sizes);

BENCHMARK_MAIN();
