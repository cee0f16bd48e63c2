#pragma once

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/experimental/channel.hpp>
#include <boost/asio/experimental/channel_traits.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/intrusive/list.hpp>
#include <boost/system/error_code.hpp>
#include <cstddef>
#include <list>
#include <utility>

#include "fedagent/detail/deadlines.hpp"
#include "fedagent/error.hpp"

namespace fedagent::detail {

/// Traits of a channel that holds nothing and allocates nothing.
struct WakeUpTraits : boost::asio::experimental::channel_traits<void(boost::system::error_code)> {
  template <class... Signatures>
  struct rebind {
    using other = WakeUpTraits;
  };

  // The default, std::deque, takes 576 bytes at birth. This one stays empty.
  template <class Element>
  struct container {
    using type = std::list<Element>;
  };
};

/// One coroutine that waits for something of an agent; a local variable of that coroutine.
/**
 * A wake-up says "look again", so one too many does no harm. The first verdict stays: it tells the
 * coroutine to leave, and why. Destroying a waiter takes it off every list.
 *
 * @par Cancellation
 * A cancelled wait leaves with `operation_aborted` and has taken nothing.
 */
template <class Clock, class Executor>
class Waiter final : public Deadlines<Clock>::Entry,
                     public boost::intrusive::list_base_hook<
                         boost::intrusive::link_mode<boost::intrusive::auto_unlink>> {
  using ListHook =
      boost::intrusive::list_base_hook<boost::intrusive::link_mode<boost::intrusive::auto_unlink>>;

 public:
  explicit Waiter(const Executor& executor, errc at_deadline = errc::deadline_passed)
      : channel_(executor), at_deadline_(at_deadline) {}

  /// Lets the coroutine look again.
  /**
   * A loop that is being destroyed takes the waiting operation first and the coroutine later; in
   * between the channel believes in an operation that is gone, and `try_send` crashes. `cancel`
   * looks.
   */
  void wake() noexcept {
    if (!woken_) {
      woken_ = true;
      channel_.cancel();
    }
  }

  /// Lets the coroutine leave with this error.
  void leave(boost::system::error_code verdict) noexcept {
    decide(verdict);
    wake();
  }

  /// Why the coroutine must leave; no error: it may go on.
  boost::system::error_code verdict() const noexcept { return verdict_; }

  bool in_line() const noexcept { return this->ListHook::is_linked(); }
  void step_out() noexcept {
    if (in_line()) {
      this->ListHook::unlink();
    }
    this->disarm();
  }

  /// To be awaited. A cancelled coroutine leaves, even when its wake-up had been sent already.
  boost::asio::awaitable<void, Executor> wait() {
    if (woken_) {  // not at once: others were woken before
      co_await boost::asio::post(channel_.get_executor(), boost::asio::deferred);
    } else {
      co_await channel_.async_receive(boost::asio::as_tuple(boost::asio::deferred));
    }
    const auto state = co_await boost::asio::this_coro::cancellation_state;
    const bool woken = std::exchange(woken_, false);
    if (!woken || state.cancelled() != boost::asio::cancellation_type::none) {
      decide(boost::asio::error::operation_aborted);
    }
  }

 private:
  void on_deadline() noexcept override { leave(make_error_code(at_deadline_)); }
  void decide(boost::system::error_code verdict) noexcept {
    if (!verdict_) {
      verdict_ = verdict;
    }
  }

  boost::asio::experimental::basic_channel<Executor, WakeUpTraits, void(boost::system::error_code)>
      channel_;
  boost::system::error_code verdict_;
  errc at_deadline_;
  bool woken_ = false;
};

/// Those who wait for the same thing, first come, first served.
template <class Clock, class Executor>
class WaitList {
 public:
  using Waiter = detail::Waiter<Clock, Executor>;

  bool empty() const noexcept { return waiters_.empty(); }
  /// Puts it at the end, unless it is in line already. @return Whether it was not.
  bool push_back(Waiter& waiter) noexcept {
    const bool comes = !waiter.in_line();
    if (comes) {
      waiters_.push_back(waiter);
    }
    return comes;
  }

  /// Lets the first `count` look again. Each keeps its place until it steps out by itself.
  /** Whoever steps out empty-handed calls this again, so that no wake-up is lost with it. */
  void wake_first(std::size_t count) noexcept {
    for (auto& waiter : waiters_) {
      if (count-- == 0) {
        break;
      }
      waiter.wake();
    }
  }
  void wake_all() noexcept { wake_first(static_cast<std::size_t>(-1)); }
  /// Lets all leave with this error, for good: none of them is in line any more.
  void dismiss(boost::system::error_code verdict) noexcept {
    while (!waiters_.empty()) {
      auto& waiter = waiters_.front();
      waiter.step_out();
      waiter.leave(verdict);
    }
  }

 private:
  boost::intrusive::list<Waiter, boost::intrusive::constant_time_size<false>> waiters_;
};

}  // namespace fedagent::detail
