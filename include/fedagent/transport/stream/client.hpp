#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/system/result.hpp>
#include <boost/system/system_error.hpp>
#include <chrono>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "fedagent/transport/stream/client_connection.hpp"
#include "fedagent/transport/stream/client_state.hpp"
#include "fedagent/transport/stream/connector.hpp"

namespace fedagent::stream {

/// A node: connects, takes tasks one at a time, replies, and comes back when the connection is
/// lost.
/**
 * It polls again when it has replied: until then the server holds the task on lease, and delivers
 * it again when the node dies. A reply is kept until the server has answered it, and is sent again
 * on a new connection; a task that comes again although it is here is not done twice.
 *
 * @tparam Connector See `TcpConnector`.
 * @tparam Clock A steady clock.
 *
 * @par Lifetimes
 * The destructor stops and waits for nothing, and may run after the loop is gone.
 * @par Thread safety
 * Unsafe: on the connector's executor. A handler that computes for long must do so elsewhere, or
 * else the client cannot ping.
 */
template <class Connector, class Clock = std::chrono::steady_clock>
class Client {
  using Executor = typename Connector::executor_type;
  using State = detail::ClientState<Executor, Clock>;
  using Stream = typename decltype(std::declval<const Connector&>()())::value_type::value_type;
  using Connection = detail::ClientConnection<Stream, Executor, Clock>;

 public:
  using executor_type = Executor;
  using error_code = boost::system::error_code;
  template <class T>
  using awaitable = boost::asio::awaitable<T, Executor>;
  template <class T>
  using result = boost::system::result<T>;

  /** @par Errors `std::invalid_argument` when an option is out of range. */
  explicit Client(Connector connector, const ClientOptions& options)
      : shared_(std::make_shared<Shared>(std::move(connector), options)) {}
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;
  ~Client() { stop(); }

  /// Serves tasks until the client is stopped or the server wants no more of it.
  /**
   * @param handler An awaitable `result<Message>` of a task (a `Message`). The reply needs a body
   * only: the request id of the task is filled in. What it returns for a task without one, which is
   * an overlay message from another node, is sent when it names a destination. A handler that
   * throws or returns an error gives no reply: that is reported to `on_handler_error` and counted,
   * and the server's request ends by its deadline.
   * @return Why it ended: `stopped`; `superseded`, another client has this node id now;
   * `bad_node_id`, `not_admitted`, `not_authenticated`, `unsupported_version`; or
   * `already_running`.
   * @par Cancellation
   * All types: as `stop`, with `operation_aborted`. The handler is cancelled too.
   */
  template <class Handler>
  awaitable<error_code> run(Handler handler) {
    return run_until_ended(shared_, std::move(handler));
  }

  /// Ends `run`, the handler by cancellation. What is in the outbox is lost with the client.
  void stop() noexcept { shared_->state->end(make_error_code(fedagent::errc::stopped)); }

  /// Sends a log line or a metric on the present connection, between the chunks of a reply too.
  /** @par Errors `not_connected`, `frame_too_large`, `id_too_long`, or why the connection ended. */
  awaitable<error_code> feedback(Feedback value) {
    return send_feedback(shared_->connection.lock(), std::move(value));
  }

  /// Sends an overlay message to another node, now or when the client is connected.
  /**
   * @return `forwarded`; or why the server did not, `connection_lost` when that is not known.
   * @par Cancellation
   * Ends the wait; the message is sent all the same.
   */
  awaitable<ReplyResult> send(Message message) {
    return send_overlay(shared_->state, std::move(message));
  }

  bool connected() const noexcept { return !shared_->connection.expired(); }
  ClientCounters counters() const noexcept {
    auto now = shared_->state->counters;
    now.unanswered = shared_->state->outbox.size();
    return now;
  }

 private:
  struct Shared {
    Shared(Connector the_connector, const ClientOptions& options)
        : connector(std::move(the_connector)),
          state(std::make_shared<State>(connector.get_executor(), options)) {}

    Connector connector;
    std::shared_ptr<State> state;
    std::weak_ptr<Connection> connection;
  };

  // ---- the coroutines

  template <class Handler>
  static awaitable<error_code> run_until_ended(std::shared_ptr<Shared> shared, Handler handler) {
    co_await boost::asio::this_coro::throw_if_cancelled(false);
    auto& state = *shared->state;
    if (state.running > 0) {
      co_return errc::already_running;
    }
    state.running = 2;
    boost::asio::co_spawn(state.executor, keep_connected(shared), Ended{shared->state});
    boost::asio::co_spawn(
        state.executor, work(shared->state, std::move(handler)),
        boost::asio::bind_cancellation_slot(state.work_cancelled.slot(), Ended{shared->state}));
    while (state.running > 0) {
      auto waiting = State::change(state);
      const error_code error = co_await std::move(waiting);
      if (error == boost::asio::error::operation_aborted) {
        state.end(error);
      }
    }
    state.watchdog.look();  // nothing is left to look at: the loop may run out of work
    co_return state.ended;
  }

  struct Ended {
    std::shared_ptr<State> state;
    void operator()(std::exception_ptr error) const {
      if (error) {
        state->end(errc::internal);
      }
      --state->running;
      state->changed.wake_all();
    }
  };

  /// Whether another attempt would end in the same way.
  static bool is_final(error_code why) noexcept {
    return why == fedagent::errc::superseded || why == fedagent::errc::bad_node_id ||
           why == fedagent::errc::not_admitted || why == errc::not_authenticated ||
           why == errc::unsupported_version;
  }

  static awaitable<void> keep_connected(std::shared_ptr<Shared> shared) {
    auto& state = *shared->state;
    while (!state.ended) {
      auto attempting = attempt(*shared);
      auto stream = co_await std::move(attempting);
      error_code why = stream ? state.ended : stream.error();
      if (stream && !state.ended) {
        auto connection = std::make_shared<Connection>(std::move(*stream), shared->state);
        shared->connection = connection;
        auto serving = Connection::serve(std::move(connection));
        why = co_await std::move(serving);
        shared->connection.reset();
      }
      state.disconnected(why);
      if (is_final(why)) {
        state.end(why);
      }
      const auto again =
          fedagent::detail::time_after(Clock::now(), state.connect_pauses.next(state.random));
      while (!state.ended && Clock::now() < again) {
        auto waiting = State::change(state, again);
        co_await std::move(waiting);
      }
    }
  }

  // An attempt that takes too long is cancelled and left alone: looking up a name cannot be
  // stopped.
  struct Attempt {
    boost::asio::cancellation_signal cancelled;
    std::optional<result<Stream>> stream;
  };

  static awaitable<result<Stream>> attempt(Shared& shared) {
    auto& state = *shared.state;
    ++state.counters.attempts;
    const auto outcome = std::make_shared<Attempt>();
    state.attempt_cancelled =
        std::shared_ptr<boost::asio::cancellation_signal>(outcome, &outcome->cancelled);
    boost::asio::co_spawn(
        state.executor, connect(shared.connector, outcome),
        boost::asio::bind_cancellation_slot(
            outcome->cancelled.slot(),
            [outcome, alive = shared.state](std::exception_ptr) { alive->changed.wake_all(); }));
    const auto until = fedagent::detail::time_after(Clock::now(), state.options.connect_timeout);
    while (!state.ended && !outcome->stream && Clock::now() < until) {
      auto waiting = State::change(state, until);
      co_await std::move(waiting);
    }
    if (state.ended) {
      co_return state.ended;
    }
    if (!outcome->stream) {
      state.cancel_attempt();
      co_return make_error_code(errc::connect_timeout);
    }
    co_return *std::move(outcome->stream);
  }

  static awaitable<void> connect(Connector connector, std::shared_ptr<Attempt> outcome) {
    error_code thrown;
    try {
      auto connecting = connector();
      outcome->stream.emplace(co_await std::move(connecting));
    } catch (const boost::system::system_error& error) {
      thrown = error.code();
    } catch (...) {
      thrown = errc::internal;
    }
    if (thrown) {
      outcome->stream.emplace(thrown);
    }
    // A connector that has stopped the client before its first wait: what Asio does after this
    // would throw out of the loop (Boost 1.81).
    co_await boost::asio::this_coro::throw_if_cancelled(false);
  }

  template <class Handler>
  static awaitable<void> work(std::shared_ptr<State> state, Handler handler) {
    const detail::Here here(state->at_work);
    while (!state->ended) {
      if (!state->backlog) {
        auto waiting = State::change(*state);
        co_await std::move(waiting);
        continue;
      }
      Message task = *std::move(state->backlog);
      state->backlog.reset();
      const std::string request_id = task.request_id;
      // An overlay message is a task too, but its id, if it has one, is its sender's.
      const bool overlay = !task.destination.empty();
      state->working = true;
      state->working_on = request_id;
      state->changed.wake_all();
      std::optional<Message> reply;
      std::exception_ptr failure;
      try {
        auto working = handler(std::move(task));
        auto done = co_await std::move(working);
        if (done) {
          reply.emplace(*std::move(done));
        } else {
          failure = std::make_exception_ptr(boost::system::system_error(done.error()));
        }
      } catch (...) {
        failure = std::current_exception();
      }
      if (!state->ended && failure) {
        state->handler_failed(request_id, failure);
      }
      if (!state->ended && reply) {
        queue_reply(*state, overlay ? std::string() : request_id, *std::move(reply));
      }
      state->working = false;
      state->changed.wake_all();
    }
  }

  static void queue_reply(State& state, const std::string& request_id, Message reply) {
    if (reply.request_id.empty()) {
      reply.request_id = request_id;
    }
    const bool to_node = !reply.destination.empty();
    if (to_node || !request_id.empty()) {
      state.add_to_outbox({to_node ? FrameType::overlay : FrameType::reply,
                           std::make_shared<const Message>(std::move(reply)), nullptr});
    }
  }

  static awaitable<error_code> send_feedback(std::shared_ptr<Connection> connection,
                                             Feedback value) {
    if (!connection || connection->fault()) {
      co_return errc::not_connected;
    }
    auto writing = Connection::write_feedback(std::move(connection), std::move(value));
    const error_code error = co_await std::move(writing);
    co_return error;
  }

  static awaitable<ReplyResult> send_overlay(std::shared_ptr<State> state, Message message) {
    if (message.destination.empty()) {
      co_return make_error_code(errc::destination_missing);
    }
    if (state->ended) {
      co_return state->ended;
    }
    const auto outcome = std::make_shared<std::optional<ReplyResult>>();
    state->add_to_outbox(
        {FrameType::overlay, std::make_shared<const Message>(std::move(message)), outcome});
    while (!*outcome) {
      auto waiting = State::change(*state);
      const error_code error = co_await std::move(waiting);
      if (error) {
        co_return error;
      }
    }
    co_return **outcome;
  }

  std::shared_ptr<Shared> shared_;
};

}  // namespace fedagent::stream
