#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/system/result.hpp>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "fedagent/service.hpp"
#include "fedagent/transport/stream/chunks.hpp"
#include "fedagent/transport/stream/connection.hpp"
#include "fedagent/transport/stream/server_state.hpp"

namespace fedagent::stream::detail {

/// One connection of a server: the hello, then polls, replies, feedback and pings until it ends.
template <class Store, class Stream, class Layer>
class ServerConnection final
    : public Connection<Stream, typename Store::executor_type, typename Store::clock_type>,
      public ServerPeer {
  using Base = Connection<Stream, typename Store::executor_type, typename Store::clock_type>;
  using State = ServerState<Store>;
  using Transport = typename Store::transport_type;

 public:
  using error_code = boost::system::error_code;
  template <class T>
  using awaitable = typename Base::template awaitable<T>;
  template <class T>
  using result = boost::system::result<T>;

  ServerConnection(Stream stream, Layer layer, std::shared_ptr<State> state)
      : Base(std::move(stream), state), state_(std::move(state)), layer_(std::move(layer)) {
    state_->add(*this);
  }
  ~ServerConnection() override { state_->remove(*this); }

  void end(error_code why) noexcept override { this->fail(why); }
  void message_ends() noexcept override { answered_ = true; }

  /// The whole life of a connection.
  static awaitable<void> serve(std::shared_ptr<ServerConnection> c) {
    co_await boost::asio::this_coro::throw_if_cancelled(false);
    error_code why = errc::internal;
    try {
      auto life = converse(c);
      why = co_await std::move(life);
    } catch (...) {
    }
    const auto cancelled = co_await boost::asio::this_coro::cancellation_state;
    if (cancelled.cancelled() != boost::asio::cancellation_type::none) {
      c->close();
    }
    try {
      auto end = Base::wind_up(*c, why, c->peer_left_);
      co_await std::move(end);
    } catch (...) {
      c->close();
    }
    c->state_->report(*c, c->fault());
  }

 private:
  // ---- the conversation

  static awaitable<error_code> converse(std::shared_ptr<ServerConnection> c) {
    c->expect_hello();
    error_code error = c->state_->refusal;
    if (error || c->fault()) {
      co_return c->fault() ? c->fault() : error;
    }
    if constexpr (requires { c->layer_.handshake(c->stream()); }) {
      error = co_await c->layer_.handshake(c->stream());
      if (error || c->fault()) {
        co_return c->fault() ? c->fault() : error;
      }
    }
    auto meeting = meet(*c);
    error = co_await std::move(meeting);
    while (!error) {
      FrameHeader header;
      auto reading = Base::read_header(*c, header);
      error = co_await std::move(reading);
      if (!error) {
        c->state_->alive(*c);
        auto taking = take_frame(c, header);
        error = co_await std::move(taking);
      }
    }
    co_return error;
  }

  static awaitable<error_code> meet(ServerConnection& c) {
    FrameHeader header;
    auto reading_header = Base::read_header(c, header);
    error_code error = co_await std::move(reading_header);
    if (!error && header.type != FrameType::hello) {
      error = errc::unexpected_frame;
    }
    if (error) {
      co_return error;
    }
    std::string payload;
    auto reading = Base::read_payload(c, header, payload);
    error = co_await std::move(reading);
    if (error) {
      co_return error;
    }
    auto hello = decode_hello(payload);
    if (!hello) {
      co_return hello.error();
    }
    error = c.admit(*hello);
    if (error) {
      co_return error;
    }
    c.peer_limits(hello->limits);
    auto writing = Base::write_frame(c, FrameType::welcome, encode(c.state_->welcome()));
    error = co_await std::move(writing);
    co_return error;
  }

  error_code admit(const Hello& hello) {
    if constexpr (requires { layer_.authenticate(this->stream(), hello.node_id); }) {
      if (!layer_.authenticate(this->stream(), hello.node_id)) {
        return errc::not_authenticated;
      }
    }
    return state_->register_node(*this, hello);
  }

  static awaitable<error_code> take_frame(const std::shared_ptr<ServerConnection>& c,
                                          const FrameHeader& header) {
    error_code error;
    switch (header.type) {
      case FrameType::poll:
        error = c->open_poll(c);
        break;
      case FrameType::ping: {
        auto writing = Base::write_frame(*c, FrameType::pong, std::string());
        error = co_await std::move(writing);
        break;
      }
      case FrameType::reply:
      case FrameType::overlay: {
        auto taking = take_chunk(*c, header);
        error = co_await std::move(taking);
        break;
      }
      case FrameType::feedback: {
        auto taking = take_feedback(*c, header);
        error = co_await std::move(taking);
        break;
      }
      case FrameType::error: {
        std::string payload;
        auto reading = Base::read_payload(*c, header, payload);
        error = co_await std::move(reading);
        if (!error) {
          error = decode_error(payload);
          c->peer_left_ = true;
        }
        break;
      }
      default:
        error = errc::unexpected_frame;
    }
    co_return error;
  }

  static awaitable<error_code> take_chunk(ServerConnection& c, const FrameHeader& header) {
    const bool first = !c.joiner();
    auto reading = read_chunk(c, header);
    error_code error = co_await std::move(reading);
    if (!error && first) {
      error = c.check_ids(header.type);
    }
    if (error || !c.joiner()->whole()) {
      co_return error;
    }
    Message message = c.joiner()->take();
    c.joiner().reset();
    message.source = c.node_id;
    ReplyResult taken = make_error_code(fedagent::errc::stopped);
    if (c.state_->store != nullptr) {
      auto serving = take_message(*c.state_->store, c.node_id, std::move(message));
      taken = co_await std::move(serving);
    }
    auto writing = Base::write_frame(c, FrameType::reply_result, encode(taken));
    error = co_await std::move(writing);
    co_return error;
  }

  // A forwarder of the user may throw; its peer learns no more than that.
  static awaitable<ReplyResult> take_message(Store& store, std::string node_id, Message message) {
    ReplyResult taken = make_error_code(fedagent::errc::handler_failed);
    try {
      auto serving = serve_reply(store, std::move(node_id), std::move(message));
      taken = co_await std::move(serving);
    } catch (...) {
    }
    co_return taken;
  }

  error_code check_ids(FrameType type) {
    const auto& message = this->joiner()->message();
    if (!message.source.empty() && message.source != node_id) {
      return errc::foreign_source;
    }
    if (type == FrameType::overlay && message.destination.empty()) {
      return errc::destination_missing;
    }
    if (type == FrameType::reply && !message.destination.empty()) {
      return errc::destination_unexpected;
    }
    return {};
  }

  static awaitable<error_code> take_feedback(ServerConnection& c, const FrameHeader& header) {
    std::string payload;
    auto reading = Base::read_payload(c, header, payload);
    error_code error = co_await std::move(reading);
    if (error) {
      co_return error;
    }
    const auto feedback = decode_feedback(payload);
    if (!feedback) {
      co_return feedback.error();
    }
    if (c.state_->store != nullptr) {
      serve_feedback(*c.state_->store, c.node_id, *feedback);
    }
    co_return error;
  }

  // ---- polls

  /// The server's side of a poll, for `serve_task_call`.
  struct Call {
    std::shared_ptr<ServerConnection> c;

    std::string_view node_id() const noexcept { return c->node_id; }
    SessionId session() const noexcept { return c->session; }
    awaitable<result<void>> deliver(MessagePtr<typename Store::message_type> message) {
      return deliver_task(c, std::move(message));
    }
  };

  static awaitable<result<void>> deliver_task(std::shared_ptr<ServerConnection> c,
                                              MessagePtr<typename Store::message_type> message) {
    c->parked_ = false;
    error_code error;
    if constexpr (std::is_same_v<typename Store::message_type, Message>) {
      auto writing = write_message(*c, FrameType::task, *message);
      error = co_await std::move(writing);
    } else {
      const result<Message> encoded = Transport::encode(*message);
      if (!encoded) {
        co_return fedagent::make_error_code(fedagent::errc::not_encodable);
      }
      auto writing = write_message(*c, FrameType::task, *encoded);
      error = co_await std::move(writing);
    }
    if (error == errc::message_too_large || error == errc::id_too_long) {
      co_return fedagent::make_error_code(fedagent::errc::not_encodable);
    }
    if (error) {
      co_return error;
    }
    co_return result<void>();
  }

  // The node may poll again as soon as it has the end of an answer, which can be before this end
  // has seen that end written.
  error_code open_poll(const std::shared_ptr<ServerConnection>& c) {
    if (!polling_) {
      polling_ = true;
      answered_ = false;
      parked_ = true;
      boost::asio::co_spawn(
          this->executor(), serve_polls(c),
          boost::asio::bind_cancellation_slot(poll_cancelled_.slot(), boost::asio::detached));
      return {};
    }
    if (!answered_ || polled_again_) {
      return errc::poll_already_open;
    }
    polled_again_ = true;
    return {};
  }

  static awaitable<void> serve_polls(std::shared_ptr<ServerConnection> c) {
    try {
      while (!c->fault() && c->state_->store != nullptr) {
        Call call{c};
        auto serving = serve_task_call(*c->state_->store, call);
        const auto served = co_await std::move(serving);
        c->parked_ = false;
        if (!served && !c->fault()) {
          c->answered_ = true;
          auto telling = Base::write_frame(*c, FrameType::poll_end, encode_error(served.error()));
          co_await std::move(telling);
        }
        if (!c->polled_again_) {
          break;
        }
        c->polled_again_ = false;
        c->answered_ = false;
        c->parked_ = true;
      }
    } catch (...) {
      // The wait for a task was cancelled: the connection has failed.
    }
    c->parked_ = false;
    c->polling_ = false;
  }

  bool is_end(error_code error) const noexcept override {
    if constexpr (requires { layer_.is_end(error); }) {
      return Base::is_end(error) || layer_.is_end(error);
    } else {
      return Base::is_end(error);
    }
  }

  void failing() noexcept override {
    if (parked_) {
      poll_cancelled_.emit(boost::asio::cancellation_type::terminal);
    }
  }

  std::shared_ptr<State> state_;
  [[no_unique_address]] Layer layer_;
  boost::asio::cancellation_signal poll_cancelled_;
  bool polling_ = false;
  /// The wait for a task has not ended yet.
  bool parked_ = false;
  /// The answer to the open poll is written, or about to be.
  bool answered_ = false;
  bool polled_again_ = false;
  bool peer_left_ = false;
};

}  // namespace fedagent::stream::detail
