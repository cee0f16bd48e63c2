#pragma once

#include <algorithm>
#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/intrusive/list.hpp>
#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <boost/system/result.hpp>
#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "fedagent/counters.hpp"
#include "fedagent/detail/agent_context.hpp"
#include "fedagent/detail/status_machine.hpp"
#include "fedagent/detail/task_queue.hpp"
#include "fedagent/replies.hpp"
#include "fedagent/task.hpp"

namespace fedagent {

/// What a send may say besides the message.
template <class Clock>
struct SendOptions {
  /// When the request ends with `deadline_passed` whatever its state. `max()`: never.
  typename Clock::time_point deadline = Clock::time_point::max();
  /// How often the message was sent before. Above zero it is a redelivery: it passes the checks for
  /// a new message, and an open request with this id goes back to the front of the queue.
  std::uint32_t retry_count = 0;
  /// When it was sent first; none: now.
  std::optional<typename Clock::time_point> first_send_time{};
};

/// When a node was last heard of. None: never.
template <class Clock>
struct LastSeen {
  std::optional<typename Clock::time_point> poll{};
  std::optional<typename Clock::time_point> reply{};
  /// Any traffic, a poll or a reply too.
  std::optional<typename Clock::time_point> any{};
};

/// The default handler: nobody waits for the outcome.
struct NoHandler {
  template <class OutcomeType>
  void operator()(OutcomeType&& /*outcome*/) const noexcept {}
};

namespace detail {

/// One open poll as its agent sees it; a member of the poll's handle.
template <class Clock, class Executor>
struct PollState
    : boost::intrusive::list_base_hook<boost::intrusive::link_mode<boost::intrusive::auto_unlink>> {
  SessionId session = 0;
  bool superseded = false;
  Waiter<Clock, Executor>* waiter = nullptr;
};

/// The agent itself, behind its handles: the rules by which messages, polls and replies meet.
/**
 * Everything here happens at once, on the executor. A handler of the user runs at the end of what
 * led to it and may call the agent again; whatever goes on after a handler holds a reference to the
 * core and looks at its state anew.
 */
template <class T, class M, class O>
class AgentCore final : public std::enable_shared_from_this<AgentCore<T, M, O>>,
                        public TaskOwner<M, transport_clock_t<T>>,
                        private Deadlines<transport_clock_t<T>>::Entry {
 public:
  using Context = AgentContext<T, M, O>;
  using executor_type = typename T::executor_type;
  using clock_type = transport_clock_t<T>;
  using time_point = typename clock_type::time_point;
  using Record = TaskRecord<M, clock_type>;
  using Poll = PollState<clock_type, executor_type>;
  using Waiters = WaitList<clock_type, executor_type>;
  using error_code = boost::system::error_code;

  AgentCore(std::string node_id, std::shared_ptr<Context> the_context)
      : id(std::move(node_id)),
        context(std::move(the_context)),
        disconnect_timeout(context->options.disconnect_timeout),
        replies_(context->options.remembered_requests, context->options.remembered_for) {}
  AgentCore(const AgentCore&) = delete;
  AgentCore& operator=(const AgentCore&) = delete;
  ~AgentCore() { end(errc::stopped); }

  // ---- messages

  /// Accepts the message or says why not. The handler is moved from only when it is accepted.
  /** @return The record, owned by this agent until it ends. */
  template <class Handler>
  boost::system::result<Record*> send(const MessagePtr<M>& message, Handler& handler,
                                      const SendOptions<clock_type>& options,
                                      bool in_line = false) {
    const auto self = this->shared_from_this();
    const auto request_id = awaited_id(*message);
    Record* const open = find_request(request_id);
    if (options.retry_count > 0 && open != nullptr) {
      redeliver(*open, options.retry_count);
      return open;
    }
    constexpr bool handled = !std::is_same_v<Handler, NoHandler>;
    if (const auto refusal = refusal_of(*message, handled, options, in_line)) {
      ++counters_.refused;
      context->hooks.refused(id, message, refusal);
      return refusal;
    }
    boost::intrusive_ptr<Record> record(
        new HandledTaskRecord<M, clock_type, Handler>(message, std::move(handler)));
    record->owner = this;
    record->first_send_time = options.first_send_time.value_or(clock_type::now());
    record->end_by = options.deadline;
    record->retry_count = options.retry_count;
    record->sequence = next_sequence_++;
    if (!request_id.empty()) {
      replies_.add(request_id, *record);
      ++counters_.requests;
    }
    ++counters_.accepted;
    Record* const accepted = record.detach();
    queue.push_back(*accepted);
    watch(*accepted);
    context->hooks.queued(id, accepted->message, status_.status());
    return accepted;
  }

  /// Whether a send would be refused for want of room only, and may wait for it.
  bool waits_for_room(const M& message, bool handled, const SendOptions<clock_type>& options,
                      bool in_line) {
    return context->options.overflow == OverflowPolicy::wait &&
           refusal_of(message, handled, options, in_line) == errc::queue_full;
  }

  Record* find_request(std::string_view request_id) const {
    return request_id.empty() ? nullptr : replies_.find(request_id);
  }

  /// Ends the next tasks whose time is over; the timer that does so may be late (E3).
  void end_overdue() noexcept {
    const auto self = this->shared_from_this();
    while (!queue.empty() && queue.front().armed() &&
           queue.front().deadline() <= clock_type::now()) {
      deadline_reached(queue.front());
    }
  }

  /// Takes the next task for a poll. @pre The queue is not empty.
  Task<M, clock_type> take(SessionId session) {
    Record& record = queue.front();
    queue.remove(record);
    record.state = TaskState::leased;
    record.session = session;
    record.poll = polls_opened_;
    ++record.lease;
    leases_.push_back(record);
    ++leased_;
    watch(record);
    return Task<M, clock_type>(boost::intrusive_ptr<Record>(&record));
  }

  /// The seed's `task_done`: the oldest task in hand has been delivered.
  boost::system::result<void> task_done() {
    for (auto& record : leases_) {
      if (record.in_hand()) {
        delivered(record);
        return {};
      }
    }
    return make_error_code(errc::no_task_taken);
  }

  bool flush(std::string_view request_id, bool stopped) {
    const auto self = this->shared_from_this();
    Record* const record = find_request(request_id);
    if (record == nullptr) {
      return false;
    }
    end(*record, make_error_code(errc::flushed),
        stopped ? ReplyDisposition::stopped : ReplyDisposition::late);
    return true;
  }

  /// A reply, or any other message without a destination, that came from this node.
  ReplyDisposition reply(MessagePtr<M> message) {
    const auto self = this->shared_from_this();
    const auto now = clock_type::now();
    last_seen.reply = now;
    alive();
    const auto request_id = message_traits<M>::request_id(*message);
    Record* const record = find_request(request_id);
    auto disposition = ReplyDisposition::uncorrelated;
    if (record != nullptr) {
      // What was never looked at cannot have been answered: the id is a guess or somebody else's.
      disposition = record->seen || record->retry_count > 0 ? ReplyDisposition::delivered
                                                            : ReplyDisposition::unexpected;
    } else if (!request_id.empty()) {
      disposition = replies_.classify(request_id, now);
    }
    ++counters_.replies[static_cast<std::size_t>(disposition)];
    context->hooks.reply(id, message, disposition);
    if (disposition == ReplyDisposition::delivered) {
      confirm(*record);
      ++counters_.replied;
      finish(*record, std::move(message), ReplyDisposition::duplicate);
    }
    return disposition;
  }

  /// Runs what may throw the exceptions of a user's handler.
  template <class F>
  void guarded(F function) noexcept {
    try {
      function();
    } catch (...) {
      ++counters_.handler_errors;
      context->hooks.handler_error(id, std::current_exception());
    }
  }

  // ---- polls and status

  /// A poll without a handle: the seed's `set_active`.
  void poll_opened(SessionId session) {
    const auto self = this->shared_from_this();
    last_seen.poll = last_seen.any = clock_type::now();
    last_session_ = session;
    ++polls_opened_;
    settle_leases(session);
    status_event(NodeEvent::poll_opened);
  }

  boost::system::result<void> open_poll(Poll& poll) {
    if (ended_) {
      return ended_;
    }
    const auto policy = context->options.polls;
    if (policy == PollPolicy::reject && status_.open_polls() > 0) {
      return make_error_code(errc::poll_refused);
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
  void alive() {
    last_seen.any = clock_type::now();
    status_event(NodeEvent::sign_of_life);
  }

  void set_disconnect_timeout(Duration timeout) {
    check_duration(timeout, "disconnect_timeout");
    disconnect_timeout = timeout;
    status_event(NodeEvent::sign_of_life);
  }

  const StatusMachine& status() const noexcept { return status_; }
  /// The status for other threads.
  NodeActiveStatus status_snapshot() const noexcept {
    return snapshot_.load(std::memory_order_relaxed);
  }

  // ---- the end, and what can be seen

  /// Ends every message and every wait; nothing is accepted afterwards. Only the first call counts.
  void end(errc reason) noexcept {
    if (ended_) {
      return;
    }
    const auto self = this->weak_from_this().lock();  // a handler may let the last handle go
    if (present()) {
      context->count_present(-1);
    }
    ended_ = make_error_code(reason);
    this->disarm();
    queue.takers.dismiss(ended_);
    queue.senders.dismiss(ended_);
    while (!queue.empty()) {
      end(queue.front(), ended_, ReplyDisposition::late);
    }
    while (!leases_.empty()) {
      end(leases_.front(), ended_, ReplyDisposition::late);
    }
    while (Record* const record = replies_.any()) {
      end(*record, ended_, ReplyDisposition::late);
    }
    changed.dismiss(ended_);
    context->watchdog.look();
  }
  /// Why the agent has ended; no error while it has not.
  error_code ended() const noexcept { return ended_; }

  bool drained() const noexcept { return queue.empty() && leased_ == 0; }

  Counters counters() const {
    Counters now = counters_;
    now.queued = queue.size();
    now.queued_bytes = queue.bytes();
    now.leased = leased_;
    now.open_requests = replies_.open();
    return now;
  }
  void count_wrong_node() noexcept { ++counters_.wrong_node; }
  std::size_t remembered() const noexcept { return replies_.remembered(); }
  void count_forwarded(const MessagePtr<M>& message) {
    ++counters_.replies[static_cast<std::size_t>(ReplyDisposition::forwarded)];
    context->hooks.reply(id, message, ReplyDisposition::forwarded);
  }

  // ---- the records' view of their owner

  void delivered(Record& record) noexcept override {
    record.state = TaskState::delivered;
    record.seen = true;
    context->hooks.delivered(id, record.message);
    // A newer poll of the same session came in while this delivery was still being reported.
    if (record.session != 0 && record.session == last_session_ && record.poll != polls_opened_) {
      confirm_delivery(record);
    }
  }

  void untaken(Record& record) noexcept override {
    if (clock_type::now() >= expiry_of(record)) {
      end_unconfirmed(record, errc::expired);
    } else {
      put_back(record);
    }
  }

  void lease_died(Record& record) noexcept override {
    if (record.retry_count >= context->options.max_retries) {
      end_unconfirmed(record, errc::retries_exhausted);
    } else if (clock_type::now() >= expiry_of(record)) {
      end_unconfirmed(record, errc::expired);
    } else {
      redeliver(record, record.retry_count + 1);
    }
  }

  void end_unconfirmed(Record& record, errc reason) noexcept override {
    const auto self = this->weak_from_this().lock();  // the handler may let the last handle go
    end(record, make_error_code(reason), ReplyDisposition::late);
  }

  void deadline_reached(Record& record) noexcept override {
    end_unconfirmed(record,
                    clock_type::now() >= record.end_by ? errc::deadline_passed : errc::expired);
  }

  const std::string id;
  const std::shared_ptr<Context> context;
  TaskQueue<M, clock_type, executor_type> queue;
  /// Those who wait for a status, or for the queue to be drained.
  Waiters changed;
  LastSeen<clock_type> last_seen;
  Duration disconnect_timeout;

 private:
  // `queue_full` is the last reason looked at, so that whoever waits for room waits for room only.
  error_code refusal_of(const M& message, bool handled, const SendOptions<clock_type>& options,
                        bool in_line) {
    const auto now = clock_type::now();
    const auto request_id = awaited_id(message);
    const auto& limits = context->options;
    const auto size = message_traits<M>::size(message);
    const auto sent = options.first_send_time.value_or(now);
    if (ended_) {
      return ended_;
    }
    if (handled && request_id.empty()) {
      return errc::request_id_missing;
    }
    if (find_request(request_id) != nullptr) {
      return errc::duplicate_request_id;
    }
    if (now >= options.deadline) {
      return errc::deadline_passed;
    }
    if (limits.max_age > Duration::zero() && now - sent >= limits.max_age) {
      return errc::expired;
    }
    if (options.retry_count > 0) {
      return {};
    }
    if (status_.status() == NodeActiveStatus::disconnected &&
        limits.when_disconnected == DisconnectedPolicy::refuse) {
      return errc::disconnected;
    }
    if (limits.max_queued_bytes > 0 && size > limits.max_queued_bytes) {
      return errc::message_too_large;
    }
    if (limits.overflow == OverflowPolicy::wait && !in_line && !queue.senders.empty()) {
      return errc::queue_full;
    }
    // Handlers may send again: only what was there is displaced.
    const auto newest = next_sequence_;
    while (!queue.has_room(size, limits)) {
      if (limits.overflow != OverflowPolicy::drop_oldest || queue.empty() ||
          queue.front().sequence >= newest) {
        return errc::queue_full;
      }
      end_unconfirmed(queue.front(), errc::displaced);
    }
    // The handlers of what was displaced may have done anything.
    if (!ended_ && find_request(request_id) != nullptr) {
      return errc::duplicate_request_id;
    }
    return ended_;
  }

  // Above the queue's age a task is not delivered any more; out of the queue the age does not
  // matter.
  time_point expiry_of(const Record& record) const {
    return context->options.max_age > Duration::zero()
               ? record.first_send_time + std::chrono::duration_cast<typename clock_type::duration>(
                                              context->options.max_age)
               : time_point::max();
  }

  void watch(Record& record) {
    const auto at = record.state == TaskState::queued ? std::min(record.end_by, expiry_of(record))
                                                      : record.end_by;
    if (at == time_point::max()) {
      record.disarm();
    } else if (!record.armed() || record.deadline() != at) {
      context->watchdog.arm(record, at);
    }
  }

  void leave_list(Record& record) noexcept {
    if (record.state == TaskState::queued) {
      queue.remove(record);
    } else if (record.state == TaskState::leased || record.state == TaskState::delivered) {
      leases_.erase(leases_.iterator_to(record));
      --leased_;
    }
  }

  void put_back(Record& record) {
    leave_list(record);
    record.state = TaskState::queued;
    queue.put_back(record);
    watch(record);
  }

  void redeliver(Record& record, std::uint32_t retry_count) {
    if (record.state == TaskState::working) {
      --counters_.confirmed;
    }
    put_back(record);
    record.retry_count = retry_count;
    ++counters_.redelivered;
    context->hooks.requeued(id, record.message, retry_count);
  }

  /// The node has the message. Nothing is left to deliver; a request now waits for its reply.
  void confirm(Record& record) {
    if (record.state == TaskState::working) {
      return;
    }
    leave_list(record);
    record.state = TaskState::working;
    ++counters_.confirmed;
    watch(record);
    context->hooks.confirmed(id, record.message);
    tell_if_drained();
  }

  void confirm_delivery(Record& record) {
    confirm(record);
    if (!record.tracked()) {
      finish(record, MessagePtr<M>(), ReplyDisposition::late);
    }
  }

  void end(Record& record, error_code reason, ReplyDisposition further) noexcept {
    const auto index = static_cast<std::size_t>(reason.value()) - 1;
    if (record.state != TaskState::working) {
      leave_list(record);
      ++counters_.dropped[index];
      context->hooks.dropped(id, record.message, reason);
    }
    if (record.tracked()) {
      ++counters_.failed[index];
    }
    finish(record, reason, further);
  }

  /// The one place where a record ends. The handler runs last.
  void finish(Record& record, Outcome<M> outcome, ReplyDisposition further) noexcept {
    const boost::intrusive_ptr<Record> owned(&record, false);
    record.state = TaskState::ended;
    record.owner = nullptr;
    record.disarm();
    if (record.tracked()) {
      replies_.finish(awaited_id(*record.message), further, clock_type::now());
    }
    tell_if_drained();
    guarded([&] { record.complete(std::move(outcome)); });
  }

  void tell_if_drained() noexcept {
    if (drained()) {
      changed.wake_all();
    }
  }

  /// What a poll that opens tells about the tasks that earlier polls took.
  void settle_leases(SessionId session) {
    // A step may end a record, whose handler may do anything: start over after each.
    for (auto record = leases_.begin(); record != leases_.end();) {
      const bool other = session != 0 && record->session != 0 && session != record->session;
      if (record->in_hand()) {
        if (!other || context->options.polls != PollPolicy::newest_wins) {
          ++record;
          continue;
        }
        lease_died(*record);
      } else if (other) {
        lease_died(*record);
      } else {
        confirm_delivery(*record);
      }
      record = leases_.begin();
    }
  }

  void status_event(NodeEvent event) {
    if (ended_) {
      return;
    }
    const auto before = status_.status();
    const bool was_present = present();
    const auto timer = status_.on(event);
    const auto after = status_.status();
    if (timer == TimerAction::cancel) {
      this->disarm();
    } else if (timer == TimerAction::restart) {
      arm(disconnect_timeout);
    }
    snapshot_.store(after, std::memory_order_relaxed);
    if (present() != was_present) {
      context->count_present(present() ? 1 : -1);
    }
    if (before != after) {
      context->status_changed(id, before, after);
      changed.wake_all();
      if (after == NodeActiveStatus::disconnected) {
        disconnected();
      }
    }
  }

  /// Whether the node has been here and is not lost.
  bool present() const noexcept {
    return !ended_ && status_.has_polled() && status_.status() != NodeActiveStatus::disconnected;
  }

  void disconnected() {
    const auto self = this->weak_from_this().lock();
    if (context->idle_expiry > Duration::zero()) {
      arm(context->idle_expiry);
    }
    queue.senders.wake_first(1);
    for (auto record = leases_.begin(); record != leases_.end();) {
      if (record->in_hand()) {
        ++record;
      } else {
        lease_died(*record);
        record = leases_.begin();
      }
    }
    // Handlers may send again: only what was there is dropped.
    const auto limit = next_sequence_;
    while (context->options.queued_on_disconnect == QueuedPolicy::drop && !queue.empty() &&
           queue.front().sequence < limit) {
      end_unconfirmed(queue.front(), errc::disconnected);
    }
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

  StatusMachine status_;
  std::atomic<NodeActiveStatus> snapshot_{NodeActiveStatus::active};
  boost::intrusive::list<Poll, boost::intrusive::constant_time_size<false>> polls_;
  SessionId last_session_ = 0;
  std::uint64_t polls_opened_ = 0;
  boost::intrusive::list<Record, boost::intrusive::constant_time_size<false>> leases_;
  std::size_t leased_ = 0;
  std::uint64_t next_sequence_ = 0;
  Replies<Record, clock_type> replies_;
  Counters counters_;
  error_code ended_;
};

}  // namespace detail
}  // namespace fedagent
