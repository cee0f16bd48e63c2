// The federated training itself: rounds over the agents of a store. It works with any transport
// whose messages have a `request_id` and a `body`; the researcher uses TCP, the test uses memory.
#pragma once

#include <fmt/core.h>

#include <algorithm>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/experimental/channel.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "dataset.hpp"
#include "fedagent/agent_store.hpp"
#include "fedavg.hpp"
#include "journal.hpp"
#include "logistic.hpp"
#include "payload.hpp"
#include "report.hpp"

namespace federated {

struct TrainingPlan {
  std::uint32_t rounds = 30;
  std::size_t nodes = 5;   ///< Training begins when so many are there.
  std::size_t quorum = 3;  ///< With fewer answers a round changes nothing.
  std::chrono::milliseconds round_deadline{800};
  std::chrono::milliseconds patience{30000};  ///< For nodes to come, and to tell their statistics.
  std::chrono::milliseconds farewell{3000};   ///< For the nodes to take the final model.
  TrainOptions options;
};

/// The training could not begin. The text says what was missing.
class TrainingError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The answers of all nodes to one task.
struct Gathering {
  struct Answer {
    NodeReport report;
    std::optional<Content> content;  ///< When it answered, and with a payload of this round.
  };
  std::vector<Answer> answers;  ///< By node id.
  std::size_t bytes_sent = 0;
  std::size_t bytes_received = 0;

  /// Takes the answers that are a `Kind` and pass `check`, which throws std::exception for those
  /// that do not.
  template <class Kind, class Check>
  void use(Check check) {
    for (auto& answer : answers) {
      if (!answer.content) {
        continue;
      }
      try {
        if (const auto* const refusal = std::get_if<Refusal>(&*answer.content)) {
          throw std::invalid_argument(refusal->reason);
        }
        if (!std::holds_alternative<Kind>(*answer.content)) {
          throw std::invalid_argument("it is a reply of another kind");
        }
        check(answer.report.node, std::get<Kind>(*answer.content));
        answer.report.answered = true;
      } catch (const std::exception& error) {
        answer.report.fault = error.what();
      }
    }
  }
};

/// Sends one task to every node that the store knows and waits until each has answered or the time
/// is over.
/**
 * @par Lifetimes
 * The store must outlive the operation.
 * @par Cancellation
 * The requests stay open until their time is over; what comes of them is ignored.
 */
template <class Store>
boost::asio::awaitable<Gathering> ask_all(Store& store, std::string request_id, Payload task,
                                          std::chrono::milliseconds time) {
  using Message = typename Store::message_type;
  struct Ended {
    std::string node;
    typename Store::outcome_type outcome;
  };
  using Channel = boost::asio::experimental::channel<void(boost::system::error_code, Ended)>;

  Message message;
  message.request_id = std::move(request_id);
  message.body = encode(task);
  const auto shared = std::make_shared<const Message>(std::move(message));  // one for all nodes
  const auto deadline = Store::clock_type::now() + time;

  std::vector<typename Store::agent_type> agents;
  store.for_each([&agents](const auto& agent) { agents.push_back(agent); });
  std::sort(agents.begin(), agents.end(),
            [](const auto& a, const auto& b) { return a.id() < b.id(); });

  // There is room for every outcome, so no handler ever finds the channel full.
  const auto channel = std::make_shared<Channel>(store.get_executor(), agents.size());
  Gathering gathering;
  std::size_t open = 0;
  for (const auto& agent : agents) {
    gathering.answers.push_back(
        {{std::string(agent.id()), false, agent.status_async(), ""}, std::nullopt});
    const auto on_reply = [channel,
                           node = std::string(agent.id())](typename Store::outcome_type outcome) {
      channel->try_send(boost::system::error_code(), Ended{node, std::move(outcome)});
    };
    if (agent.try_send(shared, on_reply, {.deadline = deadline})) {
      ++open;
      gathering.bytes_sent += shared->body.size();
    }
  }

  for (; open > 0; --open) {
    auto ended = co_await channel->async_receive(boost::asio::use_awaitable);
    const auto answer = std::find_if(gathering.answers.begin(), gathering.answers.end(),
                                     [&ended](const Gathering::Answer& candidate) {
                                       return candidate.report.node == ended.node;
                                     });
    if (!ended.outcome) {
      continue;
    }
    const auto& body = (*ended.outcome)->body;
    gathering.bytes_received += body.size();
    try {
      auto payload = decode(body);
      if (payload.round != task.round) {
        throw PayloadError(fmt::format("it is about round {}, not {}", payload.round, task.round));
      }
      answer->content = std::move(payload.content);
    } catch (const PayloadError& error) {
      answer->report.fault = error.what();
    }
  }
  for (std::size_t i = 0; i < agents.size(); ++i) {
    gathering.answers[i].report.status = agents[i].status_async();
  }
  co_return gathering;
}

namespace detail {

/// Why a wait for nodes ended without them.
inline std::string why_not(boost::system::error_code error, std::chrono::milliseconds patience) {
  return error == fedagent::errc::deadline_passed
             ? fmt::format("none more within {} s", static_cast<double>(patience.count()) / 1000.0)
             : error.message();
}

}  // namespace detail

/// Whom the training tells what happens; both may print.
struct TrainingEvents {
  std::function<void(const RoundReport&)> on_round;
  std::function<void(const std::string& node, const std::string& fault)> on_fault;
};

namespace detail {

inline void tell_faults(const Gathering& gathering, const TrainingEvents& events) {
  for (const auto& answer : gathering.answers) {
    if (!answer.report.fault.empty() && events.on_fault) {
      events.on_fault(answer.report.node, answer.report.fault);
    }
  }
}

}  // namespace detail

/// Trains one model over the nodes of the store; `test` are the rows that it is judged by.
/**
 * First the nodes tell the statistics of their features, from which the common scaling comes: no
 * row leaves a hospital. Then the rounds. At the end every node gets the final model.
 *
 * @par Lifetimes
 * The store and the journal must outlive the operation.
 * @par Errors
 * TrainingError when fewer than `nodes` come, or fewer than `quorum` tell their statistics, in
 * `patience`.
 */
template <class Store>
boost::asio::awaitable<Result> run_training(Store& store, TrainingPlan plan, Dataset test,
                                            Journal& journal, TrainingEvents events) {
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
  Payload statistics_task{0, StatisticsTask{}};
  auto gathering = co_await ask_all(store, "statistics", std::move(statistics_task), plan.patience);
  gathering.template use<StatisticsReply>([&](const std::string&, const StatisticsReply& reply) {
    if (reply.statistics.mean.size() != features) {
      throw std::invalid_argument(fmt::format("its rows have {} features, the test rows {}",
                                              reply.statistics.mean.size(), features));
    }
    statistics = merged(statistics, reply.statistics);
    ++told;
  });
  detail::tell_faults(gathering, events);
  if (told == 0 || told < plan.quorum) {
    throw TrainingError(
        fmt::format("{} hospitals told their statistics, {} are needed", told, plan.quorum));
  }

  const auto scaling = scaling_from(statistics);
  test = standardised(std::move(test), scaling);
  Result result;
  result.rows = statistics.count;
  auto model = zero_model(features);
  for (std::uint32_t round = 1; round <= plan.rounds; ++round) {
    // Without this the rounds would fly by, each without its quorum, while the nodes are away.
    const auto enough =
        co_await store.wait_for_nodes(plan.quorum, Store::clock_type::now() + plan.patience);
    if (!enough) {
      throw TrainingError(fmt::format("round {}: fewer than {} hospitals are left: {}", round,
                                      plan.quorum, detail::why_not(enough.error(), plan.patience)));
    }
    const auto began = Journal::Clock::now();
    journal.round_began(began);
    Payload train_task{round, TrainTask{plan.options, scaling, model}};
    gathering = co_await ask_all(store, fmt::format("round-{}", round), std::move(train_task),
                                 plan.round_deadline);
    std::vector<Update> updates;
    gathering.template use<TrainReply>([&](const std::string&, const TrainReply& reply) {
      if (reply.update.model.size() != features + 1) {
        throw std::invalid_argument(fmt::format("its model has {} numbers, not {}",
                                                reply.update.model.size(), features + 1));
      }
      updates.push_back(reply.update);
    });
    detail::tell_faults(gathering, events);
    const bool quorum_met = !updates.empty() && updates.size() >= plan.quorum;
    if (quorum_met) {
      model = federated_average(updates);
    }

    RoundReport report;
    report.round = round;
    report.rounds = plan.rounds;
    report.accuracy = accuracy(model, test);
    report.quorum_met = quorum_met;
    report.seconds = std::chrono::duration<double>(Journal::Clock::now() - began).count();
    report.bytes_sent = gathering.bytes_sent;
    report.bytes_received = gathering.bytes_received;
    for (const auto& answer : gathering.answers) {
      report.nodes.push_back(answer.report);
    }
    if (events.on_round) {
      events.on_round(report);
    }
    result.rounds.push_back(std::move(report));
  }
  result.accuracy = accuracy(model, test);

  Payload final_task{0, FinalTask{scaling, model}};
  gathering = co_await ask_all(store, "final", std::move(final_task), plan.farewell);
  gathering.template use<FinalReply>([&](const std::string& node, const FinalReply& reply) {
    result.on_own_rows.emplace_back(node, reply.accuracy);
  });
  detail::tell_faults(gathering, events);
  co_return result;
}

}  // namespace federated
