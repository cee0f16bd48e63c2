#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "fedagent/options.hpp"

namespace fedagent {

/// How many good replies a round wants: all, a number, or a part of its nodes.
class Quorum {
 public:
  /// One from every node.
  constexpr Quorum() noexcept = default;
  /// So many. Zero: the round ends when those are asked whom `max_in_flight` lets be asked at once,
  /// and the grace is over; with `QueuedPolicy::keep` every reply may be a late one.
  template <std::integral Count>
    requires(!std::same_as<Count, bool>)
  constexpr Quorum(Count count)  // NOLINT(google-explicit-constructor): `.quorum = 4` is the point
      : count_(std::cmp_less(count, 0)
                   ? throw std::invalid_argument("fedagent: quorum must not be negative")
                   : static_cast<std::size_t>(count)) {}

  static constexpr Quorum all() noexcept { return {}; }
  /// This part of the nodes, rounded up. @par Errors `std::invalid_argument`: not from 0 to 1.
  static constexpr Quorum fraction(double part) {
    if (!(part >= 0.0 && part <= 1.0)) {
      throw std::invalid_argument("fedagent: quorum must be a fraction from 0 to 1");
    }
    Quorum quorum;
    quorum.part_ = part;
    return quorum;
  }

  /// What it comes to for so many nodes; a number stays what it is, and may be out of reach.
  std::size_t of(std::size_t nodes) const noexcept {
    if (count_ != by_part) {
      return count_;
    }
    // 0.1 * 30 is a little more than 3, and means 3.
    const double wanted = part_ * static_cast<double>(nodes);
    return std::min(nodes, static_cast<std::size_t>(std::ceil(wanted - 1e-9)));
  }

 private:
  static constexpr std::size_t by_part = std::numeric_limits<std::size_t>::max();

  std::size_t count_ = by_part;
  double part_ = 1.0;
};

/// No node, every node, or those that are named.
class NodeSelection {
 public:
  NodeSelection() noexcept = default;
  NodeSelection(std::initializer_list<std::string> nodes)
      : NodeSelection(std::vector<std::string>(nodes)) {}
  explicit NodeSelection(std::vector<std::string> nodes) : chosen_(std::move(nodes)) {
    std::ranges::sort(chosen_);
  }

  static NodeSelection every() {
    NodeSelection selection;
    selection.every_ = true;
    return selection;
  }

  bool contains(std::string_view node_id) const noexcept {
    return every_ || std::ranges::binary_search(chosen_, node_id);
  }

 private:
  bool every_ = false;
  std::vector<std::string> chosen_;
};

/// A deadline for each node from how long that node took before: median + k · MAD.
/**
 * MAD is the median of the distances from the median, so one slow answer moves neither. The times
 * are those from the send to the good reply, the last 16, late ones too, in the rounds of one
 * `Rounds` since the first that has such a deadline.
 *
 * @par Source
 * F. R. Hampel, "The influence curve and its role in robust estimation", JASA 69 (1974).
 */
struct AdaptiveDeadline {
  /// How many MADs above the median. From 0.
  double k = 3.0;
  /// No node has less time than this. From 0.
  Duration floor = Duration::zero();
  /// No node has more time than this; a node with less than `min_replies` has this. Above 0.
  Duration cap = std::chrono::hours{1};
  /// From how many replies on the history counts. From 1 to 16.
  std::size_t min_replies = 3;
};

/// How long each node has for its reply, from its send: without an end, so long (zero: without an
/// end), or adaptive.
using NodeDeadline = std::variant<std::monostate, Duration, AdaptiveDeadline>;

/// What ends the round at once when it happens to a selected node.
struct StopOn {
  /// It answered with an error, see `message_traits`.
  NodeSelection error{};
  /// It is lost: DISCONNECTED longer than `reconnect`, or when the message is sent.
  NodeSelection disconnect{};
  /// Its own deadline, `per_node`, has passed.
  NodeSelection timeout{};
};

/// How a round goes on and when it ends. The default waits for every node that is not lost.
/**
 * A duration of zero, where that is the default, means that the part has no limit or is not there.
 * Durations have to be 0 to 366 days.
 *
 * @par Errors
 * A round with a member out of range throws `std::invalid_argument` that names it.
 */
struct RoundPolicy {
  /// The round may end when it has so many good replies.
  Quorum quorum{};
  /// From the start; the round ends whatever it has.
  Duration deadline = Duration::zero();
  /// How long the rest is waited for when the quorum is there. Zero: not.
  Duration grace = Duration::zero();
  NodeDeadline per_node{};
  /// The nodes for which `per_node` counts; the others have no deadline of their own.
  NodeSelection per_node_for = NodeSelection::every();
  /// How long a DISCONNECTED node may take to come back before it is lost. Zero: it is lost at
  /// once, as it is when `AgentOptions::queued_on_disconnect` drops the message.
  Duration reconnect = Duration::zero();
  StopOn stop_on{};
  /// The reserve: the next of them takes the place of each node that gives no reply.
  /** For an error reply nobody steps in: another node would most likely say the same. */
  std::vector<std::string> substitutes{};
  /// The most nodes that have the message and are waited for at a time. Zero: no limit. One: a
  /// relay, one node after another.
  std::size_t max_in_flight = 0;
  /// What happens to a message that is still queued when its node is no longer waited for. Dropped,
  /// it is taken back, and counts as `flushed`; kept, the node may have it and answer within
  /// `late_for`.
  QueuedPolicy queued = QueuedPolicy::drop;
  /// How long replies are still taken, into `Rounds::late`, when their node is no longer waited
  /// for. Zero: not.
  Duration late_for = std::chrono::minutes{10};
};

namespace detail {

/// How many reply times an adaptive deadline looks back on.
inline constexpr std::size_t remembered_reply_times = 16;

inline void check(const AdaptiveDeadline& adaptive) {
  check_duration(adaptive.floor, "per_node.floor");
  check_duration(adaptive.cap, "per_node.cap");
  if (adaptive.cap == Duration::zero() || adaptive.floor > adaptive.cap) {
    throw std::invalid_argument(
        "fedagent: per_node.cap must be above zero and not below per_node.floor");
  }
  if (!(adaptive.k >= 0.0 && std::isfinite(adaptive.k))) {
    throw std::invalid_argument("fedagent: per_node.k must be a number from 0");
  }
  if (adaptive.min_replies < 1 || adaptive.min_replies > remembered_reply_times) {
    throw std::invalid_argument("fedagent: per_node.min_replies must be from 1 to 16");
  }
}

inline void check(const RoundPolicy& policy) {
  check_duration(policy.deadline, "deadline");
  check_duration(policy.grace, "grace");
  check_duration(policy.reconnect, "reconnect");
  check_duration(policy.late_for, "late_for");
  if (const auto* fixed = std::get_if<Duration>(&policy.per_node)) {
    check_duration(*fixed, "per_node");
  } else if (const auto* adaptive = std::get_if<AdaptiveDeadline>(&policy.per_node)) {
    check(*adaptive);
  }
}

}  // namespace detail
}  // namespace fedagent
