// W4: one shared message goes to every agent, with a handler for each reply or without; then every
// node comes once, takes it, replies when it was a request, and goes.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>

#include "peers.hpp"

namespace {

template <class Peer, bool tracked>
void broadcast(benchmark::State& state) {
  const auto count = bench::size_of(state);
  auto& peer = bench::shared_peer<Peer>(count);
  std::uint64_t number = 0;
  std::size_t answered = 0;
  std::uint64_t queued_bytes = 0;
  std::int64_t messages = 0;
  static std::set<std::size_t> warm;
  int warm_up = warm.insert(count).second ? 2 : 0;
  std::optional<bench::Meter> meter;
  peer.run_broadcasts([&] {
    if (warm_up > 0) {
      --warm_up;
    } else {
      if (!meter) {
        meter.emplace(state, count);
      }
      if (!state.KeepRunning()) {
        meter.reset();
        return false;
      }
    }
    const auto before = bench::Allocations::now().live_bytes();
    const auto messages_before = bench::Message::alive();
    if (tracked) {
      peer.broadcast_requests(++number, answered);
    } else {
      peer.broadcast();
    }
    queued_bytes = bench::Allocations::now().live_bytes() - before;
    messages = bench::Message::alive() - messages_before;
    return true;
  });
  state.counters["queued_bytes"] = static_cast<double>(queued_bytes) / static_cast<double>(count);
  state.counters["messages"] = static_cast<double>(messages);
  if (tracked && answered != number * count) {
    state.SkipWithError("not every node has answered");
  }
}

void sizes(benchmark::internal::Benchmark* benchmark) {
  benchmark->Arg(100'000)->Arg(1'000'000)->Unit(benchmark::kMillisecond);
}

}  // namespace

#define PEER(name, Peer)                                                       \
  BENCHMARK(broadcast<Peer, false>)->Name("W4.untracked/" name)->Apply(sizes); \
  BENCHMARK(broadcast<Peer, true>)->Name("W4.tracked/" name)->Apply(sizes)

PEER("limit", bench::LimitPeer);
PEER("raw_asio", bench::RawAsioPeer);
PEER("fedagent", bench::FedagentPeer);

BENCHMARK_MAIN();
