// W2: what agents cost that do nothing: memory while idle, while WAITING and with a poll parked,
// the time to make one and to find one by its id, and the end of all of them.
//
// The resident sizes are right only in a process that has done nothing else: one peer, one size.

#include <cstddef>
#include <memory>

#include "peers.hpp"

namespace {

template <class Peer>
void memory(benchmark::State& state) {
  const auto count = bench::size_of(state);
  const auto ids = bench::node_ids(count);
  const auto each = [&](std::uint64_t bytes) {
    return static_cast<double>(bytes) / static_cast<double>(count);
  };
  for (auto _ : state) {
    auto& peer = *new Peer();
    const auto heap = bench::Allocations::now();
    const auto live = [&] { return (bench::Allocations::now() - heap).live_bytes(); };
    const auto resident = bench::resident_bytes();
    peer.create(ids);
    state.counters["heap_idle"] = each(live());
    state.counters["rss_idle"] = each(bench::resident_bytes() - resident);

    const auto idle = live();
    peer.hold(ids);
    const auto handles = live() - idle;  // the user's, not the agent's
    std::size_t number = 0;
    peer.run([&] {
      peer.poll_opens(number);
      peer.poll_ends(number);
      return ++number < count;
    });
    state.counters["heap_waiting"] = each(live() - idle - handles);

    peer.park_all();
    state.counters["heap_parked"] = each(live() - handles);
    state.counters["rss_parked"] = each(bench::resident_bytes() - resident - handles);
  }
}

template <class Peer>
void create(benchmark::State& state) {
  const auto ids = bench::node_ids(bench::size_of(state));
  bench::Meter meter(state, ids.size());
  for (auto _ : state) {
    auto peer = std::make_unique<Peer>();
    peer->create(ids);
    state.PauseTiming();
    if constexpr (requires { peer->erase(ids); }) {
      peer->erase(ids);
    }
    peer.reset();
    state.ResumeTiming();
  }
}

/// The end of a store with all its agents.
template <class Peer>
void end(benchmark::State& state) {
  const auto ids = bench::node_ids(bench::size_of(state));
  bench::Meter meter(state, ids.size());
  for (auto _ : state) {
    state.PauseTiming();
    auto peer = std::make_unique<Peer>();
    peer->create(ids);
    state.ResumeTiming();
    peer.reset();
  }
}

template <class Peer>
void lookup(benchmark::State& state) {
  auto& peer = bench::shared_peer<Peer>(bench::size_of(state));
  const auto ids = bench::shuffled_node_ids(bench::size_of(state));
  auto id = ids.begin();
  bench::Meter meter(state);
  for (auto _ : state) {
    auto found = peer.lookup(*id);
    benchmark::DoNotOptimize(found);
    if (++id == ids.end()) {
      id = ids.begin();
    }
  }
}

}  // namespace

#define PEER(name, Peer)                                                                         \
  BENCHMARK(memory<Peer>)->Name("W2.memory/" name)->Arg(100'000)->Arg(1'000'000)->Iterations(1); \
  BENCHMARK(create<Peer>)->Name("W2.create/" name)->Arg(100'000)->Arg(1'000'000);                \
  BENCHMARK(lookup<Peer>)->Name("W2.lookup/" name)->Arg(100'000)->Arg(1'000'000);                \
  BENCHMARK(end<Peer>)->Name("W2.end/" name)->Arg(10'000)->Arg(100'000)->Iterations(1)

PEER("limit", bench::LimitPeer);
PEER("raw_asio", bench::RawAsioPeer);
PEER("fedagent", bench::FedagentPeer);
BENCHMARK(memory<bench::FedagentCoroutinesPeer>)
    ->Name("W2.memory/fedagent_coroutines")
    ->Arg(100'000)
    ->Arg(1'000'000)
    ->Iterations(1);

BENCHMARK_MAIN();
