#pragma once

#include <algorithm>
#include <boost/asio/awaitable.hpp>
#include <boost/circular_buffer.hpp>
#include <boost/intrusive/list.hpp>
#include <boost/system/result.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "fedagent/detail/waiter.hpp"
#include "fedagent/error.hpp"
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

namespace detail {

template <class Clock, class Executor>
struct StatusSubscription
    : boost::intrusive::list_base_hook<boost::intrusive::link_mode<boost::intrusive::auto_unlink>> {
  StatusSubscription(const Executor& the_executor, std::size_t capacity)
      : executor(the_executor), events({std::max<std::size_t>(capacity, 1), 0}) {}

  Executor executor;
  boost::circular_buffer_space_optimized<StatusEvent<Clock>> events;
  WaitList<Clock, Executor> readers;
  bool closed = false;
};

/// Where the agents of a store publish their changes.
template <class Clock, class Executor>
class StatusFeed {
 public:
  using Subscription = StatusSubscription<Clock, Executor>;

  ~StatusFeed() { close(); }

  void add(Subscription& subscription) { subscriptions_.push_back(subscription); }

  void publish(std::string_view node, NodeActiveStatus from, NodeActiveStatus to,
               typename Clock::time_point at) {
    for (auto& subscription : subscriptions_) {
      auto& events = subscription.events;
      std::uint64_t missed = 0;
      if (events.full()) {
        missed = 1 + events.front().missed;
        events.pop_front();
      }
      events.push_back({std::string(node), from, to, at});
      events.front().missed += missed;
      subscription.readers.wake_first(1);
    }
  }

  /// Ends every stream with `stopped` once its reader has read what is there.
  void close() noexcept {
    while (!subscriptions_.empty()) {
      auto& subscription = subscriptions_.front();
      subscriptions_.pop_front();
      subscription.closed = true;
      subscription.readers.wake_all();
    }
  }

 private:
  boost::intrusive::list<Subscription, boost::intrusive::constant_time_size<false>> subscriptions_;
};

}  // namespace detail

/// A bounded stream of the status changes of a store's nodes, from `AgentStore::status_events`.
/**
 * When the reader is slow the oldest events are dropped, and the next one says how many were.
 *
 * @par Lifetimes
 * May outlive the store. The destructor ends a pending `next` with `stopped`.
 * @par Thread safety
 * Unsafe: all calls on the store's executor.
 */
template <class Clock, class Executor>
class StatusEvents {
 public:
  using Subscription = detail::StatusSubscription<Clock, Executor>;

  explicit StatusEvents(std::shared_ptr<Subscription> subscription)
      : subscription_(std::move(subscription)) {}
  StatusEvents(StatusEvents&&) noexcept = default;
  StatusEvents& operator=(StatusEvents&&) = delete;
  ~StatusEvents() {
    if (subscription_) {
      subscription_->closed = true;
      subscription_->readers.wake_all();
    }
  }

  /// Waits for the next change.
  /**
   * @par Cancellation
   * All types; ends with `operation_aborted`, and no event is lost.
   * @par Errors
   * `stopped`: the store or this object is gone, and all events have been read.
   */
  boost::asio::awaitable<boost::system::result<StatusEvent<Clock>>, Executor> next() {
    return next_of(subscription_);
  }

 private:
  static boost::asio::awaitable<boost::system::result<StatusEvent<Clock>>, Executor> next_of(
      std::shared_ptr<Subscription> from) {
    detail::Waiter<Clock, Executor> waiter(from->executor);
    while (from->events.empty() && !from->closed && !waiter.verdict()) {
      from->readers.push_back(waiter);
      co_await waiter.wait();
    }
    waiter.step_out();
    // The wake-up that came with an event may be this one; the next reader may be due for it.
    if (waiter.verdict() || from->events.empty()) {
      from->readers.wake_first(from->events.size());
      co_return waiter.verdict() ? waiter.verdict() : make_error_code(errc::stopped);
    }
    auto event = std::move(from->events.front());
    from->events.pop_front();
    from->readers.wake_first(from->events.size());
    co_return event;
  }

  std::shared_ptr<Subscription> subscription_;
};

}  // namespace fedagent
