#pragma once

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/status.h>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/error.hpp>
#include <boost/system/result.hpp>
#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include "fedagent/detail/waiter.hpp"
#include "fedagent/transport/grpc/reactor.hpp"

namespace fedagent::grpc {

namespace detail {

/// Whoever serves a call, as the call sees it. On the executor.
template <class Executor>
class CallOwner {
 public:
  /// The call has news.
  virtual void look() noexcept = 0;

  const Executor executor;
  /// That of its coroutine, while it waits.
  fedagent::detail::Waiter<std::chrono::steady_clock, Executor>* waiter = nullptr;

 protected:
  explicit CallOwner(const Executor& the_executor) : executor(the_executor) {}
  CallOwner(const CallOwner&) = delete;
  CallOwner& operator=(const CallOwner&) = delete;
  ~CallOwner() = default;
};

}  // namespace detail

/// One call of a client. Who serves it reads, writes, and ends it with a status.
/**
 * @par Lifetimes
 * It lives until gRPC is done with it and nobody holds it. When its coroutine ends, or is
 * destroyed, or `serve` has returned none, the call ends, unless it is at rest.
 * @par Cancellation
 * When the client is gone, the coroutine is cancelled (terminal), and all else reports
 * `connection_reset`.
 * @par Thread safety
 * Unsafe: on the executor.
 */
template <class Executor>
class Call final : public detail::Reactor {
  using Waiter = fedagent::detail::Waiter<std::chrono::steady_clock, Executor>;

 public:
  template <class T>
  using awaitable = boost::asio::awaitable<T, Executor>;
  template <class T>
  using result = boost::system::result<T>;

  /// Who begins to serve a call; null: nobody any more. Looked at on the executor only.
  struct Host {
    void* self = nullptr;
    void (*begin)(void* self, const std::shared_ptr<Call>& call) = nullptr;
  };

  /// For the server.
  Call(::grpc::GenericCallbackServerContext& context, int route,
       std::shared_ptr<detail::AnyMailbox> box, std::shared_ptr<const Host> host)
      : Reactor(context, std::move(box)), route_(route), host_(std::move(host)) {}
  static ::grpc::ServerGenericBidiReactor* start(std::shared_ptr<Call> call) {
    return Reactor::start(std::move(call));
  }

  /// What the service made of the name of the method.
  int route() const noexcept { return route_; }
  /// Who the client is by its certificate. Nobody once the call has ended.
  using Reactor::identity;
  /// Where the client is connected from, as gRPC words it. Empty once the call has ended.
  using Reactor::peer;
  /// Whether the client is gone.
  using Reactor::cancelled;

  /// Takes the next message of the client, if it is there; else `message` is empty.
  /** @par Errors As `read`; `would_block`: not yet, and only a coroutine can wait for it. */
  using Reactor::try_read;
  /// Writes a message, if gRPC has taken the one before. It is empty then, and untouched if not.
  /** @par Errors As `write`; `would_block`: gRPC has not yet. */
  using Reactor::try_write;

  /// Waits for the next message of the client.
  /**
   * @pre As for all that waits: the coroutine that `serve` has returned calls it.
   * @par Errors
   * `eof`: the client sends no more. `connection_reset`: it is gone, or the call has ended.
   */
  static awaitable<result<::grpc::ByteBuffer>> read(std::shared_ptr<Call> call) {
    ::grpc::ByteBuffer message;
    auto error = call->try_read(message);
    if (error == boost::asio::error::would_block) {
      Waiting waiting(*call);
      do {
        co_await waiting.waiter.wait();
        error = waiting.waiter.verdict() ? waiting.waiter.verdict() : call->try_read(message);
      } while (error == boost::asio::error::would_block);
    }
    if (error) {
      co_return error;
    }
    co_return std::move(message);
  }

  /// Writes a message, once gRPC has taken the one before.
  /**
   * When this returns, the message is on its way: to wait for more would wake a thread for each
   * message. A client that is gone by then cancels the coroutine.
   *
   * @par Errors `connection_reset`: the client is gone, or the call has ended.
   */
  static awaitable<result<void>> write(std::shared_ptr<Call> call, ::grpc::ByteBuffer message) {
    auto error = call->try_write(message);
    if (error == boost::asio::error::would_block) {
      auto flushing = flush(call);
      if (const auto flushed = co_await std::move(flushing); !flushed) {
        co_return flushed.error();
      }
      error = call->try_write(message);
    }
    if (error) {
      co_return error;
    }
    co_return result<void>();
  }

  /// Waits until gRPC has taken all that was written: the client had room for it.
  /** @par Errors `connection_reset`. */
  static awaitable<result<void>> flush(std::shared_ptr<Call> call) {
    auto error = call->written();
    if (error == boost::asio::error::would_block) {
      Waiting waiting(*call);
      do {
        co_await waiting.waiter.wait();
        error = waiting.waiter.verdict() ? waiting.waiter.verdict() : call->written();
      } while (error == boost::asio::error::would_block);
    }
    if (error) {
      co_return error;
    }
    co_return result<void>();
  }
  /// Whether gRPC has not taken all yet.
  using Reactor::writing;

  /// Ends the call, after what is being written; only the first end counts.
  using Reactor::finish;
  /// Ends the call with OK, after this last message. @pre Nothing is being written.
  using Reactor::finish_with;

  /// Gives the call back, when all that has come is read: if no more comes it ends with OK and this
  /// message, without the executor; if more comes it is served anew.
  /**
   * Who serves it must then end, and not touch the call.
   *
   * @pre Nothing is being written.
   * @return False: more has come already; go on reading.
   */
  bool rest(const ::grpc::ByteBuffer& answer) noexcept {
    const auto how = Reactor::rest(answer);
    if (how == Rest::rests) {
      owner_ = nullptr;
      given_back_ = true;
    }
    return how != Rest::no;
  }

  /// For the server: who serves it. A call at rest is nobody's.
  void owner(detail::CallOwner<Executor>* by) noexcept { owner_ = by; }
  const detail::CallOwner<Executor>* owner() const noexcept { return owner_; }
  /// For the server: whether `rest` has given it back since it was served last; it may have news
  /// again.
  bool given_back() const noexcept { return given_back_; }

 private:
  // Registers the waiter of the one coroutine that serves the call.
  struct Waiting {
    explicit Waiting(Call& of) : call(&of), waiter(of.owner_->executor) {
      call->owner_->waiter = &waiter;
    }
    Waiting(const Waiting&) = delete;
    Waiting& operator=(const Waiting&) = delete;
    ~Waiting() {
      if (call->owner_ != nullptr) {
        call->owner_->waiter = nullptr;
      }
    }

    Call* call;
    Waiter waiter;
  };

  void arrive() noexcept override {
    if (owner_ != nullptr) {
      owner_->look();
    } else if (host_->begin == nullptr) {
      this->come_back();
    } else if (this->cancelled()) {
      // The mail that tells of the call may tell of its end too: no other one comes.
      this->finish(::grpc::Status::CANCELLED);
    } else if (this->due()) {  // a mail may be late: the call has ended, or is at rest again
      given_back_ = false;
      host_->begin(host_->self, std::static_pointer_cast<Call>(this->shared_from_this()));
    }
  }

  int route_;
  std::shared_ptr<const Host> host_;
  detail::CallOwner<Executor>* owner_ = nullptr;
  bool given_back_ = false;
};

}  // namespace fedagent::grpc
