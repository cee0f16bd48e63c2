// Four ways to ask many nodes: wait for all, for some and a little longer, for some and take the
// rest when it comes, one after another. Each function returns whether it went as it says.
#include <fmt/format.h>

#include <boost/asio.hpp>
#include <cmath>
#include <fedagent/explain.hpp>
#include <fedagent/fedagent.hpp>
#include <fedagent/transport/memory.hpp>
#include <span>
#include <string>
#include <vector>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using Message = fedagent::memory::Message;
using Store = fedagent::AgentStore<fedagent::memory::Transport<>>;
using Rounds = fedagent::Rounds<fedagent::memory::Transport<>>;
using Nodes = std::vector<std::string>;
using Gate = asio::steady_timer;  // never expires; cancelling it lets the slow node go on

namespace {

bool say(const std::string& line, std::string_view expected) {
  fmt::print("{}\n", line);
  return line == expected;
}

// Adds its name to what it gets. A slow one does so when the gate is opened.
asio::awaitable<void> hospital(Store& store, std::string name, Gate* slow) {
  fedagent::memory::Node node(store, name);
  while (const auto task = co_await node.poll()) {
    if (slow != nullptr) {
      co_await slow->async_wait(asio::as_tuple(asio::use_awaitable));
    }
    Message reply{.request_id = (*task)->request_id, .body = (*task)->body + " " + name};
    co_await node.reply(std::move(reply));
  }
}

asio::awaitable<bool> synchronous(const Store& store, Nodes nodes) {
  // [synchronous]
  fedagent::RoundPolicy policy;  // waits for all ...
  policy.deadline = 100ms;       // ... and no longer than this
  Message task{.request_id = "synchronous", .body = "model"};
  const auto result = co_await fedagent::round(store, nodes, std::move(task), policy);
  std::string line = "synchronous:";
  for (const auto& row : result.rows) {
    line += fmt::format(" {}: {};", row.node_id, to_string(row.outcome));
  }
  // [/synchronous]
  co_return say(line, "synchronous: north: reply; south: reply; east: deadline passed;");
}

asio::awaitable<void> explain_soon(Rounds rounds, bool& ok) {
  Gate timer(co_await asio::this_coro::executor, 10ms);
  co_await timer.async_wait(asio::use_awaitable);
  // [explain]
  const auto reports = fedagent::explain(rounds);
  for (const auto& report : reports) {
    fmt::print("{}\n", report);
  }
  // [/explain]
  ok = reports.size() == 1 && reports[0].replied == 2 && reports[0].grace_in &&
       reports[0].awaited.size() == 1 && reports[0].awaited[0].node_id == "east";
}

asio::awaitable<bool> quorum_and_grace(const Store& store, Nodes nodes) {
  const Rounds rounds(store);
  bool explained = false;
  asio::co_spawn(store.get_executor(), explain_soon(rounds, explained), asio::detached);
  // [quorum]
  fedagent::RoundPolicy policy;
  policy.quorum = 2;
  policy.grace = 100ms;
  Message task{.request_id = "quorum", .body = "model"};
  const auto result = co_await rounds.run(nodes, std::move(task), policy);
  // [/quorum]
  const auto line = fmt::format("quorum: {} of {}; {}: {}", result.replied, result.wanted,
                                result.rows[2].node_id, to_string(result.rows[2].outcome));
  co_return say(line, "quorum: 2 of 2; east: withdrawn") && explained;
}

// As FedBuff does (Nguyen et al., 2022): a step after every two answers; what is stale counts less.
asio::awaitable<bool> buffered(const Store& store, Nodes nodes, Gate& gate) {
  // [buffered]
  const Rounds rounds(store);
  fedagent::RoundPolicy policy;
  policy.quorum = 2;  // and no grace: the round ends with the second answer
  std::string line = "buffered:";
  for (int step = 1; step <= 3; ++step) {
    if (step == 3) {
      gate.cancel();  // the slow node answers to the first step
    }
    Message task{.request_id = fmt::format("step-{}", step), .body = "model"};
    const auto result = co_await rounds.run(nodes, std::move(task), policy);
    double weight = static_cast<double>(result.replied);
    while (const auto late = rounds.late().try_next()) {
      weight += 1.0 / std::sqrt(1.0 + static_cast<double>(late->staleness));
      line += fmt::format(" {} is {} rounds late:", late->node_id, late->staleness);
    }
    line += fmt::format(" {:.2f}", weight);
  }
  // [/buffered]
  co_return say(line, "buffered: 2.00 2.00 east is 2 rounds late: 2.58");
}

// [relay]
// What the node is asked with: what the one before it has answered.
Message pass_on(std::string_view /*node_id*/, std::span<const Rounds::row_type> rows) {
  Message task{.request_id = "relay", .body = "model"};
  for (const auto& row : rows) {
    task.body = row.reply ? row.reply->body : task.body;
  }
  return task;
}

asio::awaitable<bool> relay(const Store& store, Nodes nodes) {
  fedagent::RoundPolicy policy =
      fedagent::seed_policies(fedagent::StopOnError{}, fedagent::DiscardOnTimeout{5s});
  policy.max_in_flight = 1;
  const auto result = co_await fedagent::round(store, nodes, pass_on, policy);
  const auto& last = result.rows.back();  // it may have no answer
  co_return say("relay: " + (last.reply ? last.reply->body : last.error.message()),
                "relay: model north south west");
}
// [/relay]

asio::awaitable<void> story(Store& store, Gate& gate, bool& ok) {
  const Nodes with_slow_one = {"north", "south", "east"};
  const Nodes quick = {"north", "south", "west"};
  ok = co_await synchronous(store, with_slow_one);
  gate.cancel();
  ok = co_await quorum_and_grace(store, with_slow_one) && ok;
  gate.cancel();
  ok = co_await buffered(store, with_slow_one, gate) && ok;
  ok = co_await relay(store, quick) && ok;
  store.stop();
  gate.cancel();
}

}  // namespace

int main() {
  asio::io_context io;
  Store store(io.get_executor());
  Gate gate(io, Gate::time_point::max());
  bool ok = false;
  for (const auto* const quick : {"north", "south", "west"}) {
    asio::co_spawn(io, hospital(store, quick, nullptr), asio::detached);
  }
  asio::co_spawn(io, hospital(store, "east", &gate), asio::detached);
  asio::co_spawn(io, story(store, gate, ok), asio::detached);
  io.run();
  return ok && store.counters().balanced() ? 0 : 1;
}
