#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>

namespace fedagent {

/// Every duration of the options; it means the same for every clock.
using Duration = std::chrono::nanoseconds;

/// The default of `AgentOptions::disconnect_timeout`, under the seed's name.
inline constexpr std::chrono::seconds grpc_server_task_wait_timeout{10};

/// What happens to a message that finds the queue full.
enum class OverflowPolicy {
  /// The send ends with `queue_full`.
  refuse,
  /// `send_async` and `request` wait for room; sends that cannot wait are refused.
  wait,
  /// The oldest queued messages end with `displaced` until there is room.
  drop_oldest,
};

/// What happens to a new message for a DISCONNECTED node.
enum class DisconnectedPolicy {
  /// The send ends with `disconnected`.
  refuse,
  /// The message waits in the queue until the node is back, its deadline or its age ends it.
  hold,
};

/// What happens to messages that are queued when the node becomes DISCONNECTED.
enum class QueuedPolicy {
  /// They stay, each until its own deadline or age ends it.
  keep,
  /// They end with `disconnected`.
  drop,
};

/// Which poll of a node is served when a second one opens.
enum class PollPolicy {
  /// The newest; the older ones end with `superseded`.
  newest_wins,
  /// The oldest; a newer one waits behind it, first come, first served.
  oldest_first,
  /// The oldest; a newer one ends at once with `poll_refused`.
  reject,
};

/// How an agent behaves. The defaults are meant to be kept.
/**
 * @par Errors
 * Constructors that take options throw `std::invalid_argument` that names the member out of range.
 */
struct AgentOptions {
  /// From the end of the last poll to DISCONNECTED. Zero: at the next turn of the loop. 0 to 366
  /// days.
  Duration disconnect_timeout = grpc_server_task_wait_timeout;
  /// The longest that a poll waits for a task before it ends with `poll_ended`. Zero: no limit. 0
  /// to 366 days.
  Duration poll_timeout = std::chrono::seconds{50};
  /// The part of `poll_timeout` by which polls end earlier, at random, so that nodes that came
  /// together do not stay together. 0 to 1.
  double poll_jitter = 0.1;
  /// The longest that a message waits for a delivery, from its first send. Zero: no limit. 0 to 366
  /// days.
  Duration max_age = std::chrono::seconds{300};
  /// How often a task whose lease died is delivered again. Zero: it is delivered once.
  std::uint32_t max_retries = 5;
  /// The most messages in the queue; redelivered ones pass it. Zero: no limit.
  std::size_t max_queued_messages = 4096;
  /// The most bytes in the queue, by `message_traits::size`. Zero: no limit.
  std::size_t max_queued_bytes = 0;
  /// What a full queue does.
  OverflowPolicy overflow = OverflowPolicy::refuse;
  /// What a new message for a DISCONNECTED node meets.
  DisconnectedPolicy when_disconnected = DisconnectedPolicy::refuse;
  /// What happens to the queue when the node becomes DISCONNECTED.
  QueuedPolicy queued_on_disconnect = QueuedPolicy::keep;
  /// Which of several polls is served.
  PollPolicy polls = PollPolicy::newest_wins;
  /// How many ended requests are remembered, to tell late and duplicate replies. Zero: none.
  std::size_t remembered_requests = 1024;
  /// How long they are remembered. Zero: as long as the count allows. 0 to 366 days.
  Duration remembered_for = std::chrono::minutes{30};
};

/// How a store behaves.
struct StoreOptions {
  /// The options of each agent that the store makes.
  AgentOptions agent{};
  /// The most agents that the store holds. Zero: no limit.
  std::size_t max_agents = 0;
  /// The longest node id, in bytes. At least 1.
  std::size_t max_node_id_length = 255;
  /// From DISCONNECTED to the removal of the agent. Zero: agents stay. 0 to 366 days.
  Duration idle_expiry = Duration::zero();
  /// The most messages relayed from one node to another that are under way: queued, or not
  /// confirmed yet. Zero: no limit.
  std::size_t relay_quota = 0;
  /// Whether an unknown id may have an agent. Empty: every id may. It may use the store, and stop
  /// it, but not destroy it; what it throws goes to whoever asked for the agent.
  std::function<bool(std::string_view node_id)> admit{};
};

namespace detail {

template <class TimePoint>
TimePoint time_after(TimePoint from, Duration time) {
  return from + std::chrono::duration_cast<typename TimePoint::duration>(time);
}

inline void check_duration(Duration value, const char* name) {
  if (value < Duration::zero() || value > std::chrono::hours{366 * 24}) {
    throw std::invalid_argument(std::string("fedagent: ") + name + " must be from 0 to 366 days");
  }
}

inline void check(const AgentOptions& options) {
  check_duration(options.disconnect_timeout, "disconnect_timeout");
  check_duration(options.poll_timeout, "poll_timeout");
  check_duration(options.max_age, "max_age");
  check_duration(options.remembered_for, "remembered_for");
  if (!(options.poll_jitter >= 0.0 && options.poll_jitter <= 1.0)) {
    throw std::invalid_argument("fedagent: poll_jitter must be from 0 to 1");
  }
}

inline void check(const StoreOptions& options) {
  check(options.agent);
  check_duration(options.idle_expiry, "idle_expiry");
  if (options.max_node_id_length == 0) {
    throw std::invalid_argument("fedagent: max_node_id_length must be at least 1");
  }
}

}  // namespace detail
}  // namespace fedagent
