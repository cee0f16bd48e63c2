#pragma once

#include <boost/intrusive/list.hpp>
#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <boost/system/result.hpp>
#include <cstddef>
#include <memory>
#include <new>
#include <optional>
#include <string_view>
#include <utility>

#include "fedagent/detail/admission.hpp"
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
class AgentCore final : public Presence<T, M, O>, public boost::intrusive::list_base_hook<> {
  using Base = Presence<T, M, O>;

 public:
  using typename Base::clock_type;
  using typename Base::error_code;
  using typename Base::time_point;
  using Ledger = detail::Ledger<T, M, O>;
  using Record = typename Ledger::Record;
  using Options = SendOptions<clock_type>;
  using Ptr = AgentPtr<AgentCore>;

  /// The id is kept behind the agent, in the same piece of memory.
  static Ptr make(std::string_view node_id, std::shared_ptr<typename Base::Context> context) {
    return Ptr(*new (Behind{node_id.size()}) AgentCore(node_id, std::move(context)));
  }

  using Base::context;
  using Base::id;
  using Base::takers;

  // ---- what is there

  const Ledger* find_ledger() const noexcept { return ledger_.get(); }
  Ledger& ledger() {
    if (!ledger_) {
      ledger_ = std::make_unique<Ledger>(*this);
    }
    return *ledger_;
  }
  bool has_task() const noexcept { return ledger_ && !ledger_->queue.empty(); }
  bool drained() const noexcept { return !ledger_ || ledger_->drained(); }
  std::size_t remembered() const noexcept { return ledger_ ? ledger_->remembered() : 0; }
  Counters counters() const { return ledger_ ? ledger_->snapshot() : Counters(); }
  Record* find_request(const RequestId& request_id) const {
    return ledger_ ? ledger_->find_request(request_id) : nullptr;
  }

  /// Runs what may throw the exceptions of a user's handler.
  template <class F>
  void guarded(F function) {
    ledger().guarded(std::move(function));
  }

  // ---- sending

  /// Accepts the message or says why not. The handler is moved from only when it is accepted.
  /** @return The record, owned by this agent until it ends. */
  template <class Handler>
  boost::system::result<Record*> send(const MessagePtr<M>& message, Handler& handler,
                                      const Options& options, bool in_line = false) {
    const auto self = this->guard();
    const RequestId request_id(awaited_id(*message));
    Record* const open = find_request(request_id);
    if (options.retry_count > 0 && open != nullptr) {
      ledger().redeliver(*open, options.retry_count);
      return open;
    }
    constexpr bool handled = awaits_reply<Handler>;
    const auto now = clock_type::now();
    if (const auto refusal =
            refusal_of(*message, request_id, open, handled, options, in_line, now)) {
      ++ledger().counters.refused;
      context->hooks(hook::refused, id, message, refusal);
      return refusal;
    }
    auto record = HandledTaskRecord<M, clock_type, Handler>::make(context->record_memory, message,
                                                                  request_id, std::move(handler));
    record->since = now;
    record->first_send_time = options.first_send_time.value_or(now);
    record->end_by = options.deadline;
    record->retry_count = options.retry_count;
    return &ledger().admit(std::move(record));
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
  static boost::system::result<void> send_or_tell(const Ptr& core, const MessagePtr<M>& message,
                                                  Handler& handler, const Options& options) {
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
    const RequestId request_id(awaited_id(message));
    return context->options.overflow == OverflowPolicy::wait &&
           refusal_of(message, request_id, find_request(request_id), handled, options, in_line,
                      clock_type::now()) == errc::queue_full;
  }

  // ---- the node's side

  /// What a poll gets: a task, or why it is to leave; none: it waits at this place in the line.
  /**
   * @pre The caller uses the agent: a handler may let it go.
   * @param poll That which has a handle, or null.
   * @param place Null: what does not get anything does not wait.
   * @param until When a wait that begins now is to end.
   */
  std::optional<boost::system::result<Task<M, clock_type>>> try_take(typename Base::Poll* poll,
                                                                     Waiting<clock_type>* place,
                                                                     time_point until) {
    const auto verdict = [place] { return place != nullptr ? place->verdict() : error_code(); };
    time_point now{};
    if (!verdict() && has_task()) {
      now = clock_type::now();
      ledger_->end_overdue(now);  // the timer that does so may be late (E3)
    }
    error_code why = verdict();  // a handler may have closed the poll
    if (poll != nullptr && poll->superseded && why != boost::asio::error::operation_aborted) {
      why = errc::superseded;
    } else if (!why) {
      why = this->ended();
    }
    const bool in_line = place != nullptr && place->in_line();
    // Those in line have a task each, as far as the tasks go: nobody overtakes.
    if (!why && (!has_task() || !(in_line || takers.empty()))) {
      if (place != nullptr && takers.push_back(*place)) {
        wake_takers();
        context->watchdog.arm(*place, until);
      }
      return std::nullopt;
    }
    if (place != nullptr) {
      place->step_out();
    }
    if (why) {
      wake_takers();
      return why;
    }
    Task<M, clock_type> task(
        boost::intrusive_ptr<Record>(&ledger_->lease(poll != nullptr ? poll->session : 0, now)));
    wake_takers();
    return task;
  }
  /// Lets as many polls look as there are tasks. Called whenever a poll has come or gone.
  void wake_takers() noexcept {
    if (ledger_) {
      ledger_->queue.wake_takers();
    }
  }

  /// The seed's `task_done`: the oldest task in hand has been delivered.
  boost::system::result<void> task_done() {
    Record* const oldest = ledger_ ? ledger_->oldest_in_hand() : nullptr;
    if (oldest == nullptr) {
      return errc::no_task_taken;
    }
    ledger_->delivered(*oldest);
    return {};
  }

  bool flush(std::string_view request_id, bool stopped) {
    const auto self = this->guard();
    Record* const record = find_request(request_id);
    if (record == nullptr) {
      return false;
    }
    ledger_->end_record(*record, make_error_code(errc::flushed),
                        stopped ? ReplyDisposition::stopped : ReplyDisposition::late);
    return true;
  }

  /// What became of a message from the node, or that which a forwarder of the user is to take.
  struct TakenReply {
    boost::system::result<ReplyDisposition> result;
    MessagePtr<M> to_forward{};
  };
  /// Takes a message of the node.
  /** @param receipt Moved from when the message is relayed here. */
  TakenReply take_reply(const Received<T, M>& received, Receipt& receipt) {
    const auto self = this->guard();
    if (const auto& decoded = received.message(); !decoded || this->ended()) {
      return {decoded ? this->ended() : decoded.error()};
    }
    const MessagePtr<M>& message = *received.message();
    const std::string_view source(message_traits<M>::source(*message));
    if (!source.empty() && source != id) {
      return {wrong_node(source)};
    }
    if (std::string_view(message_traits<M>::destination(*message)).empty()) {
      return {reply(message)};
    }
    this->alive();
    if (context->forward) {
      return {make_error_code(errc::no_route), message};
    }
    return {forwarded(message, context->route(id, message, std::move(receipt)))};
  }
  /// The node has named another one as itself.
  error_code wrong_node(std::string_view claim) {
    ++ledger().counters.wrong_node;
    context->hooks(hook::wrong_node, id, claim);
    return errc::wrong_node;
  }
  /// What became of an overlay message.
  boost::system::result<ReplyDisposition> forwarded(const MessagePtr<M>& message,
                                                    const boost::system::result<void>& came) {
    if (!came) {
      return came.error();
    }
    count_reply(message, ReplyDisposition::forwarded);
    return ReplyDisposition::forwarded;
  }

  /// Ends every message and every wait; nothing is accepted afterwards. Only the first call counts.
  void end(errc reason) noexcept {
    if (this->ended()) {
      return;
    }
    const auto self = this->guard();  // a handler may let the last handle go
    this->end_presence(reason);
    const auto why = this->ended();
    takers.dismiss(why);
    if (ledger_) {
      ledger_->queue.senders.dismiss(why);
      ledger_->end_all(why);
    }
    this->changed.dismiss(why);
    context->watchdog.look();
  }

 private:
  friend class AgentPtr<AgentCore>;
  friend class AgentRef<AgentCore>;
  struct Behind {
    std::size_t size;
  };

  AgentCore(std::string_view node_id, std::shared_ptr<typename Base::Context> the_context)
      : Base(keep(node_id, this), std::move(the_context)) {}
  ~AgentCore() override = default;

  static void* operator new(std::size_t size, Behind behind) {
    return ::operator new(size + behind.size);
  }
  static void operator delete(void* memory, Behind /*behind*/) { ::operator delete(memory); }
  static void operator delete(void* memory) { ::operator delete(memory); }

  // It is called before there is an agent.
  static std::string_view keep(std::string_view node_id, void* agent) noexcept {
    char* const behind = static_cast<char*>(agent) + sizeof(AgentCore);
    return {behind, node_id.copy(behind, node_id.size())};
  }

  void on_poll(SessionId session) override {
    if (ledger_) {
      ledger_->on_poll(session);
    }
  }
  void on_lost() override {
    if (ledger_) {
      ledger_->on_lost();
    }
  }
  void unused() noexcept override {
    end(errc::stopped);
    ledger_.reset();
    context.reset();
  }

  // A reply, or any other message without a destination.
  ReplyDisposition reply(const MessagePtr<M>& message) {
    const auto now = clock_type::now();
    this->replied(now);
    const RequestId request_id(message_traits<M>::request_id(*message));
    Record* const record = find_request(request_id);
    auto disposition = ReplyDisposition::uncorrelated;
    if (record != nullptr) {
      // What was never looked at cannot have been answered: the id is a guess or somebody else's.
      disposition = record->seen != Seen::never || record->retry_count > 0
                        ? ReplyDisposition::delivered
                        : ReplyDisposition::unexpected;
    } else if (!request_id.text.empty()) {
      disposition = ledger().classify(request_id, now);
    }
    count_reply(message, disposition);
    if (disposition == ReplyDisposition::delivered) {
      ledger().confirm(*record);
      ++ledger().counters.replied;
      ledger().finish(*record, message, ReplyDisposition::duplicate, now);
    }
    return disposition;
  }
  void count_reply(const MessagePtr<M>& message, ReplyDisposition disposition) {
    ++ledger().counters.replies[static_cast<std::size_t>(disposition)];
    context->hooks(hook::reply, id, message, disposition);
  }

  error_code refusal_of(const M& message, const RequestId& request_id, const Record* open,
                        bool handled, const Options& options, bool in_line, time_point now) {
    if (this->ended()) {
      return this->ended();
    }
    auto& queue = ledger().queue;
    const auto& limits = context->options;
    const Arrival arrival{.size = message_traits<M>::size(message),
                          .handled = handled,
                          .has_id = !request_id.text.empty(),
                          .id_is_open = open != nullptr,
                          .node_is_lost = this->status().status() == NodeActiveStatus::disconnected,
                          .others_wait = !in_line && !queue.senders.empty()};
    const auto refusal = detail::refusal_of<clock_type>(arrival, options, limits, now);
    if (refusal || options.retry_count > 0 || queue.has_room(arrival.size, limits)) {
      return refusal;
    }
    if (limits.overflow != OverflowPolicy::drop_oldest) {
      return errc::queue_full;
    }
    ledger().drop_oldest_while([&] { return !queue.has_room(arrival.size, limits); },
                               errc::displaced);
    // The handlers of what was displaced may have done anything.
    if (!queue.has_room(arrival.size, limits)) {
      return errc::queue_full;
    }
    if (!this->ended() && find_request(request_id) != nullptr) {
      return errc::duplicate_request_id;
    }
    return this->ended();
  }

  /// Made with the first message, so that an agent that has none is small.
  std::unique_ptr<Ledger> ledger_;
};

}  // namespace fedagent::detail
