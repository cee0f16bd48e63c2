#pragma once

#include <algorithm>
#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <chrono>
#include <cstdint>
#include <exception>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "fedagent/counters.hpp"
#include "fedagent/detail/presence.hpp"
#include "fedagent/detail/task_queue.hpp"
#include "fedagent/replies.hpp"

namespace fedagent::detail {

/// The accepted messages of an agent: where each of them is, and how it ends, exactly once.
/**
 * A message is queued, leased to a poll, delivered, and, when it is a request, open until its
 * reply; `TaskState` names the steps. `AgentCore`, derived from this, lets messages in.
 */
template <class T, class M, class O>
class Ledger : public Presence<T, M, O>, public TaskOwner<M, transport_clock_t<T>> {
  using Base = Presence<T, M, O>;

 public:
  using typename Base::clock_type;
  using typename Base::error_code;
  using typename Base::time_point;
  using Record = TaskRecord<M, clock_type>;

  Ledger(std::string node_id, std::shared_ptr<typename Base::Context> the_context)
      : Base(std::move(node_id), std::move(the_context)),
        replies_(context->options.remembered_requests, context->options.remembered_for) {}

  using Base::context;
  using Base::id;
  TaskQueue<M, clock_type, typename Base::executor_type> queue;

  Record* find_request(std::string_view request_id) const {
    return request_id.empty() ? nullptr : replies_.find(request_id);
  }

  /// Runs what may throw the exceptions of a user's handler.
  template <class F>
  void guarded(F function) noexcept {
    try {
      function();
    } catch (...) {
      ++counters_.handler_errors;
      context->hooks(hook::handler_error, id, std::current_exception());
    }
  }

  bool drained() const noexcept { return queue.empty() && leases_.empty(); }
  std::size_t remembered() const noexcept { return replies_.remembered(); }
  Counters counters() const {
    Counters now = counters_;
    now.queued = queue.size();
    now.queued_bytes = queue.bytes();
    now.leased = leases_.size();
    now.open_requests = replies_.open();
    return now;
  }

  /// Calls `function(record)` for all that have no outcome: queued, leased or delivered, working.
  template <class Function>
  void for_each_record(Function function) const {
    std::ranges::for_each(queue.tasks(), function);
    std::ranges::for_each(leases_, function);
    replies_.for_each([&](const Record& record) {
      if (record.state == TaskState::working) {
        function(record);
      }
    });
  }

  // ---- the records' view of their owner

  void delivered(Record& record) noexcept override {
    record.state = TaskState::delivered;  // still on lease: that time goes on
    record.seen = true;
    context->hooks(hook::delivered, id, record.message);
    // A newer poll of the same session came in while this delivery was still being reported.
    if (this->polled_again(record.session, record.poll)) {
      confirm_delivery(record);
    }
  }

  void lease_died(Record& record, bool attempted) noexcept override {
    if (record.withdrawn) {
      end_unconfirmed(record, errc::flushed);
    } else if (attempted && record.retry_count >= context->options.max_retries) {
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
    const auto self = this->weak_from_this().lock();  // the handler may let the last handle go
    end_record(record, make_error_code(reason), ReplyDisposition::late);
  }

  void deadline_reached(Record& record) noexcept override {
    end_unconfirmed(record,
                    clock_type::now() >= record.end_by ? errc::deadline_passed : errc::expired);
  }

  void withdraw(Record& record, time_point answered_until, QueuedPolicy queued) noexcept override {
    const bool drops = queued == QueuedPolicy::drop;
    if ((drops && record.state == TaskState::queued) || answered_until <= clock_type::now()) {
      end_unconfirmed(record, errc::flushed);
    } else {
      record.withdrawn = drops;
      record.end_by = answered_until;
      watch(record);
    }
  }

 protected:
  ~Ledger() = default;

  /// Takes a record in. @pre There is no open request with its id.
  Record& admit(boost::intrusive_ptr<Record> record) {
    record->owner = this;
    record->sequence = next_sequence_++;
    if (record->tracked()) {
      replies_.add(awaited_id(*record->message), *record);
      ++counters_.requests;
    }
    ++counters_.accepted;
    Record& accepted = *record.detach();
    queue.push_back(accepted);
    watch(accepted);
    context->hooks(hook::queued, id, accepted.message, this->status().status());
    return accepted;
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

  void redeliver(Record& record, std::uint32_t retry_count) {
    if (record.state == TaskState::working) {
      --counters_.confirmed;
    }
    put_back(record);
    record.retry_count = retry_count;
    ++counters_.redelivered;
    context->hooks(hook::requeued, id, record.message, retry_count);
  }

  /// The node has the message. Nothing is left to deliver; a request now waits for its reply.
  void confirm(Record& record) {
    if (record.state == TaskState::working) {
      return;
    }
    leave_list(record);
    record.enter(TaskState::working, *this->last_seen.any);  // a sign of life has led to this
    ++counters_.confirmed;
    watch(record);
    context->hooks(hook::confirmed, id, record.message);
    tell_if_drained();
  }

  void end_record(Record& record, error_code reason, ReplyDisposition further) noexcept {
    const auto index = static_cast<std::size_t>(reason.value()) - 1;
    if (record.state != TaskState::working) {
      leave_list(record);
      ++counters_.dropped[index];
      context->hooks(hook::dropped, id, record.message, reason);
    }
    if (record.tracked()) {
      ++counters_.failed[index];
    }
    finish(record, reason, further, clock_type::now());
  }

  /// The one place where a record ends. The handler runs last.
  void finish(Record& record, Outcome<M> outcome, ReplyDisposition further,
              time_point now) noexcept {
    const boost::intrusive_ptr<Record> owned(&record, false);
    record.enter(TaskState::ended, now);
    record.owner = nullptr;
    record.disarm();
    if (record.tracked()) {
      replies_.finish(awaited_id(*record.message), further, now);
    }
    tell_if_drained();
    guarded([&] { record.complete(std::move(outcome)); });
  }

  void end_all(error_code reason) noexcept {
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

  /// Arms the timer that ends the record in its state.
  void watch(Record& record) {
    const auto at = record.state == TaskState::queued ? std::min(record.end_by, expiry_of(record))
                                                      : record.end_by;
    if (!record.armed() || record.deadline() != at) {
      context->watchdog.arm(record, at);
    }
  }

  /// What polls have taken and nothing has confirmed, the oldest first.
  TaskList<M, clock_type> leases_;
  Replies<Record, clock_type> replies_;
  Counters counters_;

 private:
  // What a poll that opens tells about the tasks that earlier polls took.
  void on_poll(SessionId session) override {
    const bool takes_over = context->options.polls == PollPolicy::newest_wins;
    settle_leases([&](Record& record) {
      const bool other = session != 0 && record.session != 0 && session != record.session;
      if (record.in_hand() && !(other && takes_over)) {
        return false;
      }
      if (other) {
        lease_died(record, true);
      } else {
        confirm_delivery(record);
      }
      return true;
    });
  }

  // Shows every lease to `settle(record)`, which says whether it has removed it. What it did may
  // have run a handler that did anything, so the list is begun anew after it.
  template <class Settle>
  void settle_leases(Settle settle) {
    for (auto record = leases_.begin(); record != leases_.end();) {
      record = settle(*record) ? leases_.begin() : std::next(record);
    }
  }

  void on_lost() override {
    queue.senders.wake_first(1);
    settle_leases([this](Record& record) {
      if (record.in_hand()) {
        return false;
      }
      lease_died(record, true);
      return true;
    });
    const bool drop = context->options.queued_on_disconnect == QueuedPolicy::drop;
    drop_oldest_while([drop] { return drop; }, errc::disconnected);
  }

  // Above the queue's age a task is not delivered any more; out of the queue the age does not
  // matter.
  time_point expiry_of(const Record& record) const {
    const auto max_age = context->options.max_age;
    return max_age > Duration::zero()
               ? record.first_send_time +
                     std::chrono::duration_cast<typename clock_type::duration>(max_age)
               : time_point::max();
  }

  void leave_list(Record& record) noexcept {
    if (record.state == TaskState::queued) {
      queue.remove(record);
    } else if (record.state == TaskState::leased || record.state == TaskState::delivered) {
      leases_.erase(leases_.iterator_to(record));
    }
  }

  void put_back(Record& record) {
    leave_list(record);
    record.enter(TaskState::queued, clock_type::now());
    queue.put_back(record);
    watch(record);
  }

  void confirm_delivery(Record& record) {
    confirm(record);
    if (!record.tracked()) {
      finish(record, MessagePtr<M>(), ReplyDisposition::late, *this->last_seen.any);
    }
  }

  void tell_if_drained() noexcept {
    if (drained()) {
      this->changed.wake_all();
    }
  }

  std::uint64_t next_sequence_ = 0;
};

}  // namespace fedagent::detail
