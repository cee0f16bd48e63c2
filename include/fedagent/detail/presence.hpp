#pragma once

#include <atomic>
#include <boost/intrusive/list.hpp>
#include <boost/system/error_code.hpp>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "fedagent/detail/agent_context.hpp"
#include "fedagent/detail/node_watcher.hpp"
#include "fedagent/detail/status_machine.hpp"
#include "fedagent/node_status.hpp"

namespace fedagent::detail {

/// One open poll as its agent sees it; a member of the poll's handle.
template <class Clock, class Executor>
struct PollState
    : boost::intrusive::list_base_hook<boost::intrusive::link_mode<boost::intrusive::auto_unlink>> {
  SessionId session = 0;
  /// Why it did not open.
  boost::system::error_code error{};
  bool superseded = false;
  Waiter<Clock, Executor>* waiter = nullptr;
};

/// An agent as far as it is about the node: who polls, when it was heard of, and the status and the
/// timer that follow from it.
/**
 * It knows nothing of messages: `Ledger`, derived from it, is told when a poll opens and when the
 * node is lost.
 */
template <class T, class M, class O>
class Presence : public std::enable_shared_from_this<Presence<T, M, O>>,
                 private Deadlines<transport_clock_t<T>>::Entry {
 public:
  using Context = AgentContext<T, M, O>;
  using executor_type = typename T::executor_type;
  using clock_type = transport_clock_t<T>;
  using time_point = typename clock_type::time_point;
  using Poll = PollState<clock_type, executor_type>;
  using Waiters = WaitList<clock_type, executor_type>;
  using error_code = boost::system::error_code;

  Presence(std::string node_id, std::shared_ptr<Context> the_context)
      : id(std::move(node_id)),
        context(std::move(the_context)),
        disconnect_timeout_(context->options.disconnect_timeout) {}
  Presence(const Presence&) = delete;
  Presence& operator=(const Presence&) = delete;

  /// A poll without a handle: the seed's `set_active`.
  void poll_opened(SessionId session) {
    const auto self = this->shared_from_this();
    last_seen.poll = last_seen.any = clock_type::now();
    latest_session_ = session;
    ++polls_opened_;
    on_poll(session);
    status_event(NodeEvent::poll_opened);
  }

  /// @return Why the poll was not opened; no error when it was.
  error_code open_poll(Poll& poll) {
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
        if (older.waiter != nullptr) {
          older.waiter->leave(make_error_code(errc::superseded));
        }
      }
    }
    polls_.push_back(poll);
    poll_opened(poll.session);
    return {};
  }

  void poll_ended() { status_event(NodeEvent::poll_ended); }

  /// A sign of life other than a poll: the disconnection timeout starts again.
  void alive(time_point now = clock_type::now()) {
    last_seen.any = now;
    status_event(NodeEvent::sign_of_life);
  }

  Duration disconnect_timeout() const noexcept { return disconnect_timeout_; }
  void disconnect_timeout(Duration timeout) {
    check_duration(timeout, "disconnect_timeout");
    disconnect_timeout_ = timeout;
    status_event(NodeEvent::sign_of_life);
  }

  const StatusMachine& status() const noexcept { return status_; }
  /// When DISCONNECTED comes, or the removal of the agent; `max()`: never.
  time_point status_ends() const noexcept {
    return this->armed() ? this->deadline() : time_point::max();
  }
  /// The status for other threads.
  NodeActiveStatus status_snapshot() const noexcept {
    return snapshot_.load(std::memory_order_relaxed);
  }
  /// Why the agent has ended; no error while it has not.
  error_code ended() const noexcept { return ended_ == errc{} ? error_code() : ended_; }

  const std::string id;
  const std::shared_ptr<Context> context;
  LastSeen<clock_type> last_seen;
  /// Those who wait for a status, or for the queue to be drained.
  Waiters changed;
  /// Those who wait for the node itself.
  NodeWatchers watchers;

 protected:
  ~Presence() = default;

  /// A poll opens, in this session; the status is still the one before.
  virtual void on_poll(SessionId session) = 0;
  /// The node has become DISCONNECTED.
  virtual void on_lost() = 0;

  /// From here on no event counts.
  void end_presence(errc reason) noexcept {
    if (present()) {
      context->count_present(-1);
    }
    ended_ = reason;
    this->disarm();
  }

  /// Whether a poll of the same session has opened since this one.
  bool polled_again(SessionId session, std::uint64_t poll) const noexcept {
    return session != 0 && session == latest_session_ && poll != polls_opened_;
  }
  std::uint64_t polls_opened() const noexcept { return polls_opened_; }

 private:
  void status_event(NodeEvent event) {
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
      arm(disconnect_timeout_);
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
    const auto self = this->weak_from_this().lock();
    watchers.tell([this] { return status_.status() == NodeActiveStatus::disconnected; });
    if (lost && !ended() && status_.status() == after) {
      if (context->idle_expiry > Duration::zero()) {
        arm(context->idle_expiry);
      }
      on_lost();
    }
  }

  /// Whether the node has been here and is not lost.
  bool present() const noexcept {
    return !ended() && status_.has_polled() && status_.status() != NodeActiveStatus::disconnected;
  }

  void arm(Duration after) {
    context->watchdog.arm(
        *this,
        clock_type::now() + std::chrono::duration_cast<typename clock_type::duration>(after));
  }

  // One timer for both: a node is either on its way to DISCONNECTED or to its removal.
  void on_deadline() noexcept override {
    const auto self = this->weak_from_this().lock();
    if (status_.status() == NodeActiveStatus::disconnected) {
      context->expire(id);
    } else {
      status_event(NodeEvent::timeout);
    }
  }

  Duration disconnect_timeout_;
  StatusMachine status_;
  errc ended_{};
  std::atomic<NodeActiveStatus> snapshot_{NodeActiveStatus::active};
  boost::intrusive::list<Poll, boost::intrusive::constant_time_size<false>> polls_;
  SessionId latest_session_ = 0;
  std::uint64_t polls_opened_ = 0;
};

}  // namespace fedagent::detail
