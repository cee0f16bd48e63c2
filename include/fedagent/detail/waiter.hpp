#pragma once

#include <boost/asio/append.hpp>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/cancellation_state.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/experimental/channel.hpp>
#include <boost/asio/experimental/channel_traits.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/system/error_code.hpp>
#include <list>
#include <utility>

#include "fedagent/detail/wait_list.hpp"

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

/// Whether a coroutine is cancelled. Code of the user may cancel the coroutine that runs it, and
/// then its next `co_await` throws: ask this after the one and before the other.
inline bool is_cancelled(const boost::asio::cancellation_state& state) noexcept {
  return state.cancelled() != boost::asio::cancellation_type::none;
}

/// One coroutine that waits for something of an agent; a local variable of that coroutine.
/**
 * @par Cancellation
 * A cancelled wait leaves with `operation_aborted` and has taken nothing.
 */
template <class Clock, class Executor>
class Waiter final : public Waiting<Clock> {
 public:
  explicit Waiter(const Executor& executor, errc at_deadline = errc::deadline_passed)
      : Waiting<Clock>(at_deadline), channel_(executor) {}

  /// To be awaited. A cancelled coroutine leaves, even when its wake-up had been sent already.
  boost::asio::awaitable<void, Executor> wait() {
    co_await async_wake_up();
    woke_up(co_await boost::asio::this_coro::cancellation_state);
  }

  /// The two halves of `wait`, for a coroutine of which there are many: `wait` has its own frame.
  auto async_wake_up() {
    const auto token = boost::asio::as_tuple(boost::asio::deferred);
    return boost::asio::async_initiate<const decltype(token)&, void(boost::system::error_code)>(
        Initiate{this}, token);
  }
  void woke_up(const boost::asio::cancellation_state& state) noexcept {
    if (!this->take_wake_up() || is_cancelled(state)) {
      this->decide(boost::asio::error::operation_aborted);
    }
  }

 private:
  struct Initiate {
    template <class Handler>
    void operator()(Handler&& handler) const {
      if (waiter->woken()) {  // not at once: others were woken before
        boost::asio::post(
            waiter->channel_.get_executor(),
            boost::asio::append(std::forward<Handler>(handler), boost::system::error_code()));
      } else {
        waiter->channel_.async_receive(std::forward<Handler>(handler));
      }
    }

    Waiter* waiter;
  };

  // A loop that is being destroyed takes the waiting operation first and the coroutine later; in
  // between the channel believes in an operation that is gone, and `try_send` crashes. `cancel`
  // looks.
  void on_wake() noexcept override { channel_.cancel(); }

  boost::asio::experimental::basic_channel<Executor, WakeUpTraits, void(boost::system::error_code)>
      channel_;
};

}  // namespace fedagent::detail
