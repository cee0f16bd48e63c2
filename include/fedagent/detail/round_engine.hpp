#pragma once

#include <algorithm>
#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "fedagent/detail/node_watcher.hpp"
#include "fedagent/detail/round_progress.hpp"
#include "fedagent/detail/round_series.hpp"
#include "fedagent/detail/task_report.hpp"

namespace fedagent::detail {

/// One round: asks the nodes, keeps their times, and tells `RoundProgress` what happens to them.
/**
 * A local variable of the coroutine that awaits the round. What happens to it happens at once: a
 * reply, a lost node or a timer ends a row, and the end of a row may end the round. The coroutine
 * wakes only to take the result. Destroying it withdraws what is open.
 */
template <class T, class M, class O>
class RoundEngine final : private Deadlines<transport_clock_t<T>>::Entry, public RunningRound {
 public:
  using clock_type = transport_clock_t<T>;
  using time_point = typename clock_type::time_point;
  using Series = RoundSeries<T, M, O>;
  using Row = RoundRow<M>;
  using MakeMessage = std::function<MessagePtr<M>(std::string_view, std::span<const Row>)>;

  RoundEngine(std::shared_ptr<Series> series, const std::vector<std::string>& nodes,
              MakeMessage make, RoundPolicy policy)
      : waiter(series->executor),
        series_(std::move(series)),
        make_(std::move(make)),
        policy_(std::move(policy)),
        progress_(series_->begin(*this), nodes, policy_),
        slots_(std::make_unique<Slot[]>(progress_.most_rows(nodes.size()))) {}
  RoundEngine(const RoundEngine&) = delete;
  RoundEngine& operator=(const RoundEngine&) = delete;
  ~RoundEngine() { end(RoundEnd::cancelled); }

  void start() {
    const auto context = series_->context.lock();
    if (!context || context->stopped) {
      return end(RoundEnd::stopped);
    }
    if (policy_.deadline > Duration::zero()) {
      ends_at_ = time_after(started_, policy_.deadline);
      arm(*this, ends_at_);
    }
    advance();
  }

  /// Ends the round; only the first call counts.
  void end(RoundEnd reason) noexcept {
    if (over()) {
      return;
    }
    const auto now = clock_type::now();
    progress_.end(reason);
    progress_.result().took = now - started_;
    this->disarm();
    this->RunningRound::unlink();
    for (std::size_t i = 0; i < progress_.rows().size(); ++i) {
      if (slots_[i].round != nullptr) {
        close(i, now);
      }
      // Also what rows that had ended before have left with their nodes.
      const auto record = std::exchange(slots_[i].record, {});
      if (reason == RoundEnd::cancelled && record && record->owner != nullptr) {
        record->owner->withdraw(*record, now, QueuedPolicy::drop);
      }
    }
    waiter.wake();
  }
  void store_stopped() noexcept override { end(RoundEnd::stopped); }
  bool over() const noexcept { return progress_.over(); }
  RoundResult<M> take_result() { return std::move(progress_.result()); }

  RoundReport report() const override {
    const auto now = clock_type::now();
    const auto context = series_->context.lock();
    RoundReport report;
    report.number = progress_.result().number;
    report.age = now - started_;
    report.nodes = progress_.rows().size();
    report.wanted = progress_.result().wanted;
    report.replied = progress_.result().replied;
    report.deadline_in = time_to(ends_at_, now);
    report.grace_in = time_to(grace_ends_at_, now);
    for (std::size_t i = 0; i < progress_.rows().size(); ++i) {
      if (!progress_.open(i)) {
        continue;
      }
      const Slot& slot = slots_[i];
      AwaitedNode& awaited = report.awaited.emplace_back();
      awaited.node_id = progress_.rows()[i].node_id;
      awaited.deadline_in = time_to(slot.own_deadline, now);
      awaited.lost_in = time_to(slot.lost_at, now);
      if (const auto core =
              context ? context->find(awaited.node_id) : AgentPtr<AgentCore<T, M, O>>()) {
        awaited.status = core->status().status();
        awaited.has_polled = core->status().has_polled();
        // The agent of that name may be a new one, which does not have the message.
        if (const auto* const ledger = core->find_ledger();
            ledger != nullptr && slot.record && slot.record->owner == ledger) {
          const bool queued = slot.record->state == TaskStage::queued;
          awaited.task = report_of(*ledger, *slot.record, now,
                                   queued ? ledger->queue.before(*slot.record) : 0);
        }
      }
    }
    return report;
  }

  /// The coroutine's; woken when the round is over.
  Waiter<clock_type, typename T::executor_type> waiter;

 private:
  using Record = TaskRecord<M, clock_type>;

  // What is to know of a node while it is asked; its row has what stays.
  struct Slot final : Deadlines<clock_type>::Entry, NodeWatcher {
    void on_deadline() noexcept override { round->time_is_over(*this); }
    void node_lost() noexcept override { round->lost(*this); }
    void node_back() noexcept override { round->back(*this); }

    /// None: not asked yet, or not any more.
    RoundEngine* round = nullptr;
    /// That of an ended row is kept as long as it may bring a late reply.
    boost::intrusive_ptr<Record> record{};
    time_point sent_at{};
    time_point own_deadline = time_point::max();
    /// The node is DISCONNECTED, and lost when it is not back by then.
    time_point lost_at = time_point::max();
  };

  // Where a reply goes that comes when its row has its outcome already.
  struct LateTicket {
    std::weak_ptr<Series> series;
    std::string node_id;
    std::uint64_t round;
    time_point sent_at;
  };

  struct Handler {
    void operator()(Outcome<M> outcome) const {
      if (slot != nullptr) {
        slot->round->outcome_came(*slot, std::move(outcome));
      } else if (const auto series = late && outcome ? late->series.lock() : nullptr) {
        series->take_late({.node_id = std::move(late->node_id),
                           .message = *std::move(outcome),
                           .round = late->round,
                           .took = clock_type::now() - late->sent_at});
      }
    }

    Slot* slot;
    std::unique_ptr<LateTicket> late{};
  };

  // Without a store the round is over, and nothing is to be armed.
  void arm(typename Deadlines<clock_type>::Entry& entry, time_point at) {
    if (const auto context = series_->context.lock()) {
      context->watchdog.arm(entry, at);
    }
  }

  /// Asks who is to be asked now, and ends the round if that is due.
  void advance() {
    // Asking may end rows at once; who is at it already looks again.
    if (advancing_ || over()) {
      return;
    }
    advancing_ = true;
    while (const auto next = progress_.ask_next()) {
      ask(*next);
    }
    advancing_ = false;
    const auto step = over() ? RoundProgress<M>::Step::goes_on : progress_.step();
    if (step == RoundProgress<M>::Step::ends) {
      end(progress_.reason());
    } else if (step == RoundProgress<M>::Step::grace_begins) {
      grace_ends_at_ = time_after(clock_type::now(), policy_.grace);
      if (policy_.grace == Duration::zero()) {
        end(RoundEnd::quorum);
      } else {
        arm(*this, std::min(ends_at_, grace_ends_at_));
      }
    }
  }

  void ask(std::size_t i) {
    const std::string& node_id = progress_.rows()[i].node_id;
    Slot& slot = slots_[i];
    slot.round = this;
    slot.sent_at = clock_type::now();
    const auto context = series_->context.lock();
    const auto core = context->find(node_id);
    if (!core) {
      return end_row(i, NodeOutcome::not_sent, errc::unknown_node);
    }
    MessagePtr<M> message;
    errc missing = errc::handler_failed;
    core->guarded([&] {
      message = make_(node_id, progress_.rows());
      missing = errc::no_message;
    });
    if (!message) {
      return end_row(i, NodeOutcome::not_sent, missing);
    }
    Handler handler{&slot};
    const SendOptions<clock_type> plainly{};
    const auto sent = core->send(message, handler, plainly);
    if (!sent) {
      return end_row(i, NodeOutcome::not_sent, sent.error());
    }
    slot.record = *sent;
    core->watchers.add(slot);
    slot.own_deadline = own_deadline(node_id, slot.sent_at);
    if (core->status().status() == NodeActiveStatus::disconnected) {
      lost(slot);
    } else {
      arm(slot, slot.own_deadline);
    }
  }

  time_point own_deadline(const std::string& node_id, time_point now) {
    if (!policy_.per_node_for.contains(node_id)) {
      return time_point::max();
    }
    if (const auto* adaptive = std::get_if<AdaptiveDeadline>(&policy_.per_node)) {
      return time_after(now, series_->deadline(node_id, *adaptive));  // zero is no time at all here
    }
    const auto* const fixed = std::get_if<Duration>(&policy_.per_node);
    return fixed != nullptr && *fixed > Duration::zero() ? time_after(now, *fixed)
                                                         : time_point::max();
  }

  // ---- what happens to a node

  void outcome_came(Slot& slot, Outcome<M> outcome) {
    const auto i = index(slot);
    if (outcome) {
      const bool error = series_->tells_error(progress_.rows()[i].node_id, **outcome);
      return end_row(i, error ? NodeOutcome::error_reply : NodeOutcome::reply, {},
                     *std::move(outcome));
    }
    auto error = outcome.error();
    if (error == errc::removed && slot.lost_at != time_point::max()) {
      error = errc::disconnected;  // its agent was removed because it was lost
    }
    end_row(i,
            error == errc::disconnected ? NodeOutcome::disconnected
            : error == errc::expired    ? NodeOutcome::expired
                                        : NodeOutcome::failed,
            error);
  }

  void lost(Slot& slot) noexcept {
    slot.lost_at = time_after(clock_type::now(), policy_.reconnect);
    if (policy_.reconnect == Duration::zero()) {
      end_row(index(slot), NodeOutcome::disconnected, errc::disconnected);
    } else {
      arm(slot, std::min(slot.own_deadline, slot.lost_at));
    }
  }

  void back(Slot& slot) noexcept {
    slot.lost_at = time_point::max();
    arm(slot, slot.own_deadline);
  }

  void time_is_over(Slot& slot) noexcept {
    // What the timer was armed for, and not the time of now: the loop may be late.
    if (slot.own_deadline <= slot.lost_at) {
      end_row(index(slot), NodeOutcome::deadline_passed, errc::deadline_passed);
    } else {
      end_row(index(slot), NodeOutcome::disconnected, errc::disconnected);
    }
  }

  void on_deadline() noexcept override {
    // Rows whose own time is over at the same tick come first, whichever timer was armed first.
    const auto due = std::min(ends_at_, grace_ends_at_);
    for (std::size_t i = 0; i < progress_.rows().size() && !over(); ++i) {
      if (slots_[i].armed() && slots_[i].deadline() <= due) {
        time_is_over(slots_[i]);
      }
    }
    end(grace_ends_at_ <= ends_at_ ? RoundEnd::quorum : RoundEnd::deadline);
  }

  // ---- the end of a row

  void end_row(std::size_t i, NodeOutcome outcome, boost::system::error_code error,
               MessagePtr<M> reply = {}) {
    if (!progress_.asked(i)) {  // code of the user has stopped the store meanwhile
      return;
    }
    close(i, clock_type::now());
    progress_.end_row(i, outcome, error, std::move(reply));
    if (outcome == NodeOutcome::reply) {
      series_->remember(progress_.rows()[i].node_id, progress_.rows()[i].took);
    }
    advance();
  }

  /// The round no longer waits for this node.
  void close(std::size_t i, time_point now) {
    Slot& slot = slots_[i];
    Row& row = progress_.row(i);
    slot.round = nullptr;
    slot.disarm();
    slot.NodeWatcher::unlink();
    row.took = now - slot.sent_at;
    if (!slot.record) {
      return;
    }
    Record& record = *slot.record;
    const auto spent = record.spent(now);
    row.attempts = record.lease;
    row.queued = spent.queued;
    row.leased = spent.leased;
    row.working = spent.working;
    row.bytes_sent = row.attempts * message_traits<M>::size(*record.message);
    withdraw(slot, row.node_id, now);
  }

  // What is queued is taken back; what is out may still bring a late reply.
  void withdraw(Slot& slot, const std::string& node_id, time_point now) {
    Record& record = *slot.record;
    auto& handler = static_cast<HandledTaskRecord<M, clock_type, Handler>&>(record).handler();
    handler.slot = nullptr;
    const bool late = !series_->late_queue->closed && policy_.late_for > Duration::zero();
    if (record.owner != nullptr && late) {
      handler.late =
          std::make_unique<LateTicket>(series_, node_id, progress_.result().number, slot.sent_at);
      record.owner->withdraw(record, time_after(now, policy_.late_for), policy_.queued);
    } else if (record.owner != nullptr) {
      record.owner->withdraw(record, now, QueuedPolicy::drop);
    }
    if (record.owner == nullptr) {
      slot.record.reset();
    }
  }

  std::size_t index(const Slot& slot) const noexcept {
    return static_cast<std::size_t>(&slot - slots_.get());
  }

  const std::shared_ptr<Series> series_;
  const MakeMessage make_;
  const RoundPolicy policy_;
  RoundProgress<M> progress_;
  std::unique_ptr<Slot[]> slots_;
  time_point started_ = clock_type::now();
  time_point ends_at_ = time_point::max();
  /// Set when the quorum is there.
  time_point grace_ends_at_ = time_point::max();
  bool advancing_ = false;
};

}  // namespace fedagent::detail
