#pragma once

#include <fmt/format.h>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fedagent/detail/task_report.hpp"
#include "fedagent/report.hpp"
#include "fedagent/round.hpp"

namespace fedagent {

/// Why the rounds that go on have not ended: who is awaited, in which state, and what ends it when.
/** Its time is linear in the nodes of the rounds, and in what is queued before their messages. */
template <class T, class M, class O>
std::vector<RoundReport> explain(const Rounds<T, M, O>& rounds) {
  return rounds.reports();
}

/// One node and all that it has open.
template <class T, class M, class O>
NodeReport explain(const AgentStore<T, M, O>& store, std::string_view node_id) {
  using Clock = transport_clock_t<T>;
  NodeReport report;
  report.node_id = node_id;
  const auto core = store.context()->find(node_id);
  if (!core) {
    return report;
  }
  const auto now = Clock::now();
  const auto ago = [now](const std::optional<typename Clock::time_point>& at) {
    return at ? std::optional<Duration>(now - *at) : std::nullopt;
  };
  report.known = true;
  report.status = core->status().status();
  report.has_polled = core->status().has_polled();
  report.open_polls = core->status().open_polls();
  const auto last_seen = core->last_seen();
  report.last_poll = ago(last_seen.poll);
  report.last_reply = ago(last_seen.reply);
  report.last_seen = ago(last_seen.any);
  report.status_ends_in = detail::time_to(core->status_ends(), now);
  const auto* const ledger = core->find_ledger();
  if (ledger == nullptr) {
    return report;
  }
  ledger->for_each_record([&](const auto& record) {  // those in the queue come first, in order
    report.tasks.push_back(detail::report_of(*ledger, record, now, report.tasks.size()));
  });
  return report;
}

namespace detail {

// Two digits of the unit that a person would take.
inline std::string rounded(Duration time) {
  const double seconds = std::chrono::duration<double>(time).count();
  if (seconds >= 600.0) {
    return fmt::format("{:.0f} min", seconds / 60.0);
  }
  return seconds >= 1.0 ? fmt::format("{:.1f} s", seconds)
                        : fmt::format("{:.0f} ms", seconds * 1e3);
}

struct PlainFormatter {
  constexpr auto parse(fmt::format_parse_context& context) { return context.begin(); }
};

}  // namespace detail
}  // namespace fedagent

/// "queued for 1.2 s behind 2, the first of them q7, ends in 30.0 s"
template <>
struct fmt::formatter<fedagent::TaskReport> : fedagent::detail::PlainFormatter {
  auto format(const fedagent::TaskReport& task, fmt::format_context& context) const {
    using fedagent::TaskStage;
    using fedagent::detail::rounded;
    auto out = fmt::format_to(context.out(), "{}", to_string(task.stage));
    if (task.stage == TaskStage::not_sent) {
      return out;
    }
    out = fmt::format_to(out, " for {}", rounded(task.in_stage));
    if (task.stage == TaskStage::queued && task.behind > 0) {
      out = fmt::format_to(out, " behind {}, the first of them {}", task.behind,
                           task.behind_request.empty() ? "without id" : task.behind_request);
    }
    if (task.stage == TaskStage::leased || task.stage == TaskStage::delivered) {
      out = fmt::format_to(out, " to session {}", task.session);
    }
    if (task.attempts > 1) {
      out = fmt::format_to(out, ", attempt {}", task.attempts);
    }
    if (task.ends_in) {
      out = fmt::format_to(out, ", ends in {}", rounded(*task.ends_in));
    }
    return out;
  }
};

/// A line for the node, and one for each of its messages.
template <>
struct fmt::formatter<fedagent::NodeReport> : fedagent::detail::PlainFormatter {
  auto format(const fedagent::NodeReport& node, fmt::format_context& context) const {
    using fedagent::NodeActiveStatus;
    using fedagent::detail::rounded;
    auto out = fmt::format_to(context.out(), "node {}: ", node.node_id);
    if (!node.known) {
      return fmt::format_to(out, "no agent");
    }
    if (!node.has_polled) {
      out = fmt::format_to(out, "has never polled");
    } else {
      out = fmt::format_to(out, "{}, {} open polls", to_string(node.status), node.open_polls);
    }
    if (node.last_seen) {
      out = fmt::format_to(out, ", last heard of {} ago", rounded(*node.last_seen));
    }
    if (node.status_ends_in) {
      out = fmt::format_to(out, ", {} in {}",
                           node.status == NodeActiveStatus::waiting ? "DISCONNECTED" : "removed",
                           rounded(*node.status_ends_in));
    }
    for (const auto& task : node.tasks) {
      out = fmt::format_to(out, "\n  {}: {}",
                           task.request_id.empty() ? "without id" : task.request_id, task);
    }
    return out;
  }
};

/// A line for the round, and one for each node that it waits for.
template <>
struct fmt::formatter<fedagent::RoundReport> : fedagent::detail::PlainFormatter {
  auto format(const fedagent::RoundReport& round, fmt::format_context& context) const {
    using fedagent::detail::rounded;
    auto out =
        fmt::format_to(context.out(), "round {} for {}: {} of {} wanted replies from {} nodes",
                       round.number, rounded(round.age), round.replied, round.wanted, round.nodes);
    if (round.grace_in) {
      out = fmt::format_to(out, ", grace ends in {}", rounded(*round.grace_in));
    }
    if (round.deadline_in) {
      out = fmt::format_to(out, ", deadline in {}", rounded(*round.deadline_in));
    }
    for (const auto& node : round.awaited) {
      out = fmt::format_to(out, "\n  {} ({}): {}", node.node_id,
                           node.has_polled ? to_string(node.status) : "never polled", node.task);
      if (node.deadline_in) {
        out = fmt::format_to(out, ", its deadline in {}", rounded(*node.deadline_in));
      }
      if (node.lost_in) {
        out = fmt::format_to(out, ", lost in {}", rounded(*node.lost_in));
      }
    }
    return out;
  }
};
