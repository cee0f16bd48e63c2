#pragma once

#include <boost/system/error_code.hpp>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <ranges>
#include <string>
#include <string_view>
#include <vector>

#include "fedagent/message.hpp"
#include "fedagent/options.hpp"

namespace fedagent {

/// What became of one node in a round.
enum class NodeOutcome {
  /// It answered.
  reply,
  /// It answered with an error.
  error_reply,
  /// Its own deadline or that of the round passed first.
  deadline_passed,
  /// It was lost, and not back in time.
  disconnected,
  /// The message was not delivered within its maximum age.
  expired,
  /// The message had another end: the row's error says which.
  failed,
  /// It was not asked: the row's error says why.
  not_sent,
  /// The round ended for another reason while it was waited for.
  withdrawn,
};

constexpr std::string_view to_string(NodeOutcome outcome) noexcept {
  constexpr std::string_view names[] = {"reply",   "error reply", "deadline passed", "disconnected",
                                        "expired", "failed",      "not sent",        "withdrawn"};
  const auto index = static_cast<std::size_t>(outcome);
  return index < std::size(names) ? names[index] : "unknown";
}

/// Why a round ended.
enum class RoundEnd {
  /// Every node has its outcome.
  complete,
  /// The quorum was there, and the grace was over.
  quorum,
  /// The deadline of the round passed.
  deadline,
  /// A node of `stop_on.error` answered with an error.
  node_error,
  /// A node of `stop_on.disconnect` was lost.
  node_disconnected,
  /// The deadline of a node of `stop_on.timeout` passed.
  node_timeout,
  /// The coroutine that awaited the round was cancelled.
  cancelled,
  /// The store was stopped.
  stopped,
};

constexpr std::string_view to_string(RoundEnd end) noexcept {
  constexpr std::string_view names[] = {"complete",  "quorum",       "deadline",  "node error",
                                        "node lost", "node timeout", "cancelled", "stopped"};
  const auto index = static_cast<std::size_t>(end);
  return index < std::size(names) ? names[index] : "unknown";
}

/// One node in a round.
template <class M>
struct RoundRow {
  static constexpr std::size_t nobody = std::numeric_limits<std::size_t>::max();

  std::string node_id{};
  NodeOutcome outcome = NodeOutcome::not_sent;
  /// None with a reply and an error reply; else the reason, in more detail than the outcome.
  boost::system::error_code error{};
  /// The answer of the node; with `reply` and `error_reply` only.
  MessagePtr<M> reply{};
  /// How often a poll has taken the message.
  std::uint32_t attempts = 0;
  /// From the send to the outcome, and its three parts: in the queue; taken by a poll, but not
  /// confirmed; confirmed, so that the node works on it.
  Duration took{};
  Duration queued{};
  Duration leased{};
  Duration working{};
  /// By `message_traits::size`. Sent: of the message, each time that a poll took it.
  std::size_t bytes_sent = 0;
  std::size_t bytes_received = 0;
  /// The row of the lost node whose place it took.
  std::size_t substitute_for = nobody;
};

/// What came of a round: a row for each node that was named or stepped in, in that order.
template <class M>
struct RoundResult {
  /// Of the rounds of one `Rounds`, from 1.
  std::uint64_t number = 0;
  RoundEnd end = RoundEnd::complete;
  /// The row of the node that ended the round by `stop_on`.
  std::size_t ended_by = RoundRow<M>::nobody;
  /// How many good replies were wanted, and how many there are.
  std::size_t wanted = 0;
  std::size_t replied = 0;
  Duration took{};
  std::vector<RoundRow<M>> rows{};

  bool has_quorum() const noexcept { return replied >= wanted; }
  /// The rows with a good reply, as a view of this object.
  auto replies() const {
    return std::views::filter(
        rows, [](const RoundRow<M>& row) { return row.outcome == NodeOutcome::reply; });
  }
};

/// A reply that came when its round had ended.
template <class M>
struct LateReply {
  std::string node_id;
  MessagePtr<M> message;
  /// The number of its round.
  std::uint64_t round = 0;
  /// How many rounds have begun since that one.
  std::uint64_t staleness = 0;
  /// From the send to the reply.
  Duration took{};
  bool is_error = false;
  /// Replies that were dropped before this one because the reader was slow.
  std::uint64_t missed = 0;
};

}  // namespace fedagent
