// The federated training itself: rounds over the nodes of a store. It works with any transport
// whose messages have a `request_id` and a `body`; the researcher uses TCP, the test uses memory.
#pragma once

#include <fmt/core.h>

#include <algorithm>
#include <boost/asio/awaitable.hpp>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "dataset.hpp"
#include "fedagent/agent_store.hpp"
#include "fedagent/round.hpp"
#include "fedavg.hpp"
#include "journal.hpp"
#include "logistic.hpp"
#include "payload.hpp"
#include "report.hpp"

namespace federated {

struct TrainingPlan {
  std::uint32_t rounds = 30;
  std::size_t nodes = 5;   ///< Training begins when so many are there.
  std::size_t quorum = 4;  ///< A round waits for so many answers, or for as many as can come.
  std::size_t least = 3;   ///< With fewer answers a round changes nothing.
  std::chrono::milliseconds round_deadline{800};
  std::chrono::milliseconds grace{300};       ///< For the rest, when the quorum is there.
  std::chrono::milliseconds node_floor{350};  ///< No node has less time, however fast it was.
  std::chrono::milliseconds patience{30000};  ///< For nodes to come, and to tell their statistics.
  std::chrono::milliseconds farewell{3000};   ///< For the nodes to take the final model.
  TrainOptions options;
};

/// The training could not begin. The text says what was missing.
class TrainingError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Whom the training tells what happens; all may print.
struct TrainingEvents {
  std::function<void(const RoundSummary&)> on_round;
  std::function<void(const std::string& node, const std::string& fault)> on_fault;
  std::function<void(const LateSummary&)> on_late;
};

namespace detail {

/// Why a wait for nodes ended without them.
inline std::string why_not(boost::system::error_code error, std::chrono::milliseconds patience) {
  return error == fedagent::errc::deadline_passed
             ? fmt::format("none more within {} s", static_cast<double>(patience.count()) / 1000.0)
             : error.message();
}

/// All nodes that the store knows, by name.
template <class Store>
std::vector<std::string> nodes_of(const Store& store) {
  std::vector<std::string> nodes;
  store.for_each([&nodes](const auto& agent) { nodes.emplace_back(agent.id()); });
  std::sort(nodes.begin(), nodes.end());
  return nodes;
}

/// How many of them can answer: those that are not DISCONNECTED.
template <class Store>
std::size_t reachable(const Store& store) {
  std::size_t count = 0;
  store.for_each([&count](const auto& agent) {
    count += agent.status_async() == fedagent::NodeActiveStatus::disconnected ? 0U : 1U;
  });
  return count;
}

template <class Message>
Message message_of(std::string request_id, const Payload& task) {
  Message message;
  message.request_id = std::move(request_id);
  message.body = encode(task);
  return message;
}

constexpr std::string_view round_prefix = "round-";

/// The round of a training task or of its reply: 7 for the request "round-7".
inline std::uint32_t round_of_request(std::string_view request_id) {
  request_id.remove_prefix(std::min(round_prefix.size(), request_id.size()));
  std::uint32_t round = 0;
  std::from_chars(request_id.data(), request_id.data() + request_id.size(), round);
  return round;
}

/// The content of a reply. Throws std::exception when it is not a `Kind` about this round.
template <class Kind>
Kind content_of(std::string_view body, std::uint32_t round) {
  auto payload = decode(body);
  if (payload.round != round) {
    throw PayloadError(fmt::format("it is about round {}, not {}", payload.round, round));
  }
  if (const auto* const refusal = std::get_if<Refusal>(&payload.content)) {
    throw std::invalid_argument(refusal->reason);
  }
  if (!std::holds_alternative<Kind>(payload.content)) {
    throw std::invalid_argument("it is a reply of another kind");
  }
  return std::get<Kind>(std::move(payload.content));
}

/// What a node has learned. Throws std::exception when the reply cannot be used.
template <class Message>
Update update_in(const Message& reply, std::size_t features) {
  auto update = content_of<TrainReply>(reply.body, round_of_request(reply.request_id)).update;
  if (update.model.size() != features + 1) {
    throw std::invalid_argument(
        fmt::format("its model has {} numbers, not {}", update.model.size(), features + 1));
  }
  return update;
}

/// What is wrong with what `action` looks at; empty when it throws nothing.
template <class Action>
std::string fault_of(Action action) {
  try {
    action();
  } catch (const std::exception& error) {
    return error.what();
  }
  return {};
}

inline void tell_fault(const TrainingEvents& events, const std::string& node,
                       const std::string& fault) {
  if (!fault.empty() && events.on_fault) {
    events.on_fault(node, fault);
  }
}

/// Calls `take(node, content)` for every answer that is a `Kind`, and tells of the others.
template <class Kind, class RoundResult, class Take>
void use_answers(const RoundResult& result, const TrainingEvents& events, Take take) {
  for (const auto& row : result.replies()) {
    tell_fault(events, row.node_id,
               fault_of([&] { take(row.node_id, content_of<Kind>(row.reply->body, 0)); }));
  }
}

template <class Row>
NodeSummary summary_of(const Row& row) {
  return {row.node_id,  row.outcome,    row.error,         {},
          row.took,     row.queued,     row.leased,        row.working,
          row.attempts, row.bytes_sent, row.bytes_received};
}

/// Notes the replies that have come too late for their rounds since it was last asked.
template <class Rounds>
void take_late(const Rounds& rounds, Result& result, const TrainingEvents& events) {
  while (const auto late = rounds.late().try_next()) {
    result.late_missed += late->missed;
    result.late.push_back({late->node_id, static_cast<std::uint32_t>(late->round), late->staleness,
                           late->took, late->is_error});
    if (events.on_late) {
      events.on_late(result.late.back());
    }
  }
}

}  // namespace detail

/// How the training rounds go: enough answers, then a grace for the rest; each node has as long as
/// it used to take, and somewhat more.
inline fedagent::RoundPolicy policy_of(const TrainingPlan& plan, std::size_t reachable) {
  fedagent::RoundPolicy policy;
  policy.quorum = std::min(plan.quorum, reachable);
  policy.deadline = plan.round_deadline;
  policy.grace = plan.grace;
  policy.per_node = fedagent::AdaptiveDeadline{
      .floor = std::min(plan.node_floor, plan.round_deadline), .cap = plan.round_deadline};
  return policy;
}

/// Trains one model over the nodes of the store; `test` are the rows that it is judged by.
/**
 * First the nodes tell the statistics of their features, from which the common scaling comes: no
 * row leaves a hospital. Then the rounds. At the end every node gets the final model.
 *
 * A reply that comes after its round is counted and not averaged: it was trained from a model that
 * is no longer the common one.
 *
 * @par Lifetimes
 * The store and the journal must outlive the operation.
 * @par Errors
 * TrainingError when fewer than `nodes` come, fewer than `least` tell their statistics or fewer
 * than `least` are left, in `patience`.
 */
template <class Store>
boost::asio::awaitable<Result> run_training(Store& store, TrainingPlan plan, Dataset test,
                                            Journal& journal, TrainingEvents events) {
  using Message = typename Store::message_type;
  const auto arrived =
      co_await store.wait_for_nodes(plan.nodes, Store::clock_type::now() + plan.patience);
  if (!arrived) {
    throw TrainingError(fmt::format("only {} of {} hospitals came: {}", store.size(), plan.nodes,
                                    detail::why_not(arrived.error(), plan.patience)));
  }

  const std::size_t features = test.features;
  Statistics statistics;
  std::size_t told = 0;
  // The tasks have names: GCC 12 destroys twice what is built with braces in co_await's expression.
  fedagent::RoundPolicy patiently;
  patiently.deadline = patiently.reconnect = plan.patience;
  auto task = detail::message_of<Message>("statistics", Payload{0, StatisticsTask{}});
  auto answers =
      co_await fedagent::round(store, detail::nodes_of(store), std::move(task), patiently);
  detail::use_answers<StatisticsReply>(
      answers, events, [&](const std::string&, const StatisticsReply& reply) {
        if (reply.statistics.mean.size() != features) {
          throw std::invalid_argument(fmt::format("its rows have {} features, the test rows {}",
                                                  reply.statistics.mean.size(), features));
        }
        statistics = merged(statistics, reply.statistics);
        ++told;
      });
  if (told == 0 || told < plan.least) {
    throw TrainingError(
        fmt::format("{} hospitals told their statistics, {} are needed", told, plan.least));
  }

  const auto scaling = scaling_from(statistics);
  test = standardised(std::move(test), scaling);
  Result result;
  result.rows = statistics.count;
  auto model = zero_model(features);
  // A reply that cannot be used is an error to the rounds, and no part of the quorum.
  fedagent::RoundsOptions<Message> options;
  options.is_error = [features](const Message& reply) {
    return !detail::fault_of([&] { detail::update_in(reply, features); }).empty();
  };
  const fedagent::Rounds rounds(store, std::move(options));
  for (std::uint32_t round = 1; round <= plan.rounds; ++round) {
    // Without this the rounds would fly by, each with too few answers, while the nodes are away.
    const auto enough =
        co_await store.wait_for_nodes(plan.least, Store::clock_type::now() + plan.patience);
    if (!enough) {
      throw TrainingError(fmt::format("round {}: fewer than {} hospitals are left: {}", round,
                                      plan.least, detail::why_not(enough.error(), plan.patience)));
    }
    journal.round_began(Journal::Clock::now());
    task = detail::message_of<Message>(fmt::format("{}{}", detail::round_prefix, round),
                                       Payload{round, TrainTask{plan.options, scaling, model}});
    const auto policy = policy_of(plan, detail::reachable(store));
    answers = co_await rounds.run(detail::nodes_of(store), std::move(task), policy);

    RoundSummary summary;
    summary.round = round;
    summary.rounds = plan.rounds;
    summary.end = answers.end;
    summary.took = answers.took;
    std::vector<Update> updates;
    for (const auto& row : answers.rows) {
      auto& node = summary.nodes.emplace_back(detail::summary_of(row));
      if (row.reply) {
        node.fault =
            detail::fault_of([&] { updates.push_back(detail::update_in(*row.reply, features)); });
        detail::tell_fault(events, node.node, node.fault);
      }
    }
    summary.model_changed = !updates.empty() && updates.size() >= plan.least;
    if (summary.model_changed) {
      model = federated_average(updates);
    }
    summary.accuracy = accuracy(model, test);
    detail::take_late(rounds, result, events);
    if (events.on_round) {
      events.on_round(summary);
    }
    result.rounds.push_back(std::move(summary));
  }
  result.accuracy = accuracy(model, test);

  fedagent::RoundPolicy farewell;
  farewell.deadline = farewell.reconnect = plan.farewell;
  task = detail::message_of<Message>("final", Payload{0, FinalTask{scaling, model}});
  answers = co_await fedagent::round(store, detail::nodes_of(store), std::move(task), farewell);
  detail::use_answers<FinalReply>(answers, events,
                                  [&](const std::string& node, const FinalReply& reply) {
                                    result.on_own_rows.emplace_back(node, reply.accuracy);
                                  });
  detail::take_late(rounds, result, events);
  co_return result;
}

}  // namespace federated
