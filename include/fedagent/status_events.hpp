#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "fedagent/detail/auto_list.hpp"
#include "fedagent/event_stream.hpp"
#include "fedagent/node_status.hpp"

namespace fedagent {

/// A change of a node's status.
template <class Clock>
struct StatusEvent {
  std::string node_id;
  NodeActiveStatus from;
  NodeActiveStatus to;
  typename Clock::time_point at;
  /// Events that were dropped before this one because the reader was slow.
  std::uint64_t missed = 0;
};

/// A bounded stream of the status changes of a store's nodes, from `AgentStore::status_events`.
template <class Clock, class Executor>
using StatusEvents = EventStream<StatusEvent<Clock>, Clock, Executor>;

namespace detail {

/// Where the agents of a store publish their changes.
template <class Clock, class Executor>
class StatusFeed {
 public:
  using Queue = EventQueue<StatusEvent<Clock>, Clock, Executor>;

  ~StatusFeed() { close(); }

  bool empty() const noexcept { return queues_.empty(); }
  void add(Queue& queue) { queues_.push_back(queue); }

  void publish(std::string_view node, NodeActiveStatus from, NodeActiveStatus to,
               typename Clock::time_point at) {
    for (auto& queue : queues_) {
      queue.push({std::string(node), from, to, at});
    }
  }

  /// Ends every stream with `stopped` once its reader has read what is there.
  void close() noexcept {
    queues_.clear_and_dispose([](Queue* queue) { queue->close(); });
  }

 private:
  AutoList<Queue> queues_;
};

}  // namespace detail
}  // namespace fedagent
