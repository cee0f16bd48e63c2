#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/system/error_code.hpp>

#include "fedagent/detail/waiter.hpp"

namespace fedagent::stream::detail {

/// Lets one coroutine at a time write, first come, first served.
/**
 * @par Thread safety
 * Unsafe: on one executor.
 */
template <class Clock, class Executor>
class Turn {
 public:
  using Waiter = fedagent::detail::Waiter<Clock, Executor>;

  /// Has the turn as long as it lives.
  class Holder {
   public:
    explicit Holder(Turn& turn) noexcept : turn_(&turn) {}
    Holder(const Holder&) = delete;
    Holder& operator=(const Holder&) = delete;
    ~Holder() { turn_->release(); }

   private:
    Turn* turn_;
  };

  /// Takes the turn when nobody has it and nobody waits for it.
  bool try_take() noexcept {
    if (taken_ || !line_.empty()) {
      return false;
    }
    taken_ = true;
    return true;
  }

  /// Waits for the turn. @return No error: the caller has it, and makes a `Holder`.
  static boost::asio::awaitable<boost::system::error_code, Executor> take(Turn& turn,
                                                                          Executor executor) {
    Waiter waiter(executor);
    turn.line_.push_back(waiter);
    do {
      co_await waiter.wait();
    } while (!waiter.verdict() && turn.taken_);
    waiter.step_out();
    if (waiter.verdict()) {
      turn.wake_next();
      co_return waiter.verdict();
    }
    turn.taken_ = true;
    co_return boost::system::error_code();
  }

  /// Those who wait leave with this error.
  void dismiss(boost::system::error_code error) noexcept { line_.dismiss(error); }

 private:
  void release() noexcept {
    taken_ = false;
    wake_next();
  }
  // Whoever leaves empty-handed passes the wake-up on.
  void wake_next() noexcept {
    if (!taken_) {
      line_.wake_first(1);
    }
  }

  fedagent::detail::WaitList<Clock> line_;
  bool taken_ = false;
};

}  // namespace fedagent::stream::detail
