#pragma once

#include <atomic>
#include <boost/system/error_code.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "fedagent/detail/agent_context.hpp"
#include "fedagent/detail/agent_ptr.hpp"
#include "fedagent/detail/auto_list.hpp"
#include "fedagent/detail/node_watcher.hpp"
#include "fedagent/detail/status_machine.hpp"
#include "fedagent/node_status.hpp"

namespace fedagent::detail {

/// One open poll as its agent sees it; a member of the poll's handle.
template <class Clock>
struct PollState : AutoHook {
  SessionId session = 0;
  bool superseded = false;
  /// When its time is over.
  typename Clock::time_point until = Clock::time_point::max();
};

/// An agent as far as it is about the node: who polls, when it was heard of, and the status and the
/// timer that follow from it.
/**
 * It knows nothing of messages: `AgentCore`, derived from it, is told when a poll opens and when
 * the node is lost.
 */
template <class T, class M, class O>
class Presence : private Deadlines<transport_clock_t<T>>::Entry, public AgentCounts {
 public:
  using Context = AgentContext<T, M, O>;
  using executor_type = typename T::executor_type;
  using clock_type = transport_clock_t<T>;
  using time_point = typename clock_type::time_point;
  using Poll = PollState<clock_type>;
  using Waiters = WaitList<clock_type>;
  using error_code = boost::system::error_code;

  /// @param node_id Must stay valid.
  Presence(std::string_view node_id, std::shared_ptr<Context> the_context)
      : id(node_id),
        context(std::move(the_context)),
        disconnect_timeout_(context->options.disconnect_timeout) {}
  Presence(const Presence&) = delete;
  Presence& operator=(const Presence&) = delete;

  /// A poll without a handle: the seed's `set_active`.
  void poll_opened(SessionId session, time_point now = clock_type::now()) {
    const auto self = guard();
    last_poll_ = last_any_ = now;
    on_poll(session);
    status_event(NodeEvent::poll_opened, now);
  }

  /// @return Why the poll was not opened; no error when it was.
  error_code open_poll(Poll& poll, SessionId session) {
    if (ended()) {
      return ended();
    }
    const auto policy = context->options.polls;
    if (policy == PollPolicy::reject && status_.open_polls() > 0) {
      return errc::poll_refused;
    }
    if (policy == PollPolicy::newest_wins) {
      for (auto& older : polls_) {
        older.superseded = true;
      }
      takers.wake_all();
    }
    const auto now = clock_type::now();
    poll.session = session;
    poll.superseded = false;
    poll.until = context->poll_deadline(now);
    polls_.push_back(poll);
    poll_opened(session, now);
    return {};
  }

  void poll_ended() { status_event(NodeEvent::poll_ended, clock_type::now()); }

  /// A sign of life other than a poll: the disconnection timeout starts again.
  void alive(time_point now = clock_type::now()) {
    last_any_ = now;
    status_event(NodeEvent::sign_of_life, now);
  }
  void replied(time_point now) {
    last_reply_ = now;
    alive(now);
  }

  Duration disconnect_timeout() const noexcept { return disconnect_timeout_; }
  void disconnect_timeout(Duration timeout) {
    check_duration(timeout, "disconnect_timeout");
    disconnect_timeout_ = timeout;
    status_event(NodeEvent::sign_of_life, clock_type::now());
  }

  const StatusMachine& status() const noexcept { return status_; }
  /// When DISCONNECTED comes, or the removal of the agent; `max()`: never.
  time_point status_ends() const noexcept { return this->deadline(); }
  /// The status for other threads.
  NodeActiveStatus status_snapshot() const noexcept {
    return snapshot_.load(std::memory_order_relaxed);
  }
  /// Why the agent has ended; no error while it has not.
  error_code ended() const noexcept {
    return ended_ == 0 ? error_code() : make_error_code(static_cast<errc>(ended_));
  }

  LastSeen<clock_type> last_seen() const noexcept {
    return {at(last_poll_), at(last_reply_), at(last_any_)};
  }
  /// The latest sign of life. @pre There was one.
  time_point last_heard_of() const noexcept { return last_any_; }

  /// The agent, held by whoever goes on after it has run a user's handler. Null at its end.
  AgentPtr<Presence> guard() noexcept { return AgentPtr<Presence>::lock(this); }

  const std::string_view id;
  /// Until the agent has no user any more.
  std::shared_ptr<Context> context;
  /// Those who wait for a task, the oldest first.
  Waiters takers;
  /// Those who wait for a status, or for the queue to be drained.
  Waiters changed;
  /// Those who wait for the node itself.
  NodeWatchers watchers;

 protected:
  virtual ~Presence() = default;

  /// A poll opens, in this session; the status is still the one before.
  virtual void on_poll(SessionId session) = 0;
  /// The node has become DISCONNECTED.
  virtual void on_lost() = 0;

  /// From here on no event counts.
  void end_presence(errc reason) noexcept {
    if (present()) {
      context->count_present(-1);
    }
    ended_ = static_cast<std::uint8_t>(reason);
    this->disarm();
  }

 private:
  template <class>
  friend class AgentPtr;
  template <class>
  friend class AgentRef;
  static constexpr time_point unseen = time_point::min();

  /// The last user has gone.
  virtual void unused() noexcept = 0;

  static std::optional<time_point> at(time_point seen) noexcept {
    return seen == unseen ? std::nullopt : std::optional(seen);
  }

  void status_event(NodeEvent event, time_point now) {
    if (ended()) {
      return;
    }
    const auto before = status_.status();
    const bool was_present = present();
    const auto timer = status_.on(event);
    const auto after = status_.status();
    if (timer == TimerAction::cancel) {
      this->disarm();
    } else if (timer == TimerAction::restart) {
      arm(now, disconnect_timeout_);
    }
    snapshot_.store(after, std::memory_order_relaxed);
    if (present() != was_present) {
      context->count_present(present() ? 1 : -1);
    }
    if (before != after) {
      context->status_changed(id, before, after);
      changed.wake_all();
    }
    const bool lost = after == NodeActiveStatus::disconnected;
    if (lost == (before == NodeActiveStatus::disconnected)) {
      return;
    }
    const auto self = guard();
    watchers.tell([this] { return status_.status() == NodeActiveStatus::disconnected; });
    if (lost && !ended() && status_.status() == after) {
      if (const auto expiry = context->store_options.idle_expiry; expiry > Duration::zero()) {
        arm(now, expiry);
      }
      on_lost();
    }
  }

  /// Whether the node has been here and is not lost.
  bool present() const noexcept {
    return !ended() && status_.has_polled() && status_.status() != NodeActiveStatus::disconnected;
  }

  void arm(time_point now, Duration timeout) {
    context->watchdog.arm(*this, time_after(now, timeout));
  }

  // One timer for both: a node is either on its way to DISCONNECTED or to its removal.
  void on_deadline() noexcept override {
    const auto self = guard();
    if (status_.status() == NodeActiveStatus::disconnected) {
      context->expire(id);
    } else {
      status_event(NodeEvent::timeout, clock_type::now());
    }
  }

  time_point last_poll_ = unseen;
  time_point last_reply_ = unseen;
  time_point last_any_ = unseen;
  Duration disconnect_timeout_;
  StatusMachine status_;
  /// An `errc` in a byte, for every byte of an idle agent counts; 0 while it has not ended.
  std::uint8_t ended_ = 0;
  std::atomic<NodeActiveStatus> snapshot_{NodeActiveStatus::active};
  AutoList<Poll> polls_;
};

}  // namespace fedagent::detail
