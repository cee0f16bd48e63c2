// W1 and W2 with CAF, the C++ Actor Framework: an actor for each agent, an actor for each node.
//
// The agent's actor holds the queue, the open requests and the node's parked poll as a promise; the
// node's actor asks for a task, answers it and asks again. One worker thread. It leaves out what
// fedagent does besides: leases and redelivery, deadlines and ages of messages, several polls of
// one node, outcomes other than the reply, late replies told apart, counters, and hooks. Unlike the
// other peers it could run every agent on another thread, and pays for that.

#include <boost/unordered/unordered_flat_map.hpp>
#include <caf/all.hpp>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "workload.hpp"

using bench::Message;
using MessagePtr = std::shared_ptr<const Message>;

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(MessagePtr)

namespace {

using send_atom = caf::atom_constant<caf::atom("send")>;          // NOLINT: CAF's way
using get_task_atom = caf::atom_constant<caf::atom("get_task")>;  // NOLINT
using reply_atom = caf::atom_constant<caf::atom("reply")>;        // NOLINT
using answered_atom = caf::atom_constant<caf::atom("answered")>;  // NOLINT
using start_atom = caf::atom_constant<caf::atom("start")>;        // NOLINT

struct AgentState {
  std::deque<MessagePtr> queue{};
  caf::response_promise parked{};
  // Whoever sent the request has the reply sent to it.
  boost::unordered_flat_map<std::string, caf::actor> open{};
};

caf::behavior agent(caf::stateful_actor<AgentState>* self) {
  return {
      [self](send_atom, const MessagePtr& message) {
        auto& state = self->state;
        state.open.emplace(std::string(message->request_id()),
                           caf::actor_cast<caf::actor>(self->current_sender()));
        if (state.parked.pending()) {
          state.parked.deliver(message);
        } else {
          state.queue.push_back(message);
        }
      },
      [self](get_task_atom) -> caf::result<MessagePtr> {
        auto& state = self->state;
        if (state.queue.empty()) {
          state.parked = self->make_response_promise();
          return state.parked;
        }
        auto message = std::move(state.queue.front());
        state.queue.pop_front();
        return message;
      },
      [self](reply_atom, const MessagePtr& reply) {
        const auto found = self->state.open.find(std::string(reply->request_id()));
        if (found != self->state.open.end()) {
          self->send(found->second, answered_atom::value, reply);
          self->state.open.erase(found);
        }
      },
  };
}

void poll(caf::event_based_actor* self, const caf::actor& agent) {
  self->request(agent, caf::infinite, get_task_atom::value).then([=](const MessagePtr& task) {
    self->send(agent, reply_atom::value, std::make_shared<const Message>(task->reply()));
    poll(self, agent);
  });
}

caf::behavior node(caf::event_based_actor* self, const caf::actor& agent) {
  self->set_default_handler(caf::drop);
  poll(self, agent);
  return {[](start_atom) {}};
}

/// Sends the next messages when all are answered.
struct ResearcherState {
  std::int64_t outstanding = 0;
  std::int64_t unanswered = 0;
  std::int64_t left = 0;
  std::uint64_t number = 0;
  std::promise<void>* done = nullptr;
};

caf::behavior researcher(caf::stateful_actor<ResearcherState>* self, const caf::actor& agent) {
  const auto send_next = [=] {
    auto& state = self->state;
    for (state.unanswered = 0; state.unanswered < state.outstanding; ++state.unanswered) {
      self->send(agent, send_atom::value, std::make_shared<const Message>(++state.number));
    }
  };
  return {
      [=](start_atom, std::int64_t outstanding, std::int64_t round_trips, std::uint64_t done) {
        self->state.outstanding = outstanding;
        self->state.left = round_trips;
        self->state.done = reinterpret_cast<std::promise<void>*>(done);
        send_next();
      },
      [=](answered_atom, const MessagePtr&) {
        auto& state = self->state;
        if (--state.unanswered > 0) {
          return;
        }
        state.left -= state.outstanding;
        if (state.left > 0) {
          send_next();
        } else {
          state.done->set_value();
        }
      },
  };
}

caf::actor_system_config& one_worker() {
  static caf::actor_system_config config;
  config.set("caf.scheduler.max-threads", 1);
  return config;
}

void round_trip(benchmark::State& state) {
  caf::actor_system system(one_worker());
  const auto served = system.spawn(agent);
  const auto answering = system.spawn(node, served);
  const auto asking = system.spawn(researcher, served);
  constexpr std::int64_t round_trips = 6400;
  caf::scoped_actor self(system);
  for (auto _ : state) {
    std::promise<void> done;
    self->send(asking, start_atom::value, state.range(0), round_trips,
               reinterpret_cast<std::uint64_t>(&done));
    done.get_future().wait();
  }
  state.counters["ops"] = static_cast<double>(round_trips);
  self->send_exit(asking, caf::exit_reason::kill);
  self->send_exit(answering, caf::exit_reason::kill);
  self->send_exit(served, caf::exit_reason::kill);
}

void memory(benchmark::State& state) {
  const auto count = bench::size_of(state);
  const auto ids = bench::node_ids(count);
  for (auto _ : state) {
    caf::actor_system system(one_worker());
    auto before = bench::Allocations::now();
    auto resident = bench::resident_bytes();
    boost::unordered_flat_map<std::string, caf::actor> agents;
    for (const auto& id : ids) {
      agents.emplace(id, system.spawn<caf::lazy_init>(agent));
    }
    const auto each = static_cast<double>(count);
    state.counters["heap_idle"] =
        static_cast<double>((bench::Allocations::now() - before).live_bytes()) / each;
    state.counters["rss_idle"] = static_cast<double>(bench::resident_bytes() - resident) / each;
    for (auto& [id, actor] : agents) {
      caf::anon_send_exit(actor, caf::exit_reason::kill);
    }
  }
}

}  // namespace

BENCHMARK(round_trip)->Name("W1/caf")->Arg(1)->Arg(64)->MeasureProcessCPUTime();
BENCHMARK(memory)->Name("W2.memory/caf")->Arg(100'000)->Arg(1'000'000)->Iterations(1);

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
}
