#pragma once

#include <algorithm>
#include <boost/asio/awaitable.hpp>
#include <boost/circular_buffer.hpp>
#include <boost/system/result.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "fedagent/detail/auto_list.hpp"
#include "fedagent/detail/waiter.hpp"
#include "fedagent/error.hpp"

namespace fedagent {
namespace detail {

/// The events that a stream has not handed out yet, and the coroutines that wait for one.
template <class Event, class Clock, class Executor>
struct EventQueue : AutoHook {
  EventQueue(const Executor& the_executor, std::size_t capacity)
      : executor(the_executor), events({std::max<std::size_t>(capacity, 1), 0}) {}

  void push(Event event) {
    std::uint64_t missed = 0;
    if (events.full()) {
      missed = 1 + events.front().missed;
      events.pop_front();
    }
    events.push_back(std::move(event));
    events.front().missed += missed;
    readers.wake_first(1);
  }

  void close() noexcept {
    closed = true;
    readers.wake_all();
  }

  Executor executor;
  boost::circular_buffer_space_optimized<Event> events;
  WaitList<Clock> readers;
  bool closed = false;
};

}  // namespace detail

/// A bounded stream of events.
/**
 * When the reader is slow the oldest events are dropped, and the next one says in `missed` how many
 * were.
 *
 * @par Lifetimes
 * May outlive whatever publishes the events. The destructor ends a pending `next` with `stopped`.
 * @par Thread safety
 * Unsafe: all calls on the executor.
 */
template <class Event, class Clock, class Executor>
class EventStream {
 public:
  using Queue = detail::EventQueue<Event, Clock, Executor>;

  explicit EventStream(std::shared_ptr<Queue> queue) : queue_(std::move(queue)) {}
  EventStream(EventStream&&) noexcept = default;
  EventStream& operator=(EventStream&&) = delete;
  ~EventStream() {
    if (queue_) {
      queue_->close();
    }
  }

  /// Waits for the next event.
  /**
   * @par Cancellation
   * All types; ends with `operation_aborted`, and no event is lost.
   * @par Errors
   * `stopped`: what publishes the events or this object is gone, and all have been read.
   */
  boost::asio::awaitable<boost::system::result<Event>, Executor> next() { return next_of(queue_); }

  /// The next event, if it is there already.
  std::optional<Event> try_next() {
    if (queue_->events.empty()) {
      return std::nullopt;
    }
    std::optional<Event> event(std::move(queue_->events.front()));
    queue_->events.pop_front();
    return event;
  }

  /// How many events `next` has at hand.
  std::size_t size() const noexcept { return queue_->events.size(); }

 private:
  static boost::asio::awaitable<boost::system::result<Event>, Executor> next_of(
      std::shared_ptr<Queue> from) {
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

  std::shared_ptr<Queue> queue_;
};

}  // namespace fedagent
