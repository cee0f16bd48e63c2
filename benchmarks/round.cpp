// W9: what a round costs for each node, beside the same requests sent one by one with a handler.

#include "fedagent/round.hpp"

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

#include "fedagent/explain.hpp"
#include "fedagent_user.hpp"
#include "workload.hpp"

namespace {

namespace asio = boost::asio;
namespace user = bench::user;
using bench::Message;
using fedagent::RoundPolicy;
using namespace std::chrono_literals;

/// A store with so many nodes, which the loop serves.
struct World {
  explicit World(std::size_t count) : ids(bench::node_ids(count)) {
    for (const auto& id : ids) {
      (void)store.retrieve(id);
    }
    for (const auto& id : bench::shuffled_node_ids(count)) {
      agents.push_back(store.get(id).value());
    }
  }

  /// All nodes come once; then the loop runs what that has made ready.
  void visit_all() {
    bool done = false;
    asio::co_spawn(io, user::visit_all(agents), [&done](std::exception_ptr) { done = true; });
    while (!done) {
      io.run_one();
    }
    io.poll();
  }

  asio::io_context io{1};
  user::Store store{io.get_executor()};
  fedagent::Rounds<user::Store::transport_type> rounds{store};
  std::vector<std::string> ids;
  std::vector<user::Agent> agents{};
};

user::MessagePtr request(std::uint64_t number) { return std::make_shared<const Message>(number); }

/// Runs `ask(message, answered)`, and all nodes answer.
template <class Ask>
void measure(benchmark::State& state, World& world, Ask ask) {
  std::uint64_t number = 0;
  std::size_t answered = 0;
  const auto once = [&] {
    answered = 0;
    ask(request(++number), answered);
    world.visit_all();
  };
  once();
  bench::Meter meter(state, world.ids.size());
  for (auto _ : state) {
    once();
  }
  if (answered != world.ids.size()) {
    state.SkipWithError("not every node has answered");
  }
}

void requests_one_by_one(benchmark::State& state) {
  World world(bench::size_of(state));
  measure(state, world, [&](const user::MessagePtr& message, std::size_t& answered) {
    world.store.for_each([&](const user::Agent& agent) {
      (void)agent.try_send(message, [&answered](const user::Outcome&) { ++answered; });
    });
  });
}

void round(benchmark::State& state, const RoundPolicy& policy) {
  World world(bench::size_of(state));
  measure(state, world, [&](user::MessagePtr message, std::size_t& answered) {
    asio::co_spawn(
        world.io, world.rounds.run(world.ids, std::move(message), policy),
        [&answered](std::exception_ptr, const auto& result) { answered = result.replied; });
  });
}

void explain_a_round(benchmark::State& state) {
  World world(bench::size_of(state));
  asio::co_spawn(world.io, world.rounds.run(world.ids, request(1), {.per_node = 1h}),
                 [](std::exception_ptr, const auto&) {});
  world.io.poll();
  bench::Meter meter(state, world.ids.size());
  for (auto _ : state) {
    auto reports = fedagent::explain(world.rounds);
    benchmark::DoNotOptimize(reports.data());
  }
}

void sizes(benchmark::internal::Benchmark* benchmark) {
  benchmark->Arg(1'000)->Arg(10'000)->Arg(100'000)->Unit(benchmark::kMillisecond);
}

}  // namespace

BENCHMARK(requests_one_by_one)->Name("W9.requests/fedagent")->Apply(sizes);
BENCHMARK_CAPTURE(round, , RoundPolicy{})->Name("W9.round/fedagent")->Apply(sizes);
BENCHMARK_CAPTURE(round, , RoundPolicy{.deadline = 1h, .per_node = 1min})
    ->Name("W9.deadline_for_each/fedagent")
    ->Apply(sizes);
BENCHMARK_CAPTURE(round, ,
                  RoundPolicy{.per_node = fedagent::AdaptiveDeadline{.floor = 1min, .cap = 1h}})
    ->Name("W9.adaptive/fedagent")
    ->Apply(sizes);
BENCHMARK(explain_a_round)->Name("W9.explain/fedagent")->Apply(sizes);

BENCHMARK_MAIN();
