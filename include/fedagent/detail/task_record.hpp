#pragma once

#include <boost/intrusive/list.hpp>
#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <cstdint>
#include <new>
#include <utility>

#include "fedagent/detail/deadlines.hpp"
#include "fedagent/detail/record_memory.hpp"
#include "fedagent/error.hpp"
#include "fedagent/message.hpp"
#include "fedagent/options.hpp"
#include "fedagent/replies.hpp"
#include "fedagent/report.hpp"
#include "fedagent/transport.hpp"

namespace fedagent::detail {

/// When somebody who could deliver a message has looked at it last, so that the node may have it.
/** In this order: it only grows while a lease lasts. */
enum class Seen : std::uint8_t { never, before, in_this_lease };

template <class M, class Clock>
class TaskRecord;

/// How long a message was in which state.
template <class Clock>
struct TimeSpent {
  typename Clock::duration queued{};
  typename Clock::duration leased{};
  typename Clock::duration working{};
};

/// The agent as its records see it.
template <class M, class Clock>
class TaskOwner {
 public:
  virtual void delivered(TaskRecord<M, Clock>& record) noexcept = 0;
  /// When the message was `seen` in this lease it is as much as an attempt that failed.
  virtual void lease_died(TaskRecord<M, Clock>& record) noexcept = 0;
  virtual void end_unconfirmed(TaskRecord<M, Clock>& record, errc reason) noexcept = 0;
  virtual void deadline_reached(TaskRecord<M, Clock>& record) noexcept = 0;
  /// May be answered until then. Dropped: it is taken back from the queue, and what is out is not
  /// delivered again.
  virtual void withdraw(TaskRecord<M, Clock>& record, typename Clock::time_point answered_until,
                        QueuedPolicy queued) noexcept = 0;

 protected:
  ~TaskOwner() = default;
};

/// An accepted message with all that the agent must know of it.
/**
 * One object from the send to the outcome: it is a link of the queue or of the leases, a deadline,
 * and the target of the reply table. The agent owns it until it ends; a `Task` that outlives that
 * keeps the memory and finds no owner.
 */
template <class M, class Clock>
class TaskRecord : public Deadlines<Clock>::Entry, public boost::intrusive::list_base_hook<> {
 public:
  using time_point = typename Clock::time_point;
  using Owner = TaskOwner<M, Clock>;

  /// Hands the outcome to whoever sent the message; may throw what the user's handler throws.
  virtual void complete(Outcome<M> outcome) = 0;

  bool tracked() const noexcept { return !request.text.empty(); }
  bool in_hand() const noexcept { return state == TaskStage::leased; }

  void enter(TaskStage next, time_point now) noexcept {
    spent_ = spent(now);
    since = now;
    state = next;
  }
  TimeSpent<Clock> spent(time_point now) const noexcept {
    auto spent = spent_;
    if (state == TaskStage::queued) {
      spent.queued += now - since;
    } else if (state == TaskStage::working) {
      spent.working += now - since;
    } else if (state != TaskStage::ended) {
      spent.leased += now - since;
    }
    return spent;
  }

  const MessagePtr<M> message;
  /// The id under which the reply is awaited; empty: none is.
  const RequestId request;
  Owner* owner = nullptr;
  time_point first_send_time{};
  /// When it came into its state.
  time_point since{};
  time_point end_by = time_point::max();
  /// The order of acceptance, kept by redelivery (H7).
  std::uint64_t sequence = 0;
  SessionId session = 0;
  /// The number of the agent's latest poll when this was taken.
  std::uint32_t poll = 0;
  /// Counts the leases of this record, so that a `Task` can tell its own from a later one.
  std::uint32_t lease = 0;
  std::uint32_t retry_count = 0;
  TaskStage state = TaskStage::queued;
  Seen seen = Seen::never;
  /// Nobody wants it delivered again.
  bool withdrawn = false;
  /// It was first sent before one that is in the queue before it, and so gets too old before that.
  bool out_of_order = false;

 protected:
  TaskRecord(MessagePtr<M> the_message, const RequestId& id)
      : message(std::move(the_message)), request(id) {}
  ~TaskRecord() = default;

 private:
  virtual void destroy() noexcept = 0;
  friend void intrusive_ptr_add_ref(TaskRecord* record) noexcept { ++record->references_; }
  friend void intrusive_ptr_release(TaskRecord* record) noexcept {
    if (--record->references_ == 0) {
      record->destroy();
    }
  }

  void on_deadline() noexcept override {
    if (owner != nullptr) {
      owner->deadline_reached(*this);
    }
  }

  TimeSpent<Clock> spent_{};
  std::uint32_t references_ = 0;
};

/// Records in a line, counted. One that is in a list leaves it before it is destroyed.
template <class M, class Clock>
using TaskList = boost::intrusive::list<TaskRecord<M, Clock>>;

/// A record with the handler of its outcome, in one piece of memory.
template <class M, class Clock, class Handler>
class HandledTaskRecord final : public TaskRecord<M, Clock> {
 public:
  /// @param id That of the message, or empty when no reply to it is awaited.
  static boost::intrusive_ptr<TaskRecord<M, Clock>> make(
      const boost::intrusive_ptr<RecordMemory>& memory, MessagePtr<M> the_message,
      const RequestId& id, Handler&& handler) {
    static_assert(alignof(HandledTaskRecord) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__,
                  "fedagent: a handler must not be over-aligned");
    void* const place = memory->take(sizeof(HandledTaskRecord));
    try {
      return ::new (place)
          HandledTaskRecord(memory, std::move(the_message), id, std::move(handler));
    } catch (...) {
      memory->give_back(place, sizeof(HandledTaskRecord));
      throw;
    }
  }

  Handler& handler() noexcept { return handler_; }

  void complete(Outcome<M> outcome) override { std::move(handler_)(std::move(outcome)); }

 private:
  HandledTaskRecord(boost::intrusive_ptr<RecordMemory> memory, MessagePtr<M> the_message,
                    const RequestId& id, Handler&& handler)
      : TaskRecord<M, Clock>(std::move(the_message), id),
        memory_(std::move(memory)),
        handler_(std::move(handler)) {}
  ~HandledTaskRecord() = default;

  void destroy() noexcept override {
    const auto memory = std::move(memory_);
    this->~HandledTaskRecord();
    memory->give_back(this, sizeof(HandledTaskRecord));
  }

  boost::intrusive_ptr<RecordMemory> memory_;
  [[no_unique_address]] Handler handler_;
};

}  // namespace fedagent::detail
