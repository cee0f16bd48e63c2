// What the researcher tells on the terminal, and how it judges the run.
#pragma once

#include <boost/system/error_code.hpp>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "baselines.hpp"
#include "fedagent/counters.hpp"
#include "fedagent/options.hpp"
#include "fedagent/round_result.hpp"

namespace federated {

/// How one node fared in a round, as the round's row tells it.
struct NodeSummary {
  std::string node;
  fedagent::NodeOutcome outcome = fedagent::NodeOutcome::reply;
  boost::system::error_code error;
  std::string fault;  ///< Why its answer was not used although it came.
  /// From the send to the outcome; of which in the queue, taken but not confirmed, confirmed.
  fedagent::Duration took{};
  fedagent::Duration queued{};
  fedagent::Duration leased{};
  fedagent::Duration working{};
  std::uint32_t attempts = 0;
  std::size_t bytes_sent = 0;  ///< Of messages; what transports add is not counted.
  std::size_t bytes_received = 0;

  bool answered() const { return outcome == fedagent::NodeOutcome::reply && fault.empty(); }
};

struct RoundSummary {
  std::uint32_t round = 0;
  std::uint32_t rounds = 0;
  double accuracy = 0.0;
  bool model_changed = true;  ///< False: too few answers, the model stays as it was.
  fedagent::RoundEnd end = fedagent::RoundEnd::complete;
  fedagent::Duration took{};
  std::vector<NodeSummary> nodes;

  std::size_t answered() const;
  std::size_t bytes_sent() const;
  std::size_t bytes_received() const;
};

/// One line: accuracy, time, how it ended, bytes, and the nodes by what became of them.
std::string progress_line(const RoundSummary& round);

/// A reply that came after its round.
struct LateSummary {
  std::string node;
  std::uint32_t round = 0;
  std::uint64_t staleness = 0;  ///< How many rounds had begun since.
  fedagent::Duration took{};    ///< From the send.
  bool unusable = false;
};

/// That it came. The demo must not take this line for one about a round that goes on.
std::string late_line(const LateSummary& late);

/// What a hospital prints when it has taken a training task and begins to work on it.
std::string task_taken_line(std::string_view hospital, std::uint32_t round, std::size_t rows);

/// The round that a progress line or the line above is about. The demo steers by it.
std::optional<std::uint32_t> round_of(std::string_view line);

/// What the researcher prints when hospitals can connect, and how the demo learns the port from it.
std::string listening_line(std::string_view endpoint);
std::optional<std::string> listening_endpoint_of(std::string_view line);

/// What came out of the training.
struct Result {
  std::vector<RoundSummary> rounds;
  std::vector<LateSummary> late;  ///< In the order in which they came.
  std::uint64_t late_missed = 0;  ///< Late replies that were dropped unread.
  double accuracy = 0.0;
  std::size_t rows = 0;  ///< That the hospitals said they have.
  /// The accuracy of the final model on a hospital's own rows, as far as they told.
  std::vector<std::pair<std::string, double>> on_own_rows;
};

/// The tables: accuracies; how the hospitals fared in the rounds; how the rounds ended; who came
/// too late (empty when nobody did); what became of the messages.
std::string accuracy_table(const Result& result, const std::optional<Baselines>& baselines,
                           std::size_t test_rows);
std::string hospitals_table(const Result& result);
std::string rounds_table(const Result& result);
std::string late_table(const Result& result);
std::string messages_table(const fedagent::Counters& counters);

/// `accepted = confirmed + dropped + pending`, in numbers.
std::string conservation_line(const fedagent::Counters& counters);

/// How far below the pooled accuracy the federated one may be: 2 points.
inline constexpr double allowed_gap = 0.02;

/// What is wrong with the run; empty when it is good.
std::vector<std::string> faults_of(const Result& result, const std::optional<Baselines>& baselines,
                                   const fedagent::Counters& counters);

}  // namespace federated
