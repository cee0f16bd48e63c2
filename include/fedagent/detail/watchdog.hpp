#pragma once

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <memory>

#include "fedagent/detail/deadlines.hpp"

namespace fedagent::detail {

/// One cancellable coroutine and one timer that run any number of deadlines.
/**
 * A store has one for all its agents, an agent that stands alone has its own. The coroutine lives
 * while something is armed, and until the last time it was to look at: an idle store keeps the loop
 * from running out of work for a while, a stopped one does not.
 *
 * @par Lifetimes
 * The coroutine holds the shared state, never the watchdog. The destructor ends it without waiting,
 * and may run after the loop is gone.
 * @par Thread safety
 * Unsafe: all calls on the executor.
 */
template <class Clock, class Executor>
class Watchdog {
 public:
  using time_point = typename Clock::time_point;
  using Entry = typename Deadlines<Clock>::Entry;

  explicit Watchdog(const Executor& executor) : state_(std::make_shared<State>(executor)) {}
  Watchdog(const Watchdog&) = delete;
  Watchdog& operator=(const Watchdog&) = delete;
  ~Watchdog() {
    state_->stopped = true;
    look();
  }

  /// Lets the coroutine look, and end when nothing is armed any more; disarming does not wake it.
  void look() noexcept {
    if (state_->timer != nullptr) {
      state_->timer->cancel();
    }
  }

  /// The entry's `on_deadline` will run at `at` or after it, never before and never in this call.
  /** `max()` is never: the entry is disarmed. */
  void arm(Entry& entry, time_point at) {
    if (at == Deadlines<Clock>::never) {
      entry.disarm();
      return;
    }
    state_->deadlines.arm(entry, at);
    if (!state_->running) {
      boost::asio::co_spawn(state_->executor, walk(state_), boost::asio::detached);
      state_->running = true;  // if that throws, the next `arm` tries again
    } else if (at < state_->sleeps_until && state_->timer != nullptr) {
      // Wakes the coroutine, which looks again.
      state_->timer->expires_at(state_->sleeps_until = at);
    }
  }

 private:
  using Timer = boost::asio::basic_waitable_timer<Clock, boost::asio::wait_traits<Clock>, Executor>;

  struct State {
    explicit State(const Executor& the_executor) : executor(the_executor) {}

    Executor executor;
    Deadlines<Clock> deadlines;
    /// That of the coroutine, while there is one.
    Timer* timer = nullptr;
    time_point sleeps_until = time_point::max();
    bool running = false;
    bool stopped = false;
  };

  // The timer lives in the coroutine: whoever is destroyed after the loop must not touch it.
  struct Sleep {
    explicit Sleep(State& of) : state(&of), timer(of.executor) { state->timer = &timer; }
    Sleep(const Sleep&) = delete;
    Sleep& operator=(const Sleep&) = delete;
    ~Sleep() { state->timer = nullptr; }

    State* state;
    Timer timer;
  };

  // A timer that has fired but not yet run can no longer be cancelled, so what the wait ended with
  // tells nothing: after each wait the deadlines are looked at again (B10).
  static boost::asio::awaitable<void, Executor> walk(std::shared_ptr<State> state) {
    // Spawned on the executor it would begin at once, within `arm`, and run what is due already.
    co_await boost::asio::post(state->executor, boost::asio::deferred);
    Sleep sleep(*state);
    while (!state->stopped) {
      while (!state->stopped && state->deadlines.run_one(Clock::now())) {
      }
      const auto next = state->deadlines.next();
      if (state->stopped || next == Deadlines<Clock>::never) {
        break;
      }
      sleep.timer.expires_at(state->sleeps_until = next);
      co_await sleep.timer.async_wait(boost::asio::as_tuple(boost::asio::deferred));
    }
    state->running = false;
    state->sleeps_until = time_point::max();
  }

  std::shared_ptr<State> state_;
};

}  // namespace fedagent::detail
