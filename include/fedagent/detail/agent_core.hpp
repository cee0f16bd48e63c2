#pragma once

#include <algorithm>
#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <boost/system/result.hpp>
#include <memory>
#include <string_view>
#include <type_traits>
#include <utility>

#include "fedagent/detail/ledger.hpp"
#include "fedagent/send_options.hpp"
#include "fedagent/task.hpp"

namespace fedagent::detail {

/// The agent itself, behind its handles: which messages it lets in, what replies do, and its end.
/**
 * Everything here happens at once, on the executor. A handler of the user runs at the end of what
 * led to it and may call the agent again; whatever goes on after a handler holds a reference to the
 * core and looks at its state anew.
 */
template <class T, class M, class O>
class AgentCore final : public Ledger<T, M, O> {
  using Base = Ledger<T, M, O>;

 public:
  using typename Base::clock_type;
  using typename Base::error_code;
  using typename Base::Record;
  using Options = SendOptions<clock_type>;

  using Base::Base;
  ~AgentCore() { end(errc::stopped); }

  using Base::context;
  using Base::find_request;
  using Base::id;
  using Base::queue;

  /// Accepts the message or says why not. The handler is moved from only when it is accepted.
  /** @return The record, owned by this agent until it ends. */
  template <class Handler>
  boost::system::result<Record*> send(const MessagePtr<M>& message, Handler& handler,
                                      const Options& options, bool in_line = false) {
    const auto self = this->shared_from_this();
    Record* const open = find_request(awaited_id(*message));
    if (options.retry_count > 0 && open != nullptr) {
      this->redeliver(*open, options.retry_count);
      return open;
    }
    constexpr bool handled = awaits_reply<Handler>;
    const auto now = clock_type::now();
    if (const auto refusal = refusal_of(*message, handled, options, in_line, now)) {
      ++counters_.refused;
      context->hooks(hook::refused, id, message, refusal);
      return refusal;
    }
    boost::intrusive_ptr<Record> record(
        new HandledTaskRecord<M, clock_type, Handler>(message, std::move(handler)));
    record->since = now;
    record->first_send_time = options.first_send_time.value_or(now);
    record->end_by = options.deadline;
    record->retry_count = options.retry_count;
    return &this->admit(std::move(record));
  }

  /// As `send`, for who only asks whether it was accepted.
  template <class Handler>
  boost::system::result<void> try_send(const MessagePtr<M>& message, Handler& handler,
                                       const Options& options, bool in_line = false) {
    const auto sent = send(message, handler, options, in_line);
    return sent ? boost::system::result<void>() : boost::system::result<void>(sent.error());
  }

  /// As `try_send`, for a sender that does not wait for the answer: the handler hears of a refusal.
  template <class Handler>
  static boost::system::result<void> send_or_tell(const std::shared_ptr<AgentCore>& core,
                                                  const MessagePtr<M>& message, Handler& handler,
                                                  const Options& options) {
    const auto sent = core ? core->try_send(message, handler, options)
                           : boost::system::result<void>(make_error_code(errc::stopped));
    const auto tell = [&] { std::move(handler)(Outcome<M>(sent.error())); };
    if (!sent && core) {
      core->guarded(tell);
    } else if (!sent) {
      try {
        tell();
      } catch (...) {  // the agent is gone, and with it the hook to report to
      }
    }
    return sent;
  }

  /// Whether a send would be refused for want of room only, and may wait for it.
  bool waits_for_room(const M& message, bool handled, const Options& options, bool in_line) {
    return context->options.overflow == OverflowPolicy::wait &&
           refusal_of(message, handled, options, in_line, clock_type::now()) == errc::queue_full;
  }

  /// Takes the next task for a poll. @pre The queue is not empty.
  Task<M, clock_type> take(SessionId session) {
    Record& record = queue.front();
    queue.remove(record);
    record.enter(TaskState::leased, clock_type::now());
    record.session = session;
    record.poll = this->polls_opened();
    ++record.lease;
    this->leases_.push_back(record);
    this->watch(record);
    return Task<M, clock_type>(boost::intrusive_ptr<Record>(&record));
  }

  /// The seed's `task_done`: the oldest task in hand has been delivered.
  boost::system::result<void> task_done() {
    const auto oldest = std::ranges::find_if(this->leases_, &Record::in_hand);
    if (oldest == this->leases_.end()) {
      return errc::no_task_taken;
    }
    this->delivered(*oldest);
    return {};
  }

  /// Ends the next tasks whose time is over; the timer that does so may be late (E3).
  void end_overdue() noexcept {
    const auto self = this->shared_from_this();
    while (!queue.empty() && queue.front().armed() &&
           queue.front().deadline() <= clock_type::now()) {
      this->deadline_reached(queue.front());
    }
  }

  bool flush(std::string_view request_id, bool stopped) {
    const auto self = this->shared_from_this();
    Record* const record = find_request(request_id);
    if (record == nullptr) {
      return false;
    }
    this->end_record(*record, make_error_code(errc::flushed),
                     stopped ? ReplyDisposition::stopped : ReplyDisposition::late);
    return true;
  }

  /// A reply, or any other message without a destination, that came from this node.
  ReplyDisposition reply(MessagePtr<M> message) {
    const auto self = this->shared_from_this();
    const auto now = clock_type::now();
    this->last_seen.reply = now;
    this->alive(now);
    const auto request_id = message_traits<M>::request_id(*message);
    Record* const record = find_request(request_id);
    auto disposition = ReplyDisposition::uncorrelated;
    if (record != nullptr) {
      // What was never looked at cannot have been answered: the id is a guess or somebody else's.
      disposition = record->seen || record->retry_count > 0 ? ReplyDisposition::delivered
                                                            : ReplyDisposition::unexpected;
    } else if (!request_id.empty()) {
      disposition = this->replies_.classify(request_id, now);
    }
    count_reply(message, disposition);
    if (disposition == ReplyDisposition::delivered) {
      this->confirm(*record);
      ++counters_.replied;
      this->finish(*record, std::move(message), ReplyDisposition::duplicate, now);
    }
    return disposition;
  }

  void count_reply(const MessagePtr<M>& message, ReplyDisposition disposition) {
    ++counters_.replies[static_cast<std::size_t>(disposition)];
    context->hooks(hook::reply, id, message, disposition);
  }
  void count_wrong_node() noexcept { ++counters_.wrong_node; }

  /// Ends every message and every wait; nothing is accepted afterwards. Only the first call counts.
  void end(errc reason) noexcept {
    if (this->ended()) {
      return;
    }
    const auto self = this->weak_from_this().lock();  // a handler may let the last handle go
    this->end_presence(reason);
    const auto why = this->ended();
    queue.takers.dismiss(why);
    queue.senders.dismiss(why);
    this->end_all(why);
    this->changed.dismiss(why);
    context->watchdog.look();
  }

 private:
  using Base::counters_;

  // `queue_full` is the last reason looked at, so that whoever waits for room waits for room only.
  error_code refusal_of(const M& message, bool handled, const Options& options, bool in_line,
                        typename Base::time_point now) {
    if (this->ended()) {
      return this->ended();
    }
    const auto request_id = awaited_id(message);
    const auto size = message_traits<M>::size(message);
    const auto& limits = context->options;
    const auto age = now - options.first_send_time.value_or(now);
    const bool again = options.retry_count > 0;
    const bool lost = this->status().status() == NodeActiveStatus::disconnected;
    const std::pair<bool, errc> reasons[] = {
        {handled && request_id.empty(), errc::request_id_missing},
        {find_request(request_id) != nullptr, errc::duplicate_request_id},
        {now >= options.deadline, errc::deadline_passed},
        {limits.max_age > Duration::zero() && age >= limits.max_age, errc::expired},
        {!again && lost && limits.when_disconnected == DisconnectedPolicy::refuse,
         errc::disconnected},
        {!again && limits.max_queued_bytes > 0 && size > limits.max_queued_bytes,
         errc::message_too_large},
        {!again && limits.overflow == OverflowPolicy::wait && !in_line && !queue.senders.empty(),
         errc::queue_full},
    };
    for (const auto& [holds, reason] : reasons) {
      if (holds) {
        return reason;
      }
    }
    if (again) {
      return {};
    }
    if (queue.has_room(size, limits)) {
      return {};
    }
    if (limits.overflow != OverflowPolicy::drop_oldest) {
      return errc::queue_full;
    }
    this->drop_oldest_while([&] { return !queue.has_room(size, limits); }, errc::displaced);
    // The handlers of what was displaced may have done anything.
    if (!queue.has_room(size, limits)) {
      return errc::queue_full;
    }
    if (!this->ended() && find_request(request_id) != nullptr) {
      return errc::duplicate_request_id;
    }
    return this->ended();
  }
};

}  // namespace fedagent::detail
