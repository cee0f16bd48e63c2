#pragma once

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/system/result.hpp>
#include <memory>
#include <string_view>
#include <type_traits>
#include <utility>

#include "fedagent/service.hpp"
#include "fedagent/transport/stream/chunks.hpp"
#include "fedagent/transport/stream/connection.hpp"
#include "fedagent/transport/stream/server_state.hpp"

namespace fedagent::stream::detail {

/// A connection whose peer polls: waits for its tasks and writes them.
/**
 * One coroutine serves a poll, and those that follow it without a pause. It holds the connection by
 * `shared_ptr`. A connection that fails cancels the wait for a task; a task that is being written
 * ends with the stream.
 *
 * @par Thread safety
 * Unsafe: on one executor.
 */
template <class Store, class Stream>
class PolledConnection
    : public Connection<Stream, typename Store::executor_type, typename Store::clock_type>,
      public ServerPeer {
  using Base = Connection<Stream, typename Store::executor_type, typename Store::clock_type>;
  using Transport = typename Store::transport_type;

 public:
  using State = ServerState<Store>;
  using error_code = boost::system::error_code;
  template <class T>
  using awaitable = typename Base::template awaitable<T>;
  template <class T>
  using result = boost::system::result<T>;

  PolledConnection(Stream stream, std::shared_ptr<State> state)
      : Base(std::move(stream), state), state_(std::move(state)) {}

  void end(error_code why) noexcept override { this->fail(why); }
  void send_receipt(RelayReceipt receipt) noexcept override {
    const auto self = this->weak_from_this().lock();
    if (!self) {
      return;
    }
    try {
      boost::asio::co_spawn(this->executor(), write_receipt(self, encode(receipt)),
                            boost::asio::detached);
    } catch (...) {
      this->close();
    }
  }
  void message_ends() noexcept override { answered_ = true; }

 protected:
  State& state() noexcept { return *state_; }
  std::weak_ptr<State> weak_state() const noexcept { return state_; }

  /// The node polls. @return `poll_already_open`: it has no answer to its former poll yet.
  /**
   * It may poll again as soon as it has the end of an answer, which can be before this end has seen
   * that end written.
   */
  static error_code open_poll(const std::shared_ptr<PolledConnection>& c) {
    if (!c->polling_) {
      c->polling_ = true;
      c->answered_ = false;
      c->parked_ = true;
      boost::asio::co_spawn(
          c->executor(), serve_polls(c),
          boost::asio::bind_cancellation_slot(c->poll_cancelled_.slot(), boost::asio::detached));
      return {};
    }
    if (!c->answered_ || c->polled_again_) {
      return errc::poll_already_open;
    }
    c->polled_again_ = true;
    return {};
  }

  void failing() noexcept override {
    if (parked_) {
      poll_cancelled_.emit(boost::asio::cancellation_type::terminal);
    }
  }

 private:
  /// The server's side of a poll, for `serve_task_call`.
  struct Call {
    std::shared_ptr<PolledConnection> c;

    std::string_view node_id() const noexcept { return c->node_id; }
    SessionId session() const noexcept { return c->session; }
    awaitable<result<void>> deliver(MessagePtr<typename Store::message_type> message) {
      return deliver_task(c, std::move(message));
    }
  };

  static awaitable<result<void>> deliver_task(std::shared_ptr<PolledConnection> c,
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

  static awaitable<void> write_receipt(std::shared_ptr<Base> c, std::string payload) {
    auto writing = Base::write_frame(*c, FrameType::receipt, std::move(payload));
    co_await std::move(writing);
  }

  static awaitable<void> serve_polls(std::shared_ptr<PolledConnection> c) {
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

  std::shared_ptr<State> state_;
  boost::asio::cancellation_signal poll_cancelled_;
  bool polling_ = false;
  /// The wait for a task has not ended yet.
  bool parked_ = false;
  /// The answer to the open poll is written, or about to be.
  bool answered_ = false;
  bool polled_again_ = false;
};

}  // namespace fedagent::stream::detail
