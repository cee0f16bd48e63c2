// W3: a poll of a node opens and ends again, which cancels its disconnection timer and starts it
// anew, while 1, 10,000 or 1,000,000 nodes are WAITING. The loop turns after every 64 of them.

#include <cstddef>
#include <optional>

#include "peers.hpp"

namespace {

template <class Peer>
void liveness(benchmark::State& state) {
  constexpr std::size_t polls_per_turn = 64;
  const auto count = bench::size_of(state);
  auto& peer = bench::shared_peer<Peer>(count);
  std::size_t number = 0;
  const auto cycle = [&] {
    peer.poll_opens(number);
    peer.poll_ends(number);
    number = number + 1 < count ? number + 1 : 0;
  };
  std::size_t warm_up = count + polls_per_turn;  // all are WAITING then
  std::optional<bench::Meter> meter;
  peer.run([&] {
    if (warm_up > 0) {
      cycle();
      --warm_up;
      return true;
    }
    if (!meter) {
      meter.emplace(state);
    }
    if (!state.KeepRunningBatch(polls_per_turn)) {
      meter.reset();
      return false;
    }
    for (std::size_t i = 0; i < polls_per_turn; ++i) {
      cycle();
    }
    return true;
  });
}

void sizes(benchmark::internal::Benchmark* benchmark) {
  benchmark->Arg(1)->Arg(10'000)->Arg(1'000'000);
}

}  // namespace

BENCHMARK(liveness<bench::LimitPeer>)->Name("W3/limit")->Apply(sizes);
BENCHMARK(liveness<bench::RawAsioPeer>)->Name("W3/raw_asio")->Apply(sizes);
BENCHMARK(liveness<bench::FedagentPeer>)->Name("W3/fedagent")->Apply(sizes);
BENCHMARK(liveness<bench::FedagentCoarsePeer>)->Name("W3/fedagent_coarse")->Apply(sizes);

BENCHMARK_MAIN();
