#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/error.hpp>
#include <boost/system/error_code.hpp>
#include <chrono>
#include <cstdint>
#include <exception>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>

#include "fedagent/detail/waiter.hpp"
#include "fedagent/error.hpp"
#include "fedagent/transport/stream/back_off.hpp"
#include "fedagent/transport/stream/context.hpp"
#include "fedagent/transport/stream/options.hpp"
#include "fedagent/transport/stream/outbox.hpp"

namespace fedagent::stream {

/// What a client has done. A plain snapshot.
struct ClientCounters {
  /// Attempts to connect.
  std::uint64_t attempts = 0;
  /// Connections that the server accepted.
  std::uint64_t welcomed = 0;
  /// Tasks that came in whole, duplicates too.
  std::uint64_t tasks = 0;
  /// Tasks that were there already: worked on, waiting, or with a reply that waits for its answer.
  std::uint64_t duplicates = 0;
  /// Tasks whose handler failed.
  std::uint64_t handler_errors = 0;
  /// Replies and overlay messages that the server has answered.
  std::uint64_t answered = 0;
  /// Now: replies and overlay messages that wait for that.
  std::uint64_t unanswered = 0;
};

namespace detail {

/// A client's connection as its client sees it.
class ClientPeer {
 public:
  virtual void end(boost::system::error_code why) noexcept = 0;

 protected:
  ~ClientPeer() = default;
};

/// True as long as a coroutine has one of these.
class Here {
 public:
  explicit Here(bool& flag) noexcept : flag_(&flag) { flag = true; }
  Here(const Here&) = delete;
  Here& operator=(const Here&) = delete;
  ~Here() { *flag_ = false; }

 private:
  bool* flag_;
};

/// What the coroutines of a client share: the task that waits, the one that is worked on, and what
/// is to be told to the server.
template <class Executor, class Clock>
class ClientState final : public Context<Executor, Clock> {
  using Base = Context<Executor, Clock>;

 public:
  using error_code = boost::system::error_code;
  using time_point = typename Clock::time_point;
  using Waiter = fedagent::detail::Waiter<Clock, Executor>;
  template <class T>
  using awaitable = boost::asio::awaitable<T, Executor>;

  ClientState(const Executor& the_executor, const ClientOptions& the_options)
      : Base(the_executor, (check(the_options), the_options.connection), 0),
        options(the_options),
        random(the_options.seed != 0 ? the_options.seed : random_seed()),
        instance(random()),
        connect_pauses(the_options.least_pause, the_options.longest_pause,
                       the_options.pause_jitter),
        poll_pauses(connect_pauses) {}

  /// Waits for any change of what is here, or for the time.
  /** @return No error, `deadline_passed`, or `operation_aborted` when cancelled. */
  static awaitable<error_code> change(ClientState& state, time_point until = time_point::max()) {
    Waiter waiter(state.executor);
    state.changed.push_back(waiter);
    if (until != time_point::max()) {
      state.watchdog.arm(waiter, until);
    }
    co_await waiter.wait();
    co_return waiter.verdict();
  }

  /// Ends the client; its owner's hooks are not called any more. Only the first call counts.
  void end(error_code why) noexcept {
    if (ended) {
      return;
    }
    ended = why;
    outbox.end(why);
    if (peer != nullptr) {
      peer->end(why);
    }
    cancel_attempt();
    if (at_work) {
      work_cancelled.emit(boost::asio::cancellation_type::terminal);
    }
    changed.wake_all();
  }
  void cancel_attempt() noexcept {
    if (const auto attempt = attempt_cancelled.lock()) {
      attempt->emit(boost::asio::cancellation_type::terminal);
    }
  }

  /// A node that works does not poll: a poll would confirm the task in hand, and with the node's
  /// death it would be lost instead of delivered again. Pings show that the node lives.
  bool wants_poll(time_point now) const noexcept {
    return !poll_open && !working && !backlog && !outbox.pending() &&
           outbox.size() < options.max_unanswered && now >= poll_from;
  }

  /// Whether a task is here already. What the server has accepted the reply to does not come again.
  bool knows(std::string_view request_id) const noexcept {
    return !request_id.empty() &&
           ((working && working_on == request_id) ||
            (backlog && backlog->request_id == request_id) || outbox.holds_reply(request_id));
  }

  void poll_ended(error_code why, time_point now) {
    poll_open = false;
    if (why == fedagent::errc::superseded) {
      end(why);
    } else if (why != fedagent::errc::poll_ended && why != fedagent::errc::not_encodable) {
      poll_from = fedagent::detail::time_after(now, poll_pauses.next(random));
    }
    changed.wake_all();
  }

  void task_came(Message task, bool duplicate) {
    poll_open = false;
    poll_pauses.reset();
    ++counters.tasks;
    if (duplicate) {
      ++counters.duplicates;
    } else {
      backlog = std::move(task);
    }
    changed.wake_all();
  }

  void add_to_outbox(Outbox::Entry entry) {
    outbox.add(std::move(entry));
    changed.wake_all();
  }

  /// The server has answered the oldest entry of the outbox.
  void answered(const ReplyResult& result) {
    ++counters.answered;
    tell(outbox.answered(), result);
  }

  /// Tells whoever waits for it what has come of an entry that is out of the outbox.
  void tell(const Outbox::Entry& entry, const ReplyResult& result) {
    if (entry.outcome) {
      *entry.outcome = result;
    }
    if (!ended && options.on_reply_result) {
      options.on_reply_result(entry.message->request_id, result);
    }
    changed.wake_all();
  }

  void receipt_came(const RelayReceipt& receipt) {
    if (!ended && options.on_receipt) {
      options.on_receipt(receipt.request_id, receipt.result);
    }
  }

  void disconnected(error_code why) {
    outbox.lost();
    poll_open = false;
    poll_from = time_point::min();
    if (!ended && options.on_disconnected) {
      options.on_disconnected(why);
    }
    changed.wake_all();
  }

  void handler_failed(std::string_view request_id, std::exception_ptr error) noexcept {
    ++counters.handler_errors;
    if (!ended && options.on_handler_error) {
      options.on_handler_error(request_id, error);
    }
  }

  ClientOptions options;
  std::mt19937_64 random;
  std::uint64_t instance;
  BackOff connect_pauses;
  BackOff poll_pauses;
  fedagent::detail::WaitList<Clock> changed;
  Outbox outbox;
  std::optional<Message> backlog;
  std::string working_on;
  ClientPeer* peer = nullptr;
  /// That of the present attempt to connect. Each has its own: one that is given up may live on.
  std::weak_ptr<boost::asio::cancellation_signal> attempt_cancelled;
  boost::asio::cancellation_signal work_cancelled;
  time_point poll_from = time_point::min();
  ClientCounters counters;
  error_code ended;
  /// The coroutines that `run` waits for.
  int running = 0;
  /// Whether there is something behind `work_cancelled`. A client may be destroyed after its loop,
  /// which has taken the coroutines with it.
  bool at_work = false;
  bool working = false;
  bool poll_open = false;

 private:
  static std::uint64_t random_seed() {
    std::random_device device;
    return (std::uint64_t{device()} << 32U) | device();
  }
};

}  // namespace detail
}  // namespace fedagent::stream
