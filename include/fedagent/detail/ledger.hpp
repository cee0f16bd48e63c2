#pragma once

#include <algorithm>
#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <chrono>
#include <cstdint>
#include <exception>
#include <iterator>
#include <utility>

#include "fedagent/counters.hpp"
#include "fedagent/detail/presence.hpp"
#include "fedagent/detail/task_queue.hpp"
#include "fedagent/replies.hpp"

namespace fedagent::detail {

/// The accepted messages of an agent: where each of them is, and how it ends, exactly once.
/**
 * A message is queued, leased to a poll, delivered, and, when it is a request, open until its
 * reply; `TaskStage` names the steps. `AgentCore` lets messages in, and makes this with the first
 * one: most of the memory of an agent is here.
 */
template <class T, class M, class O>
class Ledger final : public TaskOwner<M, transport_clock_t<T>>,
                     private Deadlines<transport_clock_t<T>>::Entry {
 public:
  using Agent = Presence<T, M, O>;
  using clock_type = typename Agent::clock_type;
  using time_point = typename Agent::time_point;
  using error_code = typename Agent::error_code;
  using Record = TaskRecord<M, clock_type>;

  explicit Ledger(Agent& agent)
      : queue(agent.takers),
        agent_(agent),
        context_(*agent.context),
        replies_(context_.options.remembered_requests, context_.options.remembered_for) {}

  TaskQueue<M, clock_type> queue;

  Record* find_request(const RequestId& request_id) const {
    return request_id.text.empty() ? nullptr : replies_.find(request_id);
  }

  /// Runs what may throw the exceptions of a user's handler.
  template <class F>
  void guarded(F function) noexcept {
    try {
      function();
    } catch (...) {
      ++counters.handler_errors;
      context_.hooks(hook::handler_error, agent_.id, std::current_exception());
    }
  }

  bool drained() const noexcept { return queue.empty() && leases_.empty(); }
  std::size_t remembered() const noexcept { return replies_.remembered(); }
  Counters snapshot() const {
    Counters now = counters;
    now.queued = queue.size();
    now.queued_bytes = queue.bytes();
    now.leased = leases_.size();
    now.open_requests = replies_.open();
    return now;
  }
  /// When the record ends by itself in its state.
  time_point ends_at(const Record& record) const {
    return record.state == TaskStage::queued ? std::min(record.end_by, expiry_of(record))
                                             : record.end_by;
  }

  /// Calls `function(record)` for all that have no outcome: queued, leased or delivered, working.
  template <class Function>
  void for_each_record(Function function) const {
    std::ranges::for_each(queue.tasks(), function);
    std::ranges::for_each(leases_, function);
    replies_.for_each([&](const Record& record) {
      if (record.state == TaskStage::working) {
        function(record);
      }
    });
  }

  // ---- the way of a message

  /// Takes a record in. @pre There is no open request with its id.
  Record& admit(boost::intrusive_ptr<Record> record) {
    record->owner = this;
    record->sequence = next_sequence_++;
    record->out_of_order = record->first_send_time < latest_first_send_;
    latest_first_send_ = std::max(latest_first_send_, record->first_send_time);
    if (record->tracked()) {
      replies_.add(*record);
      ++counters.requests;
    }
    ++counters.accepted;
    Record& accepted = *record.detach();
    queue.push_back(accepted);
    watch(accepted);
    context_.hooks(hook::queued, agent_.id, accepted.message, agent_.status().status());
    return accepted;
  }

  /// Leases the next task to a poll. @pre The queue is not empty.
  Record& lease(SessionId session, time_point now) {
    Record& record = queue.front();
    queue.remove(record);
    record.enter(TaskStage::leased, now);
    record.session = session;
    record.poll = polls_opened_;
    ++record.lease;
    record.seen = std::min(record.seen, Seen::before);
    leases_.push_back(record);
    watch(record);
    return record;
  }

  /// The oldest task in hand, or null.
  Record* oldest_in_hand() noexcept {
    const auto oldest = std::ranges::find_if(leases_, &Record::in_hand);
    return oldest == leases_.end() ? nullptr : &*oldest;
  }

  void redeliver(Record& record, std::uint32_t retry_count) {
    if (record.state == TaskStage::working) {
      --counters.confirmed;
    }
    put_back(record);
    record.retry_count = retry_count;
    ++counters.redelivered;
    context_.hooks(hook::requeued, agent_.id, record.message, retry_count);
  }

  /// The node has the message. Nothing is left to deliver; a request now waits for its reply.
  void confirm(Record& record) {
    if (record.state == TaskStage::working) {
      return;
    }
    leave_list(record);
    record.enter(TaskStage::working, agent_.last_heard_of());  // that has led to this
    ++counters.confirmed;
    watch(record);
    context_.hooks(hook::confirmed, agent_.id, record.message);
    tell_if_drained();
  }

  /// What a reply is that is none to an open request.
  ReplyDisposition classify(const RequestId& request_id, time_point now) {
    return replies_.classify(request_id, now);
  }

  void end_record(Record& record, error_code reason, ReplyDisposition further) noexcept {
    const auto index = static_cast<std::size_t>(reason.value()) - 1;
    if (record.state != TaskStage::working) {
      leave_list(record);
      ++counters.dropped[index];
      context_.hooks(hook::dropped, agent_.id, record.message, reason);
    }
    if (record.tracked()) {
      ++counters.failed[index];
    }
    finish(record, reason, further, clock_type::now());
  }

  /// The one place where a record ends. The handler runs last.
  void finish(Record& record, Outcome<M> outcome, ReplyDisposition further,
              time_point now) noexcept {
    const boost::intrusive_ptr<Record> owned(&record, false);
    record.enter(TaskStage::ended, now);
    record.owner = nullptr;
    record.disarm();
    if (record.tracked()) {
      replies_.finish(record.request, further, now);
    }
    tell_if_drained();
    guarded([&] { record.complete(std::move(outcome)); });
  }

  void end_all(error_code reason) noexcept {
    this->disarm();
    while (!queue.empty()) {
      end_record(queue.front(), reason, ReplyDisposition::late);
    }
    while (!leases_.empty()) {
      end_record(leases_.front(), reason, ReplyDisposition::late);
    }
    while (Record* const record = replies_.any()) {
      end_record(*record, reason, ReplyDisposition::late);
    }
  }

  /// Ends the next tasks whose time is over; the timer that does so may be late (E3).
  void end_overdue(time_point now) noexcept {
    while (!queue.empty() && ends_at(queue.front()) <= now) {
      deadline_reached(queue.front());
    }
  }

  /// Ends the oldest queued messages, those that are there now, while `more()` says so.
  /** Their handlers may send again: what they send stays. */
  template <class More>
  void drop_oldest_while(More more, errc reason) {
    const auto newest = next_sequence_;
    while (!queue.empty() && queue.front().sequence < newest && more()) {
      end_unconfirmed(queue.front(), reason);
    }
  }

  // ---- what happens to the node

  /// A poll opens, and tells about the tasks that earlier polls took.
  void on_poll(SessionId session) {
    latest_session_ = session;
    ++polls_opened_;
    const bool takes_over = context_.options.polls == PollPolicy::newest_wins;
    settle_leases([&](Record& record) {
      const bool other = session != 0 && record.session != 0 && session != record.session;
      if (record.in_hand() && !(other && takes_over)) {
        return false;
      }
      if (other) {
        lease_died(record);
      } else {
        confirm_delivery(record);
      }
      return true;
    });
  }

  /// The node is DISCONNECTED.
  void on_lost() {
    queue.senders.wake_first(1);
    settle_leases([this](Record& record) {
      if (record.in_hand()) {
        return false;
      }
      lease_died(record);
      return true;
    });
    const bool drop = context_.options.queued_on_disconnect == QueuedPolicy::drop;
    drop_oldest_while([drop] { return drop; }, errc::disconnected);
  }

  // ---- the records' view of their owner

  void delivered(Record& record) noexcept override {
    record.state = TaskStage::delivered;  // still on lease: that time goes on
    record.seen = Seen::in_this_lease;
    context_.hooks(hook::delivered, agent_.id, record.message);
    // A newer poll of the same session came in while this delivery was still being reported.
    if (record.session != 0 && record.session == latest_session_ && record.poll != polls_opened_) {
      const auto self = agent_.guard();
      confirm_delivery(record);
    }
  }

  void lease_died(Record& record) noexcept override {
    const bool attempted = record.seen == Seen::in_this_lease;
    if (const auto ended = agent_.ended()) {  // in the middle of its end: nothing is put back
      const auto self = agent_.guard();
      end_record(record, ended, ReplyDisposition::late);
    } else if (record.withdrawn) {
      end_unconfirmed(record, errc::flushed);
    } else if (attempted && record.retry_count >= context_.options.max_retries) {
      end_unconfirmed(record, errc::retries_exhausted);
    } else if (clock_type::now() >= expiry_of(record)) {
      end_unconfirmed(record, errc::expired);
    } else if (attempted) {
      redeliver(record, record.retry_count + 1);
    } else {
      put_back(record);
    }
  }

  void end_unconfirmed(Record& record, errc reason) noexcept override {
    const auto self = agent_.guard();  // the handler may let the last handle go
    end_record(record, make_error_code(reason), ReplyDisposition::late);
  }

  void deadline_reached(Record& record) noexcept override {
    end_unconfirmed(record,
                    clock_type::now() >= record.end_by ? errc::deadline_passed : errc::expired);
  }

  void withdraw(Record& record, time_point answered_until, QueuedPolicy queued) noexcept override {
    const bool drops = queued == QueuedPolicy::drop;
    if ((drops && record.state == TaskStage::queued) || answered_until <= clock_type::now()) {
      end_unconfirmed(record, errc::flushed);
    } else {
      record.withdrawn = drops;
      record.end_by = answered_until;
      watch(record);
    }
  }

 private:
  // Shows every lease to `settle(record)`, which says whether it has removed it. What it did may
  // have run a handler that did anything, so the list is begun anew after it.
  template <class Settle>
  void settle_leases(Settle settle) {
    for (auto record = leases_.begin(); record != leases_.end();) {
      record = settle(*record) ? leases_.begin() : std::next(record);
    }
  }

  // Above the queue's age a task is not delivered any more; out of the queue the age does not
  // matter.
  time_point expiry_of(const Record& record) const {
    const auto max_age = context_.options.max_age;
    return max_age > Duration::zero() ? time_after(record.first_send_time, max_age)
                                      : time_point::max();
  }

  // Arms what ends the record in its state. For the age of those that are in the order of their
  // first sends there is one timer: that of the first.
  void watch(Record& record) {
    const bool queued = record.state == TaskStage::queued;
    const auto own_end = queued && record.out_of_order ? ends_at(record) : record.end_by;
    if (record.deadline() != own_end) {
      context_.watchdog.arm(record, own_end);
    }
    if (queued && !record.out_of_order && expiry_of(record) < this->deadline()) {
      context_.watchdog.arm(*this, expiry_of(record));
    }
  }

  // The first one in the queue may be too old.
  void on_deadline() noexcept override {
    const auto self = agent_.guard();
    for (;;) {
      const auto first = std::ranges::find(queue.tasks(), false, &Record::out_of_order);
      if (first == queue.tasks().end()) {
        return;
      }
      if (const auto expiry = expiry_of(*first); expiry > clock_type::now()) {
        return context_.watchdog.arm(*this, expiry);
      }
      deadline_reached(*first);
    }
  }

  void leave_list(Record& record) noexcept {
    if (record.state == TaskStage::queued) {
      queue.remove(record);
    } else if (record.state == TaskStage::leased || record.state == TaskStage::delivered) {
      leases_.erase(leases_.iterator_to(record));
    }
  }

  void put_back(Record& record) {
    leave_list(record);
    record.enter(TaskStage::queued, clock_type::now());
    queue.put_back(record);
    watch(record);
  }

  void confirm_delivery(Record& record) {
    confirm(record);
    if (!record.tracked()) {
      finish(record, MessagePtr<M>(), ReplyDisposition::late, agent_.last_heard_of());
    }
  }

  void tell_if_drained() noexcept {
    if (drained()) {
      agent_.changed.wake_all();
    }
  }

  Agent& agent_;
  typename Agent::Context& context_;
  /// What polls have taken and nothing has confirmed, the oldest first.
  TaskList<M, clock_type> leases_;
  std::uint64_t next_sequence_ = 0;
  SessionId latest_session_ = 0;
  /// Since there is a ledger.
  std::uint32_t polls_opened_ = 0;
  time_point latest_first_send_ = time_point::min();

 public:
  // Behind what every message touches, and the rarest last.
  Counters counters;

 private:
  Replies<Record, clock_type> replies_;
};

}  // namespace fedagent::detail
