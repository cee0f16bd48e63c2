#pragma once

#include <algorithm>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include "fedagent/transport/stream/chunks.hpp"
#include "fedagent/transport/stream/client_state.hpp"
#include "fedagent/transport/stream/connection.hpp"

namespace fedagent::stream::detail {

/// One connection of a client: a reader, a coroutine that polls and pings, and one that writes what
/// is in the outbox.
template <class Stream, class Executor, class Clock>
class ClientConnection final : public Connection<Stream, Executor, Clock>, private ClientPeer {
  using Base = Connection<Stream, Executor, Clock>;

 public:
  using State = ClientState<Executor, Clock>;
  using error_code = boost::system::error_code;
  template <class T>
  using awaitable = boost::asio::awaitable<T, Executor>;

  ClientConnection(Stream stream, std::shared_ptr<State> state)
      : Base(std::move(stream), state), state_(std::move(state)) {}
  ~ClientConnection() override { leave(); }

  void message_ends() noexcept override { state_->outbox.ends(); }

  /// The whole life of a connection. @return Why it ended.
  static awaitable<error_code> serve(std::shared_ptr<ClientConnection> c) {
    c->state_->peer = c.get();
    error_code why = errc::internal;
    try {
      auto life = converse(c);
      why = co_await std::move(life);
    } catch (...) {
    }
    try {
      auto end = Base::wind_up(*c, why, c->peer_left_);
      co_await std::move(end);
    } catch (...) {
      c->close();
    }
    c->leave();
    co_return c->fault();
  }

  /// Writes one frame of feedback.
  static awaitable<error_code> write_feedback(std::shared_ptr<ClientConnection> c,
                                              Feedback feedback) {
    if (feedback.topic.size() > max_id_length) {
      co_return errc::id_too_long;
    }
    auto payload = encode(feedback);
    if (payload.size() > c->peer_limits().max_frame) {
      co_return errc::frame_too_large;
    }
    auto writing = Base::write_frame(*c, FrameType::feedback, std::move(payload));
    const error_code error = co_await std::move(writing);
    co_return error;
  }

 private:
  static awaitable<error_code> converse(std::shared_ptr<ClientConnection> c) {
    auto& state = *c->state_;
    c->expect_hello();
    Hello hello;
    hello.instance = state.instance;
    hello.attempt = static_cast<std::uint32_t>(state.counters.attempts);
    hello.limits = state.connection_options.limits;
    hello.node_id = state.options.node_id;
    auto greeting = Base::write_frame(*c, FrameType::hello, encode(hello));
    error_code error = co_await std::move(greeting);
    if (!error) {
      auto meeting = meet(*c);
      error = co_await std::move(meeting);
    }
    if (error) {
      co_return error;
    }
    ++state.counters.welcomed;
    state.connect_pauses.reset();
    if (!state.ended && state.options.on_connected) {
      state.options.on_connected();
    }
    boost::asio::co_spawn(c->executor(), poll_and_ping(c), boost::asio::detached);
    boost::asio::co_spawn(c->executor(), write_outbox(c), boost::asio::detached);
    while (!error) {
      FrameHeader header;
      auto reading = Base::read_header(*c, header);
      error = co_await std::move(reading);
      if (!error) {
        auto taking = take_frame(*c, header);
        error = co_await std::move(taking);
      }
    }
    co_return error;
  }

  static awaitable<error_code> meet(ClientConnection& c) {
    FrameHeader header;
    auto reading_header = Base::read_header(c, header);
    error_code error = co_await std::move(reading_header);
    if (error) {
      co_return error;
    }
    if (header.type != FrameType::welcome) {
      auto taking = header.type == FrameType::error ? take_error(c, header) : refuse();
      error = co_await std::move(taking);
      co_return error;
    }
    std::string payload;
    auto reading = Base::read_payload(c, header, payload);
    error = co_await std::move(reading);
    if (error) {
      co_return error;
    }
    const auto welcome = decode_welcome(payload);
    if (!welcome) {
      co_return welcome.error();
    }
    c.peer_limits(welcome->limits);
    // The pongs keep this end from taking the server for a silent one.
    c.ping_interval_ = std::min<Duration>(std::chrono::milliseconds{welcome->ping_interval_ms},
                                          c.state_->connection_options.peer_timeout / 3);
    co_return error;
  }

  static awaitable<error_code> refuse() { co_return errc::unexpected_frame; }

  static awaitable<error_code> take_error(ClientConnection& c, const FrameHeader& header) {
    std::string payload;
    auto reading = Base::read_payload(c, header, payload);
    error_code error = co_await std::move(reading);
    if (!error) {
      c.peer_left_ = true;
      error = decode_error(payload);
    }
    co_return error;
  }

  static awaitable<error_code> take_frame(ClientConnection& c, const FrameHeader& header) {
    error_code error;
    switch (header.type) {
      case FrameType::pong:
        break;
      case FrameType::task: {
        auto taking = take_chunk(c, header);
        error = co_await std::move(taking);
        break;
      }
      case FrameType::poll_end:
      case FrameType::reply_result:
      case FrameType::receipt: {
        std::string payload;
        auto reading = Base::read_payload(c, header, payload);
        error = co_await std::move(reading);
        if (!error) {
          error = c.take_answer(header.type, payload);
        }
        break;
      }
      case FrameType::error: {
        auto taking = take_error(c, header);
        error = co_await std::move(taking);
        break;
      }
      default:
        error = errc::unexpected_frame;
    }
    co_return error;
  }

  static awaitable<error_code> take_chunk(ClientConnection& c, const FrameHeader& header) {
    if (!c.state_->poll_open) {
      co_return errc::unexpected_frame;
    }
    const bool first = !c.joiner();
    auto reading = read_chunk(c, header);
    const error_code error = co_await std::move(reading);
    if (error) {
      co_return error;
    }
    // Looked at here and not at the end: a task that was sent off before the server had its reply
    // may come to its end after the server has accepted that reply.
    if (first) {
      c.duplicate_ = c.state_->knows(c.joiner()->message().request_id);
    }
    if (c.joiner()->whole()) {
      Message task = c.joiner()->take();
      c.joiner().reset();
      c.state_->task_came(std::move(task), c.duplicate_);
    }
    co_return error;
  }

  error_code take_answer(FrameType type, std::string_view payload) {
    if (type == FrameType::poll_end) {
      if (!state_->poll_open || this->joiner()) {
        return errc::unexpected_frame;
      }
      state_->poll_ended(decode_error(payload), Clock::now());
      return {};
    }
    if (type == FrameType::receipt) {
      const auto receipt = decode_receipt(payload);
      if (receipt) {
        state_->receipt_came(*receipt);
      }
      return receipt ? error_code() : receipt.error();
    }
    ReplyResult result = ReplyDisposition::unexpected;
    if (const auto error = decode_reply_result(payload, result)) {
      return error;
    }
    if (!state_->outbox.awaits_result()) {
      return errc::unexpected_frame;
    }
    // A server that stops has not taken it: the next one may.
    if (result.has_error() && result.error() == fedagent::errc::stopped) {
      peer_left_ = true;
      return result.error();
    }
    state_->answered(result);
    return {};
  }

  static awaitable<void> poll_and_ping(std::shared_ptr<ClientConnection> c) {
    auto& state = *c->state_;
    const auto interval = std::chrono::duration_cast<typename Clock::duration>(c->ping_interval_);
    auto next_ping = Clock::now() + interval;
    while (!c->fault()) {
      const auto now = Clock::now();
      if (state.wants_poll(now)) {
        state.poll_open = true;
        auto polling = Base::write_frame(*c, FrameType::poll, std::string());
        co_await std::move(polling);
      } else if (now >= next_ping) {
        next_ping = now + interval;
        auto pinging = Base::write_frame(*c, FrameType::ping, std::string());
        co_await std::move(pinging);
      } else {
        const auto until = state.poll_from > now ? std::min(next_ping, state.poll_from) : next_ping;
        auto waiting = State::change(state, until);
        co_await std::move(waiting);
      }
    }
  }

  static awaitable<void> write_outbox(std::shared_ptr<ClientConnection> c) {
    auto& state = *c->state_;
    while (!c->fault()) {
      if (!state.outbox.pending()) {
        auto waiting = State::change(state);
        co_await std::move(waiting);
        continue;
      }
      const auto entry = state.outbox.begin_next();
      state.changed.wake_all();
      auto writing = write_message(*c, entry.type, *entry.message);
      const error_code error = co_await std::move(writing);
      // What the server does not take at all would come back for ever.
      if (error && !c->fault()) {
        state.tell(state.outbox.withdraw(), error);
      }
    }
  }

  void end(error_code why) noexcept override {
    this->fail(why, false);
    this->close();
  }
  void failing() noexcept override { state_->changed.wake_all(); }
  void leave() noexcept {
    if (state_->peer == this) {
      state_->peer = nullptr;
    }
  }

  std::shared_ptr<State> state_;
  Duration ping_interval_{};
  bool duplicate_ = false;
  bool peer_left_ = false;
};

}  // namespace fedagent::stream::detail
