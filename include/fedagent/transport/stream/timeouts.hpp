#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "fedagent/detail/deadlines.hpp"
#include "fedagent/transport/stream/context.hpp"
#include "fedagent/transport/stream/error.hpp"
#include "fedagent/transport/stream/options.hpp"

namespace fedagent::stream::detail {

/// How long a connection waits: for the hello, the next frame, its rest, a write, the peer to
/// leave.
/**
 * What comes too late makes the owner `fail`, or `close` when it has failed already.
 *
 * @par Lifetimes
 * A member of its owner, which holds the context.
 * @par Thread safety
 * Unsafe: on one executor.
 */
template <class Owner, class Executor, class Clock>
class Timeouts final : private fedagent::detail::Deadlines<Clock>::Entry {
 public:
  Timeouts(Owner& owner, Context<Executor, Clock>& context) noexcept
      : owner_(&owner), context_(&context) {}
  Timeouts(const Timeouts&) = delete;
  Timeouts& operator=(const Timeouts&) = delete;
  ~Timeouts() { this->disarm(); }

  /// The time for the first frame runs from here.
  void expect_hello() noexcept { expect(Expecting::hello, options().hello_timeout); }
  /// The time for the next frame runs from here; that for a hello runs on.
  void expect_frame() noexcept {
    if (expecting_ != Expecting::hello) {
      expect(Expecting::frame, options().peer_timeout);
    }
  }
  void expect_rest() noexcept { expect(Expecting::rest, options().frame_timeout); }
  void read_ended() noexcept {
    expecting_ = Expecting::nothing;
    read_by_ = time_point::max();
  }

  void write_begins() noexcept {
    write_by_ = after(options().frame_timeout);
    watch(write_by_);
  }
  void write_ended() noexcept { write_by_ = time_point::max(); }

  /// The connection has failed: from here only the end is waited for.
  void expect_end() noexcept {
    close_by_ = after(options().close_timeout);
    watch(close_by_);
  }
  /// Nothing is waited for any more.
  void stop() noexcept {
    stopped_ = true;
    this->disarm();
  }

 private:
  using time_point = typename Clock::time_point;
  enum class Expecting : std::uint8_t { nothing, hello, frame, rest };

  const ConnectionOptions& options() const noexcept { return context_->connection_options; }

  static time_point after(Duration duration) noexcept {
    return fedagent::detail::time_after(Clock::now(), duration);
  }

  void expect(Expecting what, Duration within) noexcept {
    expecting_ = what;
    read_by_ = after(within);
    watch(read_by_);
  }

  // The deadline moves with every frame. What is armed stays armed until it is due, unless
  // something is due earlier; then the deadlines are looked at anew.
  void watch(time_point at) noexcept {
    if (!stopped_ && (!this->armed() || at < this->deadline())) {
      context_->watchdog.arm(*this, at);
    }
  }

  void on_deadline() noexcept override {
    const auto now = Clock::now();
    if (close_by_ != time_point::max()) {
      if (now >= close_by_) {
        owner_->close();
      } else {
        watch(close_by_);
      }
    } else if (now >= write_by_) {
      owner_->fail(errc::write_timeout, false);
    } else if (now >= read_by_) {
      owner_->fail(expecting_ == Expecting::hello   ? errc::hello_timeout
                   : expecting_ == Expecting::frame ? errc::peer_silent
                                                    : errc::frame_timeout);
    } else if (const auto next = std::min(read_by_, write_by_); next != time_point::max()) {
      watch(next);
    }
  }

  Owner* owner_;
  Context<Executor, Clock>* context_;
  time_point read_by_ = time_point::max();
  time_point write_by_ = time_point::max();
  time_point close_by_ = time_point::max();
  Expecting expecting_ = Expecting::nothing;
  bool stopped_ = false;
};

}  // namespace fedagent::stream::detail
