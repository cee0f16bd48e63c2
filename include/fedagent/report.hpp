#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "fedagent/node_status.hpp"
#include "fedagent/options.hpp"
#include "fedagent/transport.hpp"

namespace fedagent {

/// Where a message is on its way to a node and back.
enum class TaskStage : std::uint8_t {
  /// Its node has not been asked yet: `RoundPolicy::max_in_flight` are ahead.
  not_sent,
  /// In the queue: new, or returned by a lease that died.
  queued,
  /// A poll has taken it and is delivering it.
  leased,
  /// Delivered; neither a poll nor a reply has confirmed that.
  delivered,
  /// Confirmed: the node has read it, and has not answered. Messages without a request id have
  /// ended here.
  working,
  /// It has its outcome.
  ended,
};

constexpr std::string_view to_string(TaskStage stage) noexcept {
  constexpr std::string_view names[] = {"not sent",  "queued",  "leased",
                                        "delivered", "working", "ended"};
  const auto index = static_cast<std::size_t>(stage);
  return index < std::size(names) ? names[index] : "unknown";
}

/// A message of a node that has no outcome yet.
struct TaskReport {
  std::string request_id{};
  TaskStage stage = TaskStage::not_sent;
  /// How long it has been in this stage, and how long since its first send.
  Duration in_stage{};
  Duration age{};
  /// How often a poll has taken it.
  std::uint32_t attempts = 0;
  /// Queued: how many messages are before it, and the id of the first of them.
  std::size_t behind = 0;
  std::string behind_request{};
  /// Leased, delivered: the session of the poll that took it.
  SessionId session = 0;
  /// What ends it by itself, its deadline or its age; in so long.
  std::optional<Duration> ends_in{};
};

/// One node and all that it has open.
struct NodeReport {
  std::string node_id{};
  /// Whether the store has an agent for it; else all that follows is empty.
  bool known = false;
  NodeActiveStatus status = NodeActiveStatus::active;
  bool has_polled = false;
  std::size_t open_polls = 0;
  /// How long ago the node was last heard of.
  std::optional<Duration> last_poll{};
  std::optional<Duration> last_reply{};
  std::optional<Duration> last_seen{};
  /// WAITING: to DISCONNECTED. DISCONNECTED: to the removal of the agent.
  std::optional<Duration> status_ends_in{};
  /// In the order of acceptance within each stage: queued, leased or delivered, working.
  std::vector<TaskReport> tasks{};
};

/// A node that a round waits for.
struct AwaitedNode {
  std::string node_id{};
  NodeActiveStatus status = NodeActiveStatus::active;
  bool has_polled = false;
  TaskReport task{};
  /// Its own deadline passes in so long.
  std::optional<Duration> deadline_in{};
  /// The node is DISCONNECTED; it is lost when it is not back in so long.
  std::optional<Duration> lost_in{};
};

/// A round that goes on.
struct RoundReport {
  std::uint64_t number = 0;
  Duration age{};
  std::size_t nodes = 0;
  std::size_t wanted = 0;
  std::size_t replied = 0;
  /// The deadline of the round passes in so long.
  std::optional<Duration> deadline_in{};
  /// The quorum is there; the round ends in so long.
  std::optional<Duration> grace_in{};
  /// Those without an outcome, in the order of the rows.
  std::vector<AwaitedNode> awaited{};
};

}  // namespace fedagent
