#include "report.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>
#include <cstddef>
#include <map>
#include <numeric>
#include <set>
#include <utility>

#include "fedagent/error.hpp"
#include "table.hpp"

namespace federated {

namespace {

std::string percent(double share) { return fmt::format("{:.1f} %", 100.0 * share); }

std::string kilobytes(std::size_t bytes) {
  return fmt::format("{:.1f} kB", static_cast<double>(bytes) / 1000.0);
}

double seconds(fedagent::Duration time) { return std::chrono::duration<double>(time).count(); }

/// What became of a node in a round, in the order in which a line tells it.
constexpr std::array<std::string_view, 8> words = {"answered",     "deadline passed", "withdrawn",
                                                   "DISCONNECTED", "expired",         "failed",
                                                   "not sent",     "unusable"};

std::string_view word_for(const NodeSummary& node) {
  using fedagent::NodeOutcome;
  if (node.outcome == NodeOutcome::error_reply || !node.fault.empty()) {
    return "unusable";
  }
  // It became so in the round, or was so before and was not asked.
  if (node.error == fedagent::errc::disconnected) {
    return "DISCONNECTED";
  }
  return node.outcome == NodeOutcome::reply ? "answered" : to_string(node.outcome);
}

std::uint64_t pending(const fedagent::Counters& counters) {
  return counters.queued + counters.leased;
}

bool conserved(const fedagent::Counters& counters) {
  return counters.accepted == counters.confirmed + counters.total_dropped() + pending(counters);
}

}  // namespace

std::size_t RoundSummary::answered() const {
  return static_cast<std::size_t>(std::count_if(
      nodes.begin(), nodes.end(), [](const NodeSummary& node) { return node.answered(); }));
}

std::size_t RoundSummary::bytes_sent() const {
  return std::accumulate(
      nodes.begin(), nodes.end(), std::size_t{0},
      [](std::size_t sum, const NodeSummary& node) { return sum + node.bytes_sent; });
}

std::size_t RoundSummary::bytes_received() const {
  return std::accumulate(
      nodes.begin(), nodes.end(), std::size_t{0},
      [](std::size_t sum, const NodeSummary& node) { return sum + node.bytes_received; });
}

std::string progress_line(const RoundSummary& round) {
  std::string line =
      fmt::format("round {:>2}/{}  {}  {:.2f} s {:<8}  {} out {} in", round.round, round.rounds,
                  percent(round.accuracy), seconds(round.took), to_string(round.end),
                  kilobytes(round.bytes_sent()), kilobytes(round.bytes_received()));
  for (const auto word : words) {
    std::string_view before;
    for (const auto& node : round.nodes) {
      if (word_for(node) == word) {
        line += before.empty() ? fmt::format("  {}:", word) : "";
        line += " " + node.node;
        before = node.node;
      }
    }
  }
  if (!round.model_changed) {
    line += "  (too few answers: the model stays as it was)";
  }
  return line;
}

std::string late_line(const LateSummary& late) {
  return fmt::format("{} answers round-{} too late: {:.2f} s, {} {} on{}", late.node, late.round,
                     seconds(late.took), late.staleness, late.staleness == 1 ? "round" : "rounds",
                     late.unusable ? ", and not usable" : "");
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

namespace {

/// All rounds of one hospital.
struct Record {
  std::map<std::string_view, std::size_t> outcomes;
  std::vector<const NodeSummary*> answers;
  std::uint64_t attempts = 0;
  std::size_t bytes_sent = 0;
  std::size_t bytes_received = 0;
};

std::string median_ms(const std::vector<const NodeSummary*>& answers,
                      fedagent::Duration NodeSummary::*time) {
  if (answers.empty()) {
    return "";
  }
  std::vector<fedagent::Duration> times;
  times.reserve(answers.size());
  for (const auto* const answer : answers) {
    times.push_back(answer->*time);
  }
  const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
  std::nth_element(times.begin(), middle, times.end());
  return fmt::format("{:.0f} ms", 1000.0 * seconds(*middle));
}

}  // namespace

std::string hospitals_table(const Result& result) {
  std::map<std::string_view, Record> records;
  std::set<std::string_view> seen;
  for (const auto& round : result.rounds) {
    for (const auto& node : round.nodes) {
      auto& record = records[node.node];
      const auto word = word_for(node);
      seen.insert(word);
      ++record.outcomes[word];
      if (node.answered()) {
        record.answers.push_back(&node);
      }
      record.attempts += node.attempts;
      record.bytes_sent += node.bytes_sent;
      record.bytes_received += node.bytes_received;
    }
  }
  std::vector<Table::Column> columns = {{fmt::format("in {} rounds", result.rounds.size())}};
  for (const auto word : words) {
    if (seen.contains(word)) {
      columns.push_back({std::string(word), Align::right});
    }
  }
  for (const auto* const title : {"took", "queued", "leased", "working", "attempts", "out", "in"}) {
    columns.push_back({title, Align::right});
  }
  Table table(std::move(columns));
  for (const auto& [name, record] : records) {
    std::vector<std::string> cells = {std::string(name)};
    for (const auto word : words) {
      if (seen.contains(word)) {
        const auto found = record.outcomes.find(word);
        cells.push_back(fmt::format("{}", found == record.outcomes.end() ? 0 : found->second));
      }
    }
    for (const auto time :
         {&NodeSummary::took, &NodeSummary::queued, &NodeSummary::leased, &NodeSummary::working}) {
      cells.push_back(median_ms(record.answers, time));
    }
    cells.push_back(fmt::format("{}", record.attempts));
    cells.push_back(kilobytes(record.bytes_sent));
    cells.push_back(kilobytes(record.bytes_received));
    table.add_row(std::move(cells));
  }
  return table.text();
}

std::string rounds_table(const Result& result) {
  Table table({{"rounds ended by"},
               {"rounds", Align::right},
               {"shortest", Align::right},
               {"longest", Align::right},
               {"model as it was", Align::right}});
  std::map<fedagent::RoundEnd, std::vector<const RoundSummary*>> ends;
  for (const auto& round : result.rounds) {
    ends[round.end].push_back(&round);
  }
  for (const auto& [end, rounds] : ends) {
    const auto [shortest, longest] = std::minmax_element(
        rounds.begin(), rounds.end(),
        [](const auto* one, const auto* other) { return one->took < other->took; });
    table.add_row(
        {std::string(to_string(end)), fmt::format("{}", rounds.size()),
         fmt::format("{:.2f} s", seconds((*shortest)->took)),
         fmt::format("{:.2f} s", seconds((*longest)->took)),
         fmt::format("{}", std::count_if(rounds.begin(), rounds.end(), [](const auto* round) {
                       return !round->model_changed;
                     }))});
  }
  return table.text();
}

std::string late_table(const Result& result) {
  if (result.late.empty()) {
    return {};
  }
  std::map<std::pair<std::string_view, std::uint64_t>, std::vector<const LateSummary*>> groups;
  for (const auto& late : result.late) {
    groups[{late.node, late.staleness}].push_back(&late);
  }
  Table table({{"late replies, not averaged"},
               {"rounds on", Align::right},
               {"replies", Align::right},
               {"longest", Align::right}});
  for (const auto& [group, replies] : groups) {
    const auto* const longest = *std::max_element(
        replies.begin(), replies.end(),
        [](const auto* one, const auto* other) { return one->took < other->took; });
    table.add_row({std::string(group.first), fmt::format("{}", group.second),
                   fmt::format("{}", replies.size()),
                   fmt::format("{:.2f} s", seconds(longest->took))});
  }
  if (result.late_missed > 0) {
    table.add_row({"dropped unread", "", fmt::format("{}", result.late_missed), ""});
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
  add("replies that nobody waited for",
      counters.replies_that_were(fedagent::ReplyDisposition::late));
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
