#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/this_coro.hpp>
#include <memory>
#include <string>
#include <tuple>
#include <utility>

#include "fedagent/detail/waiter.hpp"
#include "fedagent/service.hpp"
#include "fedagent/transport/stream/chunks.hpp"
#include "fedagent/transport/stream/polled_connection.hpp"
#include "fedagent/transport/stream/server_state.hpp"

namespace fedagent::stream::detail {

/// One connection of a server: the hello, then what the node sends until it ends.
template <class Store, class Stream, class Layer>
class ServerConnection final : public PolledConnection<Store, Stream> {
  using Base = PolledConnection<Store, Stream>;

 public:
  using error_code = boost::system::error_code;
  template <class T>
  using awaitable = typename Base::template awaitable<T>;

  ServerConnection(Stream stream, Layer layer, std::shared_ptr<ServerState<Store>> state)
      : Base(std::move(stream), std::move(state)), layer_(std::move(layer)) {
    this->state().add(*this);
  }
  ~ServerConnection() override { this->state().remove(*this); }

  /// Begins the life of a connection.
  static void start(const std::shared_ptr<ServerConnection>& c) {
    if constexpr (is_socket<Stream>) {
      boost::asio::co_spawn(c->executor(), begin(c), boost::asio::detached);
    } else {
      boost::asio::co_spawn(c->executor(), serve(c), boost::asio::detached);
    }
  }

  /// The whole life of a connection. Cancelled, it closes it.
  static awaitable<void> serve(std::shared_ptr<ServerConnection> c) {
    co_await boost::asio::this_coro::throw_if_cancelled(false);
    if constexpr (is_socket<Stream>) {
      start(c);
      auto ending = until_ended(*c);
      co_await std::move(ending);
    } else {
      error_code why;
      try {
        auto greeting = greet(*c);
        why = co_await std::move(greeting);
        while (!why) {
          auto taking = take_next(c);
          why = co_await std::move(taking);
        }
      } catch (...) {
        why = errc::internal;
      }
      if (fedagent::detail::is_cancelled(co_await boost::asio::this_coro::cancellation_state)) {
        c->close();
      }
      auto ending = finish(c, why);
      co_await std::move(ending);
    }
  }

 private:
  // ---- a socket: while nothing comes there is no coroutine, and for small frames there is none

  static awaitable<void> begin(std::shared_ptr<ServerConnection> c) {
    error_code why;
    try {
      auto greeting = greet(*c);
      why = co_await std::move(greeting);
    } catch (...) {
      why = errc::internal;
    }
    auto going_on = go_on(c, why);
    co_await std::move(going_on);
  }

  static void watch(std::shared_ptr<ServerConnection> c) {
    auto next_frame = c->async_next_frame();
    std::move(next_frame)([c = std::move(c)](std::tuple<error_code> came) {
      auto why = std::get<0>(came);
      const bool some = c->read_ahead();
      if (!why && some) {
        why = c->take_whole_frames();
        if (!why && c->idle() && c->flush_at_once()) {
          return watch(c);
        }
      }
      c->keep_input();
      boost::asio::co_spawn(c->executor(), go_on(c, why), boost::asio::detached);
    });
  }

  // What takes its time: a frame of which there is a part, or nothing, which is how a stream ends.
  static awaitable<void> go_on(std::shared_ptr<ServerConnection> c, error_code why) {
    try {
      do {
        if (!why) {
          auto taking = take_next(c);
          why = co_await std::move(taking);
        }
      } while (!why && !(c->idle() && c->flush_at_once()));
    } catch (...) {
      why = errc::internal;
    }
    if (!why) {
      co_return watch(std::move(c));
    }
    auto ending = finish(c, why);
    co_await std::move(ending);
  }

  // Takes frames that have come whole, as far as that needs no waiting.
  error_code take_whole_frames() {
    error_code error;
    try {
      for (auto header = this->whole_frame(); header && !error; header = this->whole_frame()) {
        if (header->type != FrameType::poll && header->type != FrameType::ping &&
            header->type != FrameType::reply) {
          break;
        }
        this->take_header(*header, error);
        note_life(*header);
        if (header->type == FrameType::reply) {
          const bool first = !this->joiner();
          error = detail::take_chunk(*this, *header);
          error = error ? error : chunk_came(header->type, first);
        } else {
          error = signal_came(header->type);
        }
      }
    } catch (...) {
      error = errc::internal;
    }
    return error;
  }

  // ---- frames of any kind

  static awaitable<void> finish(std::shared_ptr<ServerConnection> c, error_code why) {
    try {
      auto end = Base::wind_up(*c, why, c->peer_left_);
      co_await std::move(end);
    } catch (...) {
      c->close();
    }
    c->state().report(*c, c->fault());
    c->ended_ = true;
    c->awaited_.wake_all();
  }

  static awaitable<void> until_ended(ServerConnection& c) {
    fedagent::detail::Waiter<typename Store::clock_type, typename Store::executor_type> waiter(
        c.executor());
    c.awaited_.push_back(waiter);
    while (!c.ended_) {
      co_await waiter.async_wake_up();
      waiter.woke_up(co_await boost::asio::this_coro::cancellation_state);
      if (waiter.verdict()) {
        c.close();
      }
    }
  }

  static awaitable<error_code> take_next(const std::shared_ptr<ServerConnection>& c) {
    FrameHeader header;
    error_code error;
    return c->take_header(header, error) && !error ? take_frame(c, header) : read_next(c, error);
  }
  static awaitable<error_code> read_next(const std::shared_ptr<ServerConnection>& c,
                                         error_code error) {
    FrameHeader header;
    if (!error) {
      auto reading = Base::read_header(*c, header);
      error = co_await std::move(reading);
    }
    if (!error) {
      auto taking = take_frame(c, header);
      error = co_await std::move(taking);
    }
    co_return error;
  }

  static awaitable<error_code> greet(ServerConnection& c) {
    c.expect_hello();
    error_code error = c.state().refusal;
    if (error || c.fault()) {
      co_return c.fault() ? c.fault() : error;
    }
    if constexpr (requires { c.layer_.handshake(c.stream()); }) {
      error = co_await c.layer_.handshake(c.stream());
      if (error || c.fault()) {
        co_return c.fault() ? c.fault() : error;
      }
    }
    auto meeting = meet(c);
    error = co_await std::move(meeting);
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
    c.postpone(FrameType::welcome, encode(c.state().welcome()));
    co_return error;
  }

  error_code admit(const Hello& hello) {
    if constexpr (requires { layer_.authenticate(this->stream(), hello.node_id); }) {
      if (!layer_.authenticate(this->stream(), hello.node_id)) {
        return errc::not_authenticated;
      }
    }
    return this->state().register_node(*this, hello);
  }

  // A poll and a message are signs of life by themselves, once they are whole.
  void note_life(const FrameHeader& header) {
    if (header.type != FrameType::poll && (!header.last || this->joiner())) {
      this->state().alive(*this);
    }
  }

  static awaitable<error_code> take_frame(const std::shared_ptr<ServerConnection>& c,
                                          FrameHeader header) {
    c->note_life(header);
    switch (header.type) {
      case FrameType::reply:
      case FrameType::overlay:
        return take_message(*c, header);
      case FrameType::feedback:
        return take_feedback(*c, header);
      case FrameType::error:
        return take_error(*c, header);
      default:
        return take_signal(*c, header.type);
    }
  }

  // What has no payload, and what is not expected.
  static awaitable<error_code> take_signal(ServerConnection& c, FrameType type) {
    co_return c.signal_came(type);
  }
  error_code signal_came(FrameType type) {
    if (type == FrameType::poll) {
      return this->take_poll();
    }
    if (type != FrameType::ping) {
      return errc::unexpected_frame;
    }
    this->postpone(FrameType::pong, {});
    return {};
  }

  static awaitable<error_code> take_error(ServerConnection& c, FrameHeader header) {
    std::string payload;
    auto reading = Base::read_payload(c, header, payload);
    error_code error = co_await std::move(reading);
    if (!error) {
      error = decode_error(payload);
      c.peer_left_ = true;
    }
    co_return error;
  }

  static awaitable<error_code> take_message(ServerConnection& c, FrameHeader header) {
    const bool first = !c.joiner();
    auto reading = read_chunk(c, header);
    error_code error = co_await std::move(reading);
    if (!error) {
      error = c.chunk_came(header.type, first);
    }
    if (error || header.type == FrameType::reply || !c.joiner()->whole()) {
      co_return error;
    }
    // A forwarder of the user may take its time.
    c.keep_input();
    if (c.postponed()) {
      auto flushing = Base::flush(c);
      error = co_await std::move(flushing);
      if (error) {
        co_return error;
      }
    }
    Message message = c.whole_message();
    ReplyResult taken = make_error_code(fedagent::errc::stopped);
    if (c.state().store != nullptr) {
      // It may throw; its peer learns no more than that.
      try {
        auto receipt = c.receipt_for(message);
        auto serving = serve_reply(*c.state().store, std::string(c.node_id()), std::move(message),
                                   std::move(receipt));
        taken = co_await std::move(serving);
      } catch (...) {
        taken = make_error_code(fedagent::errc::handler_failed);
      }
    }
    c.postpone(FrameType::reply_result, encode(taken));
    co_return error;
  }

  // A reply that is whole is taken; an overlay message waits for the forwarder.
  error_code chunk_came(FrameType type, bool first) {
    if (const auto error = first ? check_ids(type) : error_code()) {
      return error;
    }
    if (type == FrameType::reply && this->joiner()->whole()) {
      Message message = whole_message();
      ReplyResult taken = make_error_code(fedagent::errc::stopped);
      try {
        if (this->state().store != nullptr) {
          taken = try_serve_reply(*this->state().store, this->node_id(), std::move(message));
        }
      } catch (...) {
        taken = make_error_code(fedagent::errc::handler_failed);
      }
      this->postpone(FrameType::reply_result, encode(taken));
    }
    return {};
  }
  Message whole_message() {
    Message message = this->joiner()->take();
    this->joiner().reset();
    message.source = this->node_id();
    return message;
  }

  // The receipt goes to where the source is then: it may have come back in another connection.
  Receipt receipt_for(const Message& message) {
    if (message.destination.empty() || message.request_id.empty()) {
      return {};
    }
    return [state = this->weak_state(), node_id = std::string(this->node_id()),
            request_id = message.request_id](boost::system::result<void> came) {
      if (const auto server = state.lock()) {
        server->send_receipt(node_id, {request_id, came});
      }
    };
  }

  error_code check_ids(FrameType type) {
    const auto& message = this->joiner()->message();
    if (!message.source.empty() && message.source != this->node_id()) {
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

  static awaitable<error_code> take_feedback(ServerConnection& c, FrameHeader header) {
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
    if (c.state().store != nullptr) {
      serve_feedback(*c.state().store, c.node_id(), *feedback);
    }
    co_return error;
  }

  bool is_end(error_code error) const noexcept override {
    if constexpr (requires { layer_.is_end(error); }) {
      return Base::is_end(error) || layer_.is_end(error);
    } else {
      return Base::is_end(error);
    }
  }

  [[no_unique_address]] Layer layer_;
  /// Whoever awaits the end.
  fedagent::detail::WaitList<typename Store::clock_type> awaited_;
  bool peer_left_ = false;
  bool ended_ = false;
};

}  // namespace fedagent::stream::detail
