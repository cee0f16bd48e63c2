#pragma once

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>
#include <grpcpp/support/status.h>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/error.hpp>
#include <boost/circular_buffer.hpp>
#include <boost/system/result.hpp>
#include <chrono>
#include <cstddef>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "fedagent/detail/waiter.hpp"
#include "fedagent/transport/grpc/bytes.hpp"
#include "fedagent/transport/grpc/identity.hpp"
#include "fedagent/transport/grpc/mailbox.hpp"

namespace fedagent::grpc {

template <class Executor>
class Call;

namespace detail {

/// Whoever serves a call, as the call sees it. On the executor.
template <class Executor>
class CallOwner {
 public:
  /// The call has news.
  virtual void look() noexcept = 0;
  /// Cancels the coroutine.
  virtual void cancel() noexcept = 0;

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

/// One call of a client. The coroutine that serves it reads, writes, and ends it with a status.
/**
 * It is gRPC's reactor too: gRPC's threads note what has happened, and send a mail to the executor.
 * They read ahead, so that a message and the end of the stream after it make one mail.
 *
 * @par Lifetimes
 * It lives until gRPC is done with it and nobody holds it. When its coroutine ends, or is
 * destroyed, the call ends with it.
 * @par Cancellation
 * When the client is gone, the coroutine is cancelled (terminal).
 * @par Thread safety
 * Unsafe: on the executor. `finish` is safe to call from any thread.
 */
template <class Executor>
class Call final : public ::grpc::ServerGenericBidiReactor,
                   public detail::Mail,
                   public std::enable_shared_from_this<Call<Executor>> {
  using Box = detail::Mailbox<Executor>;
  using Waiter = fedagent::detail::Waiter<std::chrono::steady_clock, Executor>;
  using error_code = boost::system::error_code;

 public:
  template <class T>
  using awaitable = boost::asio::awaitable<T, Executor>;
  template <class T>
  using result = boost::system::result<T>;
  /// Begins to serve a call, on the executor; null: nothing is served any more.
  using Begin = void (*)(void* host, std::shared_ptr<Call> call);
  struct Host {
    void* self = nullptr;
    Begin begin = nullptr;
  };

  /// @param host Looked at on the executor only.
  Call(::grpc::GenericCallbackServerContext& context, int route, std::shared_ptr<Box> box,
       std::shared_ptr<const Host> host)
      : context_(&context), route_(route), box_(std::move(box)), host_(std::move(host)) {}

  /// For gRPC, which has it until `OnDone`.
  static ::grpc::ServerGenericBidiReactor* start(std::shared_ptr<Call> call) {
    Call& self = *call;
    self.self_ = std::move(call);
    self.reading_ = true;
    self.StartRead(&self.incoming_);
    return &self;
  }

  /// What the service made of the name of the method.
  int route() const noexcept { return route_; }

  /// Who the client is by its certificate, read from the connection. Nobody once the call has
  /// ended.
  Identity identity() const {
    const std::lock_guard lock(mutex_);
    return finish_ == Ending::none ? detail::identity_of(*context_->auth_context()) : Identity();
  }

  /// Where the client is connected from, as gRPC words it. Empty once the call has ended.
  std::string peer() const {
    const std::lock_guard lock(mutex_);
    return finish_ == Ending::none ? context_->peer() : std::string();
  }

  /// Waits for the next message of the client.
  /**
   * @par Errors
   * `eof`: the client sends no more. `connection_reset`: it is gone, or the call has ended.
   */
  static awaitable<result<::grpc::ByteBuffer>> read(std::shared_ptr<Call> call) {
    ::grpc::ByteBuffer message;
    error_code error = call->take(message);
    if (error == boost::asio::error::would_block) {
      Waiting waiting(*call);
      do {
        co_await waiting.waiter.wait();
        error = waiting.waiter.verdict() ? waiting.waiter.verdict() : call->take(message);
      } while (error == boost::asio::error::would_block);
    }
    if (error) {
      co_return error;
    }
    co_return std::move(message);
  }

  /// Writes a message and waits until gRPC has taken it: until there is room for the next one.
  /** @par Errors `connection_reset`: the client is gone, or the call has ended. */
  static awaitable<result<void>> write(std::shared_ptr<Call> call, ::grpc::ByteBuffer message) {
    error_code error = call->begin_write(message);
    if (!error) {
      Waiting waiting(*call);
      for (error = call->written(); error == boost::asio::error::would_block;) {
        co_await waiting.waiter.wait();
        error = waiting.waiter.verdict() ? waiting.waiter.verdict() : call->written();
      }
    }
    if (error) {
      co_return error;
    }
    co_return result<void>();
  }

  /// Ends the call; only the first end counts. What is being written is given up.
  void finish(const ::grpc::Status& status) noexcept {
    if (may_finish(status)) {
      this->Finish(status);
    }
  }
  /// Ends the call with OK, after this last message.
  void finish_with(const ::grpc::ByteBuffer& message) noexcept {
    if (may_finish(::grpc::Status::OK)) {
      outgoing_ = message;
      this->StartWriteAndFinish(&outgoing_, ::grpc::WriteOptions(), ::grpc::Status::OK);
    }
  }

  /// Whether the client is gone.
  bool cancelled() const noexcept {
    const std::lock_guard lock(mutex_);
    return cancelled_;
  }

  /// Cancels the coroutine that serves the call, as if the client were gone; the call stays open.
  void cancel_wait() noexcept {
    if (owner_ != nullptr) {
      owner_->cancel();
    }
  }

  /// For the server.
  void owner(detail::CallOwner<Executor>* by) noexcept { owner_ = by; }

  // ---- gRPC's threads

  void OnReadDone(bool ok) override {
    bool more = false;
    {
      const std::lock_guard lock(mutex_);
      if (ok) {
        inbox_bytes_ += incoming_.Length();
        inbox_.push_back(std::move(incoming_));
        incoming_ = ::grpc::ByteBuffer();
        more = has_room();
      }
      reading_ = more;
      ended_ = !ok;
    }
    if (more) {
      this->StartRead(&incoming_);
    }
    tell();
  }
  void OnWriteDone(bool ok) override {
    bool last = false;
    {
      const std::lock_guard lock(mutex_);
      outgoing_.Clear();
      writing_ = false;
      written_ = ok;
      last = finish_ == Ending::deferred;
    }
    if (last) {
      this->Finish(status_);
    } else {
      tell();
    }
  }
  void OnCancel() override {
    {
      const std::lock_guard lock(mutex_);
      cancelled_ = true;
    }
    tell();
  }
  void OnDone() override { const auto last = std::move(self_); }

 private:
  enum class Ending { none, deferred, started };

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

  // On the executor.
  error_code take(::grpc::ByteBuffer& message) {
    bool more = false;
    {
      const std::lock_guard lock(mutex_);
      if (cancelled_ || finish_ != Ending::none || owner_ == nullptr) {
        return boost::asio::error::connection_reset;
      }
      if (inbox_.empty()) {
        return ended_ ? make_error_code(boost::asio::error::eof)
                      : make_error_code(boost::asio::error::would_block);
      }
      message = std::move(inbox_.front());
      inbox_.pop_front();
      inbox_bytes_ -= message.Length();
      more = !reading_ && !ended_ && has_room();
      reading_ = reading_ || more;
    }
    if (more) {
      this->StartRead(&incoming_);
    }
    return {};
  }

  // On the executor.
  error_code begin_write(::grpc::ByteBuffer& message) {
    {
      const std::lock_guard lock(mutex_);
      if (cancelled_ || finish_ != Ending::none || owner_ == nullptr) {
        return boost::asio::error::connection_reset;
      }
      outgoing_.Swap(&message);
      writing_ = true;
    }
    this->StartWrite(&outgoing_);
    return {};
  }
  error_code written() const {
    const std::lock_guard lock(mutex_);
    if (writing_ && finish_ == Ending::none) {
      return boost::asio::error::would_block;
    }
    return written_ && finish_ == Ending::none
               ? error_code()
               : make_error_code(boost::asio::error::connection_reset);
  }

  // gRPC must not be told of the end while it writes: cancelled, it soon has written.
  bool may_finish(const ::grpc::Status& status) noexcept {
    const std::lock_guard lock(mutex_);
    if (finish_ != Ending::none) {
      return false;
    }
    finish_ = writing_ ? Ending::deferred : Ending::started;
    if (writing_) {
      status_ = status;
      context_->TryCancel();
    }
    return !writing_;
  }

  // With the mutex. One large message is enough to read ahead.
  bool has_room() const {
    constexpr std::size_t most_bytes = 64U << 10U;
    return !inbox_.full() && inbox_bytes_ < most_bytes;
  }

  void tell() {
    if (!box_->send(this->shared_from_this())) {
      come_back();
    }
  }
  void come_back() noexcept override {
    finish(::grpc::Status(::grpc::StatusCode::UNAVAILABLE, "the server has stopped"));
  }
  void arrive() noexcept override {
    if (owner_ != nullptr) {
      owner_->look();
    } else if (!begun_) {
      begun_ = true;
      host_->begin != nullptr ? host_->begin(host_->self, this->shared_from_this()) : come_back();
    }
  }

  static constexpr std::size_t most_read_ahead = 8;

  ::grpc::GenericCallbackServerContext* context_;
  int route_;
  std::shared_ptr<Box> box_;

  // Of the executor.
  std::shared_ptr<const Host> host_;
  detail::CallOwner<Executor>* owner_ = nullptr;
  bool begun_ = false;

  // Of gRPC, from the start of an operation to its end.
  ::grpc::ByteBuffer incoming_;
  ::grpc::ByteBuffer outgoing_;
  std::shared_ptr<Call> self_;

  mutable std::mutex mutex_;
  boost::circular_buffer_space_optimized<::grpc::ByteBuffer> inbox_{
      boost::circular_buffer_space_optimized<::grpc::ByteBuffer>::capacity_type(most_read_ahead)};
  std::size_t inbox_bytes_ = 0;
  ::grpc::Status status_;
  Ending finish_ = Ending::none;
  bool reading_ = false;
  bool ended_ = false;
  bool cancelled_ = false;
  bool writing_ = false;
  bool written_ = false;
};

}  // namespace fedagent::grpc
