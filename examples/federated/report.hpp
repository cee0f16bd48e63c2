// What the researcher tells on the terminal, and how it judges the run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "baselines.hpp"
#include "fedagent/counters.hpp"
#include "fedagent/node_status.hpp"

namespace federated {

/// How one node fared in a round.
struct NodeReport {
  std::string node;
  bool answered = false;
  fedagent::NodeActiveStatus status =
      fedagent::NodeActiveStatus::active;  ///< At the end of the round.
  std::string fault;  ///< Why its answer was not used although it came; empty: it did not come.
};

struct RoundReport {
  std::uint32_t round = 0;
  std::uint32_t rounds = 0;
  double accuracy = 0.0;
  bool quorum_met = true;  ///< False: too few answers, the model stays as it was.
  double seconds = 0.0;
  std::size_t bytes_sent = 0;  ///< Of payloads, once per node; what transports add is not counted.
  std::size_t bytes_received = 0;
  std::vector<NodeReport> nodes;

  std::size_t answered() const;
};

/// One line: accuracy, time, bytes, and the nodes by what became of them.
std::string progress_line(const RoundReport& report);

/// What a hospital prints when it has taken a training task and begins to work on it.
std::string task_taken_line(std::string_view hospital, std::uint32_t round, std::size_t rows);

/// The round that one of the two lines above is about. The demo steers by it.
std::optional<std::uint32_t> round_of(std::string_view line);

/// What the researcher prints when hospitals can connect, and how the demo learns the port from it.
std::string listening_line(std::string_view endpoint);
std::optional<std::string> listening_endpoint_of(std::string_view line);

/// What came out of the training.
struct Result {
  std::vector<RoundReport> rounds;
  double accuracy = 0.0;
  std::size_t rows = 0;  ///< That the hospitals said they have.
  /// The accuracy of the final model on a hospital's own rows, as far as they told.
  std::vector<std::pair<std::string, double>> on_own_rows;
};

/// The two tables: accuracies, and what became of the messages.
std::string accuracy_table(const Result& result, const std::optional<Baselines>& baselines,
                           std::size_t test_rows);
std::string messages_table(const fedagent::Counters& counters);

/// `accepted = confirmed + dropped + pending`, in numbers.
std::string conservation_line(const fedagent::Counters& counters);

/// How far below the pooled accuracy the federated one may be: 2 points.
inline constexpr double allowed_gap = 0.02;

/// What is wrong with the run; empty when it is good.
std::vector<std::string> faults_of(const Result& result, const std::optional<Baselines>& baselines,
                                   const fedagent::Counters& counters);

}  // namespace federated
