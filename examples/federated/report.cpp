#include "report.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "table.hpp"

namespace federated {

namespace {

using fedagent::NodeActiveStatus;

std::string percent(double share) { return fmt::format("{:.1f} %", 100.0 * share); }

std::string kilobytes(std::size_t bytes) {
  return fmt::format("{:.1f} kB", static_cast<double>(bytes) / 1000.0);
}

/// ` what: node node`, or nothing when no node fulfils the condition.
template <class Condition>
std::string group(const RoundReport& report, std::string_view what, Condition condition) {
  std::string text;
  for (const auto& node : report.nodes) {
    if (condition(node)) {
      text += (text.empty() ? fmt::format("  {}: ", what) : " ") + node.node;
    }
  }
  return text;
}

std::uint64_t pending(const fedagent::Counters& counters) {
  return counters.queued + counters.leased;
}

bool conserved(const fedagent::Counters& counters) {
  return counters.accepted == counters.confirmed + counters.total_dropped() + pending(counters);
}

}  // namespace

std::size_t RoundReport::answered() const {
  return static_cast<std::size_t>(std::count_if(
      nodes.begin(), nodes.end(), [](const NodeReport& node) { return node.answered; }));
}

std::string progress_line(const RoundReport& report) {
  std::string line =
      fmt::format("round {:>2}/{}  {}  {:.2f} s  {} out {} in{}", report.round, report.rounds,
                  percent(report.accuracy), report.seconds, kilobytes(report.bytes_sent),
                  kilobytes(report.bytes_received),
                  group(report, "answered", [](const NodeReport& node) { return node.answered; }));
  for (const auto status :
       {NodeActiveStatus::active, NodeActiveStatus::waiting, NodeActiveStatus::disconnected}) {
    line += group(report, fedagent::to_string(status), [status](const NodeReport& node) {
      return !node.answered && node.fault.empty() && node.status == status;
    });
  }
  line += group(report, "unusable", [](const NodeReport& node) { return !node.fault.empty(); });
  if (!report.quorum_met) {
    line += "  (no quorum: the model stays as it was)";
  }
  return line;
}

std::string task_taken_line(std::string_view hospital, std::uint32_t round, std::size_t rows) {
  return fmt::format("{}: round {}: trains on its {} rows", hospital, round, rows);
}

std::optional<std::uint32_t> round_of(std::string_view line) {
  constexpr std::string_view word = "round ";
  const auto at = line.find(word);
  if (at == std::string_view::npos) {
    return std::nullopt;
  }
  line.remove_prefix(at + word.size());
  line.remove_prefix(std::min(line.find_first_not_of(' '), line.size()));
  std::uint32_t round = 0;
  const auto error = std::from_chars(line.data(), line.data() + line.size(), round).ec;
  return error == std::errc{} ? std::optional(round) : std::nullopt;
}

namespace {
constexpr std::string_view listening = "researcher: listens on ";
}

std::string listening_line(std::string_view endpoint) {
  return fmt::format("{}{}", listening, endpoint);
}

std::optional<std::string> listening_endpoint_of(std::string_view line) {
  return line.starts_with(listening) ? std::optional(std::string(line.substr(listening.size())))
                                     : std::nullopt;
}

std::string accuracy_table(const Result& result, const std::optional<Baselines>& baselines,
                           std::size_t test_rows) {
  Table table({{"model"},
               {"trained on", Align::right},
               {fmt::format("right of {} test rows", test_rows), Align::right},
               {"federated model on own rows", Align::right}});
  table.add_row({"federated", fmt::format("{} rows", result.rows), percent(result.accuracy), ""});
  const auto own = [&result](const std::string& name) {
    const auto found = std::find_if(result.on_own_rows.begin(), result.on_own_rows.end(),
                                    [&name](const auto& entry) { return entry.first == name; });
    return found == result.on_own_rows.end() ? "" : percent(found->second);
  };
  if (baselines) {
    const auto rows = [](const Baseline& baseline) {
      return fmt::format("{} rows", baseline.rows);
    };
    table.add_row(
        {"pooled in one place", rows(baselines->pooled), percent(baselines->pooled.accuracy), ""});
    for (const auto& alone : baselines->alone) {
      table.add_row({alone.name + " alone", rows(alone), percent(alone.accuracy), own(alone.name)});
    }
  } else {
    for (const auto& [name, accuracy] : result.on_own_rows) {
      table.add_row({name, "", "", percent(accuracy)});
    }
  }
  return table.text();
}

std::string messages_table(const fedagent::Counters& counters) {
  Table table({{"messages to hospitals"}, {"", Align::right}});
  const auto add = [&table](std::string what, std::uint64_t count) {
    table.add_row({std::move(what), fmt::format("{}", count)});
  };
  add("accepted", counters.accepted);
  add("confirmed", counters.confirmed);
  for (std::size_t i = 0; i < counters.dropped.size(); ++i) {
    if (counters.dropped[i] > 0) {
      const auto reason = static_cast<fedagent::errc>(i + 1);
      add(fmt::format("dropped: {}", make_error_code(reason).message()), counters.dropped[i]);
    }
  }
  add("pending", pending(counters));
  add("redelivered", counters.redelivered);
  add("refused, the node being DISCONNECTED", counters.refused);
  add("late replies", counters.replies_that_were(fedagent::ReplyDisposition::late));
  return table.text();
}

std::string conservation_line(const fedagent::Counters& counters) {
  return fmt::format("{} accepted {} {} confirmed + {} dropped + {} pending", counters.accepted,
                     conserved(counters) ? "=" : "is not", counters.confirmed,
                     counters.total_dropped(), pending(counters));
}

std::vector<std::string> faults_of(const Result& result, const std::optional<Baselines>& baselines,
                                   const fedagent::Counters& counters) {
  std::vector<std::string> faults;
  if (!conserved(counters)) {
    faults.push_back("messages went astray: " + conservation_line(counters));
  }
  if (!counters.balanced()) {
    faults.push_back(fmt::format("{} requests, but {} replies + {} errors + {} open",
                                 counters.requests, counters.replied, counters.total_failed(),
                                 counters.open_requests));
  }
  // Accuracies are multiples of 1/rows; the tiny allowance is for their rounding only.
  if (baselines && result.accuracy < baselines->pooled.accuracy - allowed_gap - 1e-12) {
    faults.push_back(fmt::format(
        "the federated accuracy of {} is more than {:.0f} points below the pooled one of {}",
        percent(result.accuracy), 100.0 * allowed_gap, percent(baselines->pooled.accuracy)));
  }
  return faults;
}

}  // namespace federated
