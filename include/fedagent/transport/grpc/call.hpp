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
 * It is gRPC's reactor too: gRPC's threads note what has happened, and send a mail to the executor
 * only when somebody waits for it there, as waking another thread is what costs most. They read
 * ahead; a write is not waited for until the next one; and a call at `rest` ends without the
 * executor.
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

  /// Writes a message, once gRPC has taken the one before.
  /**
   * When this returns, the message is on its way. A client that is gone by then cancels the
   * coroutine.
   *
   * @par Errors `connection_reset`: the client is gone, or the call has ended.
   */
  static awaitable<result<void>> write(std::shared_ptr<Call> call, ::grpc::ByteBuffer message) {
    error_code error = call->begin_write(message);
    if (error == boost::asio::error::would_block) {
      auto flushing = flush(call);
      if (const auto flushed = co_await std::move(flushing); !flushed) {
        co_return flushed.error();
      }
      error = call->begin_write(message);
    }
    if (error) {
      co_return error;
    }
    co_return result<void>();
  }

  /// Waits until gRPC has taken all that was written: the client has room for it.
  /** @par Errors `connection_reset`. */
  static awaitable<result<void>> flush(std::shared_ptr<Call> call) {
    error_code error = call->written();
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
  bool writing() const noexcept {
    const std::lock_guard lock(mutex_);
    return writing_;
  }

  /// Ends the call; only the first end counts. What is being written is given up, but for an OK.
  void finish(const ::grpc::Status& status) noexcept {
    if (may_finish(status)) {
      this->Finish(status);
    }
  }
  /// Ends the call with OK, after this last message. @pre Nothing is being written.
  void finish_with(const ::grpc::ByteBuffer& message) noexcept {
    if (may_finish(::grpc::Status::OK)) {
      outgoing_ = message;
      this->StartWriteAndFinish(&outgoing_, ::grpc::WriteOptions(), ::grpc::Status::OK);
    }
  }

  /// Gives the call back, when all that has come is read: if no more comes it ends with OK and this
  /// message; if more comes it is served anew.
  /**
   * @pre Nothing is being written.
   * @return False: more has come already; go on reading.
   */
  bool rest(const ::grpc::ByteBuffer& answer) noexcept {
    {
      const std::lock_guard lock(mutex_);
      if (!inbox_.empty()) {
        return false;
      }
      if (!ended_ && !cancelled_) {
        outgoing_ = answer;
        resting_ = true;
        announced_ = false;
        owner_ = nullptr;
        return true;
      }
    }
    finish_with(answer);
    return true;
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

  /// Whether it has been told to end; what is being written may go on.
  bool ending() const noexcept {
    const std::lock_guard lock(mutex_);
    return finish_ != Ending::none;
  }

  /// For the server: who serves it. A call at rest is nobody's.
  void owner(detail::CallOwner<Executor>* by) noexcept { owner_ = by; }
  const detail::CallOwner<Executor>* owner() const noexcept { return owner_; }

  // ---- gRPC's threads

  void OnReadDone(bool ok) override {
    bool more = false;
    bool news = false;
    bool over = false;
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
      over = ended_ && resting_ && finish_ == Ending::none;
      if (over) {
        finish_ = Ending::started;
      }
      resting_ = false;
      news = !over && is_news();
    }
    if (over) {
      this->StartWriteAndFinish(&outgoing_, ::grpc::WriteOptions(), ::grpc::Status::OK);
    }
    if (more) {
      this->StartRead(&incoming_);
    }
    if (news) {
      tell();
    }
  }
  void OnWriteDone(bool ok) override {
    bool last = false;
    bool news = false;
    {
      const std::lock_guard lock(mutex_);
      outgoing_.Clear();
      writing_ = false;
      written_ = ok;
      last = finish_ == Ending::deferred;
      if (last) {
        finish_ = Ending::started;
      }
      news = !last && std::exchange(awaited_, false);
    }
    if (last) {
      this->Finish(status_);
    } else if (news) {
      tell();
    }
  }
  void OnCancel() override {
    bool nobody = false;
    {
      const std::lock_guard lock(mutex_);
      cancelled_ = true;
      nobody = !announced_;
    }
    nobody ? finish(::grpc::Status::CANCELLED) : tell();
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
        awaited_ = !ended_;
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
      if (const auto error = write_error()) {
        return error;
      }
      outgoing_.Swap(&message);
      writing_ = true;
    }
    this->StartWrite(&outgoing_);
    return {};
  }
  error_code written() {
    const std::lock_guard lock(mutex_);
    const auto error = write_error();
    awaited_ = error == boost::asio::error::would_block;
    return error;
  }
  error_code write_error() const noexcept {
    if (cancelled_ || finish_ != Ending::none || !written_ || owner_ == nullptr) {
      return boost::asio::error::connection_reset;
    }
    return writing_ ? make_error_code(boost::asio::error::would_block) : error_code();
  }

  // gRPC must not be told of the end while it writes; cancelled, it soon has written.
  bool may_finish(const ::grpc::Status& status) noexcept {
    const std::lock_guard lock(mutex_);
    if (finish_ == Ending::started) {
      return false;
    }
    if (writing_) {
      if (finish_ == Ending::none) {
        status_ = status;
        finish_ = Ending::deferred;
      }
      if (!status.ok()) {
        context_->TryCancel();
      }
      return false;
    }
    finish_ = Ending::started;
    return true;
  }

  // With the mutex. One large message is enough to read ahead.
  bool has_room() const {
    constexpr std::size_t most_bytes = 64U << 10U;
    return !inbox_.full() && inbox_bytes_ < most_bytes;
  }

  // With the mutex. Whether anybody is to hear of what was read.
  bool is_news() {
    return finish_ == Ending::none &&
           (!std::exchange(announced_, true) || std::exchange(awaited_, false));
  }

  void tell() {
    if (!box_->send(this->shared_from_this())) {
      come_back();
    }
  }
  void come_back() noexcept override {
    finish(::grpc::Status(::grpc::StatusCode::UNAVAILABLE, "the server has stopped"));
  }
  // A mail may be late: the call has ended meanwhile, or is at rest again.
  bool unserved() const noexcept {
    const std::lock_guard lock(mutex_);
    return announced_ && finish_ == Ending::none;
  }
  void arrive() noexcept override {
    if (owner_ != nullptr) {
      owner_->look();
    } else if (host_->begin == nullptr) {
      come_back();
    } else if (unserved()) {
      host_->begin(host_->self, this->shared_from_this());
    }
  }

  static constexpr std::size_t most_read_ahead = 8;

  ::grpc::GenericCallbackServerContext* context_;
  int route_;
  std::shared_ptr<Box> box_;

  // Of the executor.
  std::shared_ptr<const Host> host_;
  detail::CallOwner<Executor>* owner_ = nullptr;

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
  /// No write has failed.
  bool written_ = true;
  /// The executor has been told of the call, and serves it.
  bool announced_ = false;
  /// The coroutine waits for a read, or for a write to end.
  bool awaited_ = false;
  bool resting_ = false;
};

}  // namespace fedagent::grpc
