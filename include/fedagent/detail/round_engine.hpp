#pragma once

#include <algorithm>
#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "fedagent/detail/node_watcher.hpp"
#include "fedagent/detail/round_series.hpp"
#include "fedagent/detail/task_report.hpp"
#include "fedagent/round_policy.hpp"
#include "fedagent/round_result.hpp"

namespace fedagent::detail {

/// One round: asks the nodes, keeps a row for each, and ends by its policy.
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
        slots_(std::make_unique<Slot[]>(nodes.size() + policy_.substitutes.size())) {
    result_.number = series_->begin(*this);
    result_.wanted = policy_.quorum.of(nodes.size());
    if (series_->takes_late && policy_.late_for > Duration::zero()) {
      late_ = std::make_shared<LateReplies>(series_, result_.number);
    }
    // Rows stay where they are: whoever is told of one may bring another about.
    result_.rows.reserve(nodes.size() + policy_.substitutes.size());
    for (const auto& node_id : nodes) {
      add_row(node_id, Row::nobody);
    }
  }
  RoundEngine(const RoundEngine&) = delete;
  RoundEngine& operator=(const RoundEngine&) = delete;
  ~RoundEngine() { end(RoundEnd::cancelled); }

  void start() {
    const auto context = series_->context.lock();
    if (!context || context->stopped) {
      return end(RoundEnd::stopped);
    }
    started_ = clock_type::now();
    if (policy_.deadline > Duration::zero()) {
      ends_at_ = after(started_, policy_.deadline);
      arm(*this, ends_at_);
    }
    advance();
  }

  /// Ends the round; only the first call counts.
  void end(RoundEnd reason, std::size_t by = Row::nobody) noexcept {
    if (ended_) {
      return;
    }
    ended_ = true;
    this->disarm();
    this->RunningRound::unlink();
    const auto now = clock_type::now();
    result_.end = reason;
    result_.ended_by = by;
    result_.took = now - started_;
    if (reason == RoundEnd::cancelled && late_) {
      late_->to.reset();  // also for the rows that had ended before
      late_.reset();
    }
    const bool late = reason == RoundEnd::deadline;
    const errc error = late                          ? errc::deadline_passed
                       : reason == RoundEnd::stopped ? errc::stopped
                                                     : errc::round_ended;
    for (std::size_t i = 0; i < result_.rows.size(); ++i) {
      if (slots_[i].state == SlotState::asked) {
        close(i, late ? NodeOutcome::deadline_passed : NodeOutcome::withdrawn, error, now);
      } else if (slots_[i].state == SlotState::waiting) {
        result_.rows[i].error = error;
      }
    }
    waiter.wake();
  }
  void store_stopped() noexcept override { end(RoundEnd::stopped); }
  bool ended() const noexcept { return ended_; }
  RoundResult<M> take_result() { return std::move(result_); }

  RoundReport report() const override {
    const auto now = clock_type::now();
    const auto context = series_->context.lock();
    RoundReport report;
    report.number = result_.number;
    report.age = now - started_;
    report.nodes = result_.rows.size();
    report.wanted = result_.wanted;
    report.replied = result_.replied;
    report.deadline_in = time_to(ends_at_, now);
    report.grace_in = time_to(grace_ends_at_, now);
    report.awaited.reserve(open_);
    for (std::size_t i = 0; i < result_.rows.size(); ++i) {
      const Slot& slot = slots_[i];
      if (slot.state == SlotState::ended) {
        continue;
      }
      AwaitedNode& awaited = report.awaited.emplace_back();
      awaited.node_id = result_.rows[i].node_id;
      if (const auto core = context ? context->find(awaited.node_id) : nullptr) {
        awaited.status = core->status().status();
        awaited.has_polled = core->status().has_polled();
        if (slot.record) {
          const bool queued = slot.record->state == TaskState::queued;
          awaited.task =
              report_of(*core, *slot.record, now, queued ? core->queue.before(*slot.record) : 0);
        }
      }
      awaited.deadline_in = time_to(slot.own_deadline, now);
      awaited.lost_in = time_to(slot.lost_at, now);
    }
    return report;
  }

  /// The coroutine's; woken when the round has ended.
  Waiter<clock_type, typename T::executor_type> waiter;

 private:
  using Record = TaskRecord<M, clock_type>;

  enum class SlotState : std::uint8_t { waiting, asked, ended };

  // What is to know of a node while it is asked; its row has what stays.
  struct Slot final : Deadlines<clock_type>::Entry, NodeWatcher {
    void on_deadline() noexcept override { round->time_is_over(*this); }
    void node_lost() noexcept override { round->lost(*this); }
    void node_back() noexcept override { round->back(*this); }

    RoundEngine* round = nullptr;
    boost::intrusive_ptr<Record> record{};
    time_point sent_at{};
    time_point own_deadline = time_point::max();
    /// The node is DISCONNECTED, and lost when it is not back by then.
    time_point lost_at = time_point::max();
    SlotState state = SlotState::waiting;
  };

  // Where the replies go that come when their rows have their outcomes already.
  struct LateReplies {
    std::weak_ptr<Series> to;
    std::uint64_t round;
  };
  struct LateTicket {
    std::shared_ptr<LateReplies> replies;
    std::string node_id;
    time_point sent_at;
  };

  struct Handler {
    void operator()(Outcome<M> outcome) const {
      if (slot != nullptr) {
        slot->round->outcome_came(*slot, std::move(outcome));
      } else if (const auto series = late && outcome ? late->replies->to.lock() : nullptr) {
        series->take_late({.node_id = std::move(late->node_id),
                           .message = *std::move(outcome),
                           .round = late->replies->round,
                           .took = clock_type::now() - late->sent_at});
      }
    }

    Slot* slot;
    std::unique_ptr<LateTicket> late{};
  };

  static time_point after(time_point from, Duration time) {
    return from + std::chrono::duration_cast<typename clock_type::duration>(time);
  }

  // What is armed for that time already keeps its place: rows that are due together end in the
  // order in which they were asked.
  void arm(typename Deadlines<clock_type>::Entry& entry, time_point at) {
    if (at == time_point::max()) {
      entry.disarm();
    } else if (entry.armed() && entry.deadline() == at) {
      return;
    } else if (const auto context = series_->context.lock()) {
      context->watchdog.arm(entry, at);
    }
  }

  void add_row(const std::string& node_id, std::size_t substitute_for) {
    result_.rows.emplace_back().node_id = node_id;
    result_.rows.back().substitute_for = substitute_for;
    ++open_;
  }

  /// Asks who is to be asked now, and ends the round if that is due.
  void advance() {
    // Asking may end rows at once; who is at it already looks again.
    if (advancing_ || ended_) {
      return;
    }
    advancing_ = true;
    while (!ended_ && end_ == RoundEnd::complete && next_ < result_.rows.size() &&
           (policy_.max_in_flight == 0 || in_flight_ < policy_.max_in_flight)) {
      ask(next_++);
    }
    advancing_ = false;
    if (open_ == 0 || end_ != RoundEnd::complete) {
      end(end_, end_by_);
    } else if (result_.replied >= result_.wanted && grace_ends_at_ == time_point::max()) {
      grace_ends_at_ = after(clock_type::now(), policy_.grace);
      if (policy_.grace == Duration::zero()) {
        end(RoundEnd::quorum);
      } else {
        arm(*this, std::min(ends_at_, grace_ends_at_));
      }
    }
  }

  void ask(std::size_t i) {
    const std::string& node_id = result_.rows[i].node_id;
    Slot& slot = slots_[i];
    slot.round = this;
    slot.state = SlotState::asked;
    slot.sent_at = clock_type::now();
    ++in_flight_;
    const auto context = series_->context.lock();
    const auto core = context->find(node_id);
    if (!core) {
      return end_row(i, NodeOutcome::not_sent, errc::unknown_node);
    }
    MessagePtr<M> message;
    try {
      message = make_(node_id, result_.rows);
    } catch (...) {
      context->hooks(hook::handler_error, node_id, std::current_exception());
      return end_row(i, NodeOutcome::not_sent, errc::handler_failed);
    }
    if (!message) {
      return end_row(i, NodeOutcome::not_sent, errc::no_message);
    }
    Handler handler{&slot};
    const SendOptions<clock_type> plainly{};
    const auto sent = core->send(message, handler, plainly);
    if (ended_) {  // a handler of what the message displaced has stopped the store
      return;
    }
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
    if (const auto* adaptive = std::get_if<AdaptiveDeadline>(&policy_.per_node)) {
      return after(now, series_->deadline(node_id, *adaptive));  // zero is no time at all here
    }
    const auto* const fixed = std::get_if<Duration>(&policy_.per_node);
    return fixed != nullptr && *fixed > Duration::zero() ? after(now, *fixed) : time_point::max();
  }

  // ---- what happens to a node

  void outcome_came(Slot& slot, Outcome<M> outcome) {
    if (outcome) {
      const auto& node_id = result_.rows[index(slot)].node_id;
      const bool error = series_->tells_error(node_id, **outcome);
      end_row(index(slot), error ? NodeOutcome::error_reply : NodeOutcome::reply, {},
              *std::move(outcome));
      return;
    }
    const auto error = outcome.error();
    end_row(index(slot),
            error == errc::disconnected ? NodeOutcome::disconnected
            : error == errc::expired    ? NodeOutcome::expired
                                        : NodeOutcome::failed,
            error);
  }

  void lost(Slot& slot) noexcept {
    slot.lost_at = after(clock_type::now(), policy_.reconnect);
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
    if (slot.deadline() == slot.own_deadline) {
      end_row(index(slot), NodeOutcome::deadline_passed, errc::deadline_passed);
    } else {
      end_row(index(slot), NodeOutcome::disconnected, errc::disconnected);
    }
  }

  void on_deadline() noexcept override {
    const auto at = this->deadline();  // the loop may be late
    // Rows whose own time is over at the same tick come first, whichever timer was armed first.
    for (std::size_t i = 0; i < result_.rows.size() && !ended_; ++i) {
      if (slots_[i].armed() && slots_[i].deadline() <= at) {
        time_is_over(slots_[i]);
      }
    }
    end(at == grace_ends_at_ ? RoundEnd::quorum : RoundEnd::deadline);
  }

  std::size_t index(const Slot& slot) const noexcept {
    return static_cast<std::size_t>(&slot - slots_.get());
  }

  // ---- the end of a row

  void end_row(std::size_t i, NodeOutcome outcome, boost::system::error_code error,
               MessagePtr<M> reply = {}) {
    if (slots_[i].state != SlotState::asked) {  // code of the user has stopped the store meanwhile
      return;
    }
    close(i, outcome, error, clock_type::now());
    Row& row = result_.rows[i];
    if (reply) {
      row.bytes_received = message_traits<M>::size(*reply);
      row.reply = std::move(reply);
    }
    if (outcome == NodeOutcome::reply) {
      ++result_.replied;
      series_->remember(row.node_id, row.took);
    }
    stop_if_asked(i);
    const bool answered = outcome == NodeOutcome::reply || outcome == NodeOutcome::error_reply;
    if (!answered && end_ == RoundEnd::complete && result_.replied < result_.wanted &&
        substituted_ < policy_.substitutes.size()) {
      add_row(policy_.substitutes[substituted_++], i);
    }
    advance();
  }

  void stop_if_asked(std::size_t i) {
    const Row& row = result_.rows[i];
    const auto& stop_on = policy_.stop_on;
    if (end_ != RoundEnd::complete) {
      return;
    }
    if (row.outcome == NodeOutcome::error_reply && stop_on.error.contains(row.node_id)) {
      end_ = RoundEnd::node_error;
    } else if (row.error == errc::disconnected && stop_on.disconnect.contains(row.node_id)) {
      end_ = RoundEnd::node_disconnected;
    } else if (row.outcome == NodeOutcome::deadline_passed &&
               stop_on.timeout.contains(row.node_id)) {
      end_ = RoundEnd::node_timeout;
    } else {
      return;
    }
    end_by_ = i;
  }

  /// The round no longer waits for this node.
  void close(std::size_t i, NodeOutcome outcome, boost::system::error_code error, time_point now) {
    Slot& slot = slots_[i];
    Row& row = result_.rows[i];
    slot.state = SlotState::ended;
    slot.disarm();
    slot.NodeWatcher::unlink();
    --in_flight_;
    --open_;
    row.outcome = outcome;
    row.error = error;
    row.took = now - slot.sent_at;
    if (const auto record = std::move(slot.record)) {
      const auto spent = record->spent(now);
      row.attempts = record->lease;
      row.queued = spent.queued;
      row.leased = spent.leased;
      row.working = spent.working;
      row.bytes_sent = row.attempts * message_traits<M>::size(*record->message);
      withdraw(*record, slot, row.node_id, now);
    }
  }

  // What is queued is taken back; what is out may still bring a late reply.
  void withdraw(Record& record, const Slot& slot, const std::string& node_id, time_point now) {
    auto& handler = static_cast<HandledTaskRecord<M, clock_type, Handler>&>(record).handler();
    handler.slot = nullptr;
    if (record.owner == nullptr) {
      return;
    }
    if (late_) {
      handler.late = std::make_unique<LateTicket>(late_, node_id, slot.sent_at);
    }
    record.owner->withdraw(record, late_ ? after(now, policy_.late_for) : now, policy_.queued);
  }

  const std::shared_ptr<Series> series_;
  const MakeMessage make_;
  const RoundPolicy policy_;
  RoundResult<M> result_;
  std::unique_ptr<Slot[]> slots_;
  time_point started_ = clock_type::now();
  time_point ends_at_ = time_point::max();
  /// Set when the quorum is there.
  time_point grace_ends_at_ = time_point::max();
  /// The next row to ask; those before it have been asked.
  std::size_t next_ = 0;
  std::size_t in_flight_ = 0;
  /// Rows without an outcome, asked or not.
  std::size_t open_ = 0;
  std::size_t substituted_ = 0;
  /// How the round ends when all rows have ended, or at once when it is another.
  RoundEnd end_ = RoundEnd::complete;
  std::size_t end_by_ = Row::nobody;
  /// None: late replies are not taken.
  std::shared_ptr<LateReplies> late_;
  bool advancing_ = false;
  bool ended_ = false;
};

}  // namespace fedagent::detail
