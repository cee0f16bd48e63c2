#pragma once

#include <boost/system/error_code.hpp>
#include <cstddef>
#include <utility>

#include "fedagent/detail/auto_list.hpp"
#include "fedagent/detail/deadlines.hpp"
#include "fedagent/error.hpp"

namespace fedagent::detail {

/// Whoever waits for something of an agent.
/**
 * A wake-up says "look again", so one too many does no harm. The first verdict stays: it says to
 * leave, and why. Destroying it takes it off every list.
 */
template <class Clock>
class Waiting : public Deadlines<Clock>::Entry, public AutoHook {
 public:
  /// To look again.
  void wake() noexcept {
    if (!woken_) {
      woken_ = true;
      on_wake();
    }
  }

  /// To leave with this error.
  void leave(boost::system::error_code verdict) noexcept {
    decide(verdict);
    wake();
  }

  /// Why it must leave; no error: it may go on.
  boost::system::error_code verdict() const noexcept { return verdict_; }

  bool in_line() const noexcept { return this->AutoHook::is_linked(); }
  void step_out() noexcept {
    if (in_line()) {
      this->AutoHook::unlink();
    }
    this->disarm();
  }

 protected:
  explicit Waiting(errc at_deadline) noexcept : at_deadline_(at_deadline) {}
  ~Waiting() = default;

  bool woken() const noexcept { return woken_; }
  /// It looks now: the next wake-up is a new one. @return Whether it was woken.
  bool take_wake_up() noexcept { return std::exchange(woken_, false); }
  void decide(boost::system::error_code verdict) noexcept {
    if (!verdict_) {
      verdict_ = verdict;
    }
  }
  /// For one that waits again and again.
  void begin_anew() noexcept {
    verdict_ = {};
    woken_ = false;
  }

 private:
  /// Called once, until `take_wake_up`; in the middle of what it waited for.
  virtual void on_wake() noexcept = 0;
  void on_deadline() noexcept override { leave(make_error_code(at_deadline_)); }

  boost::system::error_code verdict_;
  errc at_deadline_;
  bool woken_ = false;
};

/// Those who wait for the same thing, first come, first served.
template <class Clock>
class WaitList {
 public:
  using Waiting = detail::Waiting<Clock>;

  bool empty() const noexcept { return waiting_.empty(); }
  /// Puts it at the end, unless it is in line already. @return Whether it was not.
  bool push_back(Waiting& waiting) noexcept {
    const bool comes = !waiting.in_line();
    if (comes) {
      waiting_.push_back(waiting);
    }
    return comes;
  }

  /// Lets the first `count` look again. Each keeps its place until it steps out by itself.
  /** Whoever steps out empty-handed calls this again, so that no wake-up is lost with it. */
  void wake_first(std::size_t count) noexcept {
    for (auto& waiting : waiting_) {
      if (count-- == 0) {
        break;
      }
      waiting.wake();
    }
  }
  void wake_all() noexcept { wake_first(static_cast<std::size_t>(-1)); }
  /// Lets all leave with this error, for good: none of them is in line any more.
  void dismiss(boost::system::error_code verdict) noexcept {
    while (!waiting_.empty()) {
      auto& waiting = waiting_.front();
      waiting.step_out();
      waiting.leave(verdict);
    }
  }

 private:
  AutoList<Waiting> waiting_;
};

}  // namespace fedagent::detail
