// W7: one server on two threads beside one on one: a loop and a store for each thread, with half of
// the agents. Each of 64 agents of a store has one request outstanding, as in W1.
//
// The real time counts here: it is the throughput of the whole server.

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <stop_token>
#include <thread>

#include "fedagent_user.hpp"
#include "workload.hpp"

namespace asio = boost::asio;

namespace {

constexpr std::int64_t agents_per_thread = 64;

/// One thread's part of the server.
class Part {
 public:
  explicit Part(benchmark::State& state) : state_(state) {}

  void run() {
    for (const auto& id : bench::node_ids(agents_per_thread)) {
      agents_.push_back(store_.retrieve(id).value());
      asio::co_spawn(io_, bench::user::answer(agents_.back()), asio::detached);
    }
    asio::post(io_, [this] { send_to_all(); });
    io_.run();
  }

 private:
  void send_to_all() {
    unanswered_ = agents_per_thread;
    ++number_;
    for (const auto& agent : agents_) {
      (void)agent.try_send(std::make_shared<const bench::Message>(number_),
                           [this](const bench::user::Outcome&) { answered(); });
    }
  }

  void answered() {
    if (--unanswered_ > 0) {
      return;
    }
    if (state_.KeepRunningBatch(agents_per_thread)) {
      asio::post(io_, [this] { send_to_all(); });
    } else {
      io_.stop();
    }
  }

  benchmark::State& state_;
  asio::io_context io_{1};
  bench::user::Store store_{io_.get_executor()};
  std::vector<bench::user::Agent> agents_{};
  std::int64_t unanswered_ = 0;
  std::uint64_t number_ = 0;
};

void round_trips(benchmark::State& state) {
  Part(state).run();
  state.SetItemsProcessed(state.iterations());
}

}  // namespace

BENCHMARK(round_trips)->Name("W7/fedagent")->ThreadRange(1, 2)->UseRealTime();

int main(int argc, char** argv) {
  // While a process has one thread the counts of a shared_ptr are not atomic; here they always are.
  const std::jthread second([](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
  });
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
