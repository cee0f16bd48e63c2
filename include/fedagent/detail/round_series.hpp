#pragma once

#include <algorithm>
#include <boost/unordered/unordered_flat_map.hpp>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "fedagent/detail/auto_list.hpp"
#include "fedagent/detail/reply_times.hpp"
#include "fedagent/detail/store_state.hpp"
#include "fedagent/event_stream.hpp"
#include "fedagent/report.hpp"
#include "fedagent/round_result.hpp"

namespace fedagent::detail {

/// A round that goes on, as whoever holds the series sees it.
class RunningRound : public StopListener {
 public:
  virtual RoundReport report() const = 0;

 protected:
  ~RunningRound() = default;
};

struct NodeIdHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view node_id) const noexcept {
    return std::hash<std::string_view>{}(node_id);
  }
};

/// What the rounds of one `Rounds` share.
template <class T, class M, class O>
class RoundSeries final : public StopListener {
 public:
  using clock_type = transport_clock_t<T>;
  using executor_type = typename T::executor_type;
  using Context = StoreState<T, M, O>;
  using LateStream = EventStream<LateReply<M>, clock_type, executor_type>;

  /// @param late_capacity Zero: late replies are not taken.
  RoundSeries(const std::shared_ptr<Context>& the_context, std::size_t late_capacity,
              std::function<bool(const M&)> says_error)
      : context(the_context),
        executor(the_context->executor),
        late_queue(std::make_shared<typename LateStream::Queue>(executor, late_capacity)),
        late(late_queue),
        is_error_(std::move(says_error)) {
    the_context->stop_listeners.push_back(*this);
    if (late_capacity == 0 || the_context->stopped) {
      late_queue->close();
    }
  }

  /// @return The number of the round.
  std::uint64_t begin(RunningRound& round) {
    running.push_back(round);
    return ++begun_;
  }

  /// Whether a reply tells of an error; what cannot be looked at does.
  bool tells_error(std::string_view node_id, const M& reply) noexcept {
    try {
      return is_error_ && is_error_(reply);
    } catch (...) {
      if (const auto shared = context.lock()) {
        shared->hooks(hook::handler_error, node_id, std::current_exception());
      }
      return true;
    }
  }

  void take_late(LateReply<M> reply) {
    reply.staleness = begun_ - reply.round;
    reply.is_error = tells_error(reply.node_id, *reply.message);
    if (!reply.is_error) {
      remember(reply.node_id, reply.took);
    }
    late_queue->push(std::move(reply));
  }

  /// How long this node has, by how long it took before. The times are kept from the first call on.
  Duration deadline(std::string_view node_id, const AdaptiveDeadline& rule) {
    keeps_times_ = true;
    const auto found = reply_times_.find(node_id);
    return found == reply_times_.end() ? rule.cap : found->second.deadline(rule);
  }

  void remember(std::string_view node_id, Duration took) {
    if (!keeps_times_) {
      return;
    }
    auto found = reply_times_.find(node_id);
    if (found == reply_times_.end()) {
      if (reply_times_.size() >= room_) {
        forget_gone_nodes();
      }
      found = reply_times_.emplace(std::string(node_id), ReplyTimes()).first;
    }
    found->second.add(took);
  }

  const std::weak_ptr<Context> context;
  const executor_type executor;
  const std::shared_ptr<typename LateStream::Queue> late_queue;
  LateStream late;
  AutoList<RunningRound> running;

 private:
  void store_stopped() noexcept override {
    while (!running.empty()) {
      running.front().store_stopped();
    }
    late_queue->close();
  }

  // Ids come and go, and only those of the store's nodes are worth memory.
  void forget_gone_nodes() {
    const auto alive = context.lock();
    boost::unordered::erase_if(
        reply_times_, [&](const auto& entry) { return !alive || !alive->find(entry.first); });
    room_ = std::max<std::size_t>(2 * reply_times_.size(), least_room);
  }

  static constexpr std::size_t least_room = 64;

  const std::function<bool(const M&)> is_error_;
  std::uint64_t begun_ = 0;
  bool keeps_times_ = false;
  std::size_t room_ = least_room;
  boost::unordered_flat_map<std::string, ReplyTimes, NodeIdHash, std::equal_to<>> reply_times_;
};

}  // namespace fedagent::detail
