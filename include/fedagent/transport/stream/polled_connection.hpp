#pragma once

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/post.hpp>
#include <boost/system/result.hpp>
#include <memory>
#include <type_traits>
#include <utility>

#include "fedagent/parked_poll.hpp"
#include "fedagent/transport/stream/chunks.hpp"
#include "fedagent/transport/stream/connection.hpp"
#include "fedagent/transport/stream/server_state.hpp"

namespace fedagent::stream::detail {

/// A connection whose peer polls: waits for its tasks and writes them.
/**
 * It waits without a coroutine, and a task that the socket takes at once is written without one. A
 * connection that fails ends the wait for a task; a task that is being written ends with the
 * stream.
 *
 * @par Thread safety
 * Unsafe: on one executor.
 */
template <class Store, class Stream>
class PolledConnection
    : public Connection<Stream, typename Store::executor_type, typename Store::clock_type>,
      public ServerPeer<typename Store::agent_type> {
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
      : Base(std::move(stream), std::move(state)), poll_(*this) {}

  void end(error_code why) noexcept override { this->fail(why); }
  void send_receipt(RelayReceipt receipt) noexcept override {
    if (this->weak_from_this().expired()) {
      return;
    }
    try {
      boost::asio::co_spawn(this->executor(), write_receipt(self(), encode(receipt)),
                            boost::asio::detached);
    } catch (...) {
      this->close();
    }
  }
  void message_ends() noexcept override { phase_ = Phase::answered; }

 protected:
  State& state() const noexcept { return static_cast<State&>(*this->context()); }
  std::weak_ptr<State> weak_state() const noexcept {
    return std::static_pointer_cast<State>(this->context());
  }

  /// The node polls. @return `poll_already_open`: it has no answer to its former poll yet.
  /**
   * It may poll again as soon as it has the end of an answer, which can be before this end has seen
   * that end written.
   */
  error_code take_poll() {
    if (phase_ == Phase::none) {
      open_poll();
      return {};
    }
    if (phase_ != Phase::answered || polled_again_) {
      return errc::poll_already_open;
    }
    polled_again_ = true;
    return {};
  }

  void failing() noexcept override {
    if (phase_ == Phase::parked) {
      phase_ = Phase::none;
      poll_.close();
    }
  }

 private:
  using Task = typename Store::agent_type::task_type;
  using Self = std::shared_ptr<PolledConnection>;

  enum class Phase {
    /// No poll is open.
    none,
    /// It waits for a task.
    parked,
    /// Its task is being written.
    delivering,
    /// The end of its answer is written, or about to be: the node may poll again.
    answered,
  };

  struct Poll final : ParkedPoll<Transport, typename Store::message_type,
                                 typename Store::agent_type::observer_type> {
    explicit Poll(PolledConnection& connection) noexcept : c(connection) {}
    void on_ready() noexcept override {
      boost::asio::post(c.executor(), [self = c.self()] {
        if (self->phase_ == Phase::parked) {
          self->look();
        }
      });
    }

    PolledConnection& c;
  };

  Self self() { return std::static_pointer_cast<PolledConnection>(this->shared_from_this()); }

  void open_poll() {
    phase_ = Phase::parked;
    if (state().store == nullptr) {
      return answer_end(make_error_code(fedagent::errc::stopped));
    }
    const auto there = state().store->retrieve(this->node_id());
    if (this->fault()) {
      return;  // the user's admission has ended the connection
    }
    if (!there) {
      return answer_end(there.error());
    }
    this->agent = *there;  // another one, when the node's was removed
    const auto error = poll_.open(*there, this->session);
    error ? answer_end(error) : look();
  }

  // There may be a task, or the poll must end.
  void look() {
    try {
      auto got = poll_.try_get_task();
      if (got && *got) {
        deliver(*std::move(*got));
      } else if (got) {
        answer_end(got->error());
      }
    } catch (...) {
      this->fail(make_error_code(errc::internal));
    }
  }

  // What the socket does not take at once is written by a coroutine.
  void deliver(Task task) {
    phase_ = Phase::delivering;
    const auto message = task.message();
    auto written = Base::AtOnce::nothing;
    if constexpr (std::is_same_v<typename Store::message_type, Message>) {
      written = write_message_now(*this, FrameType::task, *message);
    }
    if (written == Base::AtOnce::all) {
      task.delivered();
      task = {};
      poll_over();
    } else {
      const bool begun = written == Base::AtOnce::part;
      boost::asio::co_spawn(this->executor(), deliver(self(), std::move(task), begun),
                            boost::asio::detached);
    }
  }

  static awaitable<void> deliver(Self c, Task task, bool begun) {
    try {
      error_code error;
      if (begun) {
        auto flushing = Base::flush(*c);
        error = co_await std::move(flushing);
      } else {
        auto writing = write_task(*c, *task.message());
        error = co_await std::move(writing);
      }
      if (!error) {
        task.delivered();
      } else if (error == fedagent::errc::not_encodable) {
        task.not_encodable();
      }
      task = {};
      error ? c->answer_end(error) : c->poll_over();
    } catch (...) {
      task = {};
      c->fail(make_error_code(errc::internal));
      c->poll_over();
    }
  }

  static awaitable<error_code> write_task(PolledConnection& c,
                                          const typename Store::message_type& message) {
    error_code error;
    if constexpr (std::is_same_v<typename Store::message_type, Message>) {
      auto writing = write_message(c, FrameType::task, message);
      error = co_await std::move(writing);
    } else {
      const result<Message> encoded = Transport::encode(message);
      if (!encoded) {
        co_return fedagent::make_error_code(fedagent::errc::not_encodable);
      }
      auto writing = write_message(c, FrameType::task, *encoded);
      error = co_await std::move(writing);
    }
    if (error == errc::message_too_large || error == errc::id_too_long) {
      error = fedagent::make_error_code(fedagent::errc::not_encodable);
    }
    co_return error;
  }

  // The poll ends without a task.
  void answer_end(error_code why) {
    if (!this->fault()) {
      this->postpone(FrameType::poll_end, encode_error(why));
      phase_ = Phase::answered;
      if (!this->flush_at_once()) {
        boost::asio::co_spawn(this->executor(), flush_rest(self()), boost::asio::detached);
      }
    }
    poll_over();
  }

  void poll_over() {
    poll_.close();
    phase_ = Phase::none;
    if (std::exchange(polled_again_, false) && !this->fault()) {
      open_poll();
    }
  }

  static awaitable<void> flush_rest(std::shared_ptr<Base> c) {
    auto flushing = Base::flush(*c);
    co_await std::move(flushing);
  }

  static awaitable<void> write_receipt(std::shared_ptr<Base> c, std::string payload) {
    auto writing = Base::write_frame(*c, FrameType::receipt, std::move(payload));
    co_await std::move(writing);
  }

  Poll poll_;
  Phase phase_ = Phase::none;
  bool polled_again_ = false;
};

}  // namespace fedagent::stream::detail
