#pragma once

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>
#include <grpcpp/support/status.h>

#include <boost/asio/error.hpp>
#include <boost/system/error_code.hpp>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "fedagent/transport/grpc/bytes.hpp"
#include "fedagent/transport/grpc/identity.hpp"
#include "fedagent/transport/grpc/inbox.hpp"
#include "fedagent/transport/grpc/mailbox.hpp"

namespace fedagent::grpc::detail {

inline ::grpc::Status server_stopped() {
  return {::grpc::StatusCode::UNAVAILABLE, "the server has stopped"};
}

/// A call as gRPC's threads and the executor both see it.
/**
 * gRPC's threads note what has happened, and send a mail to the executor only when somebody waits
 * for it there, as waking another thread is what costs most. They read ahead; and a call at rest
 * ends without the executor.
 *
 * @par Lifetimes
 * gRPC has it until `OnDone`.
 * @par Thread safety
 * Safe: everything that threads share is under the mutex. gRPC is never called with it.
 */
class Reactor : public ::grpc::ServerGenericBidiReactor,
                public Mail,
                public std::enable_shared_from_this<Reactor> {
 public:
  using error_code = boost::system::error_code;

  Reactor(::grpc::GenericCallbackServerContext& context, std::shared_ptr<AnyMailbox> box)
      : context_(&context), box_(std::move(box)) {}

  /// For gRPC: its first read is begun.
  static ::grpc::ServerGenericBidiReactor* start(std::shared_ptr<Reactor> call) {
    Reactor& self = *call;
    self.self_ = std::move(call);
    self.reading_ = true;
    self.StartRead(&self.incoming_);
    return &self;
  }

  Identity identity() const {
    const std::lock_guard lock(mutex_);
    return ending_ == Ending::none ? identity_of(*context_->auth_context()) : Identity();
  }
  std::string peer() const {
    const std::lock_guard lock(mutex_);
    return ending_ == Ending::none ? context_->peer() : std::string();
  }
  bool cancelled() const noexcept {
    const std::lock_guard lock(mutex_);
    return cancelled_;
  }
  bool writing() const noexcept {
    const std::lock_guard lock(mutex_);
    return writing_;
  }
  /// Whether it is to be served: the executor has been told of it, and its end has not begun.
  bool due() const noexcept {
    const std::lock_guard lock(mutex_);
    return announced_ && !cancelled_ && ending_ == Ending::none;
  }

  /// Takes what was read. @par Errors `would_block`: a mail will tell; `eof`; `connection_reset`.
  error_code try_read(::grpc::ByteBuffer& message) {
    message.Clear();
    bool more = false;
    {
      const std::lock_guard lock(mutex_);
      if (cancelled_ || ending_ != Ending::none) {
        return boost::asio::error::connection_reset;
      }
      if (inbox_.empty()) {
        awaited_ = !ended_;
        return ended_ ? make_error_code(boost::asio::error::eof)
                      : make_error_code(boost::asio::error::would_block);
      }
      inbox_.pop(message);
      more = !reading_ && !ended_ && inbox_.has_room();
      reading_ = reading_ || more;
    }
    if (more) {
      StartRead(&incoming_);
    }
    return {};
  }

  /// @par Errors `would_block`: the write before has not ended; `connection_reset`.
  error_code try_write(::grpc::ByteBuffer& message) {
    {
      const std::lock_guard lock(mutex_);
      if (const auto error = write_error()) {
        return error;
      }
      outgoing_.Swap(&message);
      writing_ = true;
    }
    StartWrite(&outgoing_);
    return {};
  }
  /// @par Errors `would_block`: a mail will tell; `connection_reset`.
  error_code written() {
    const std::lock_guard lock(mutex_);
    const auto error = write_error();
    awaited_ = error == boost::asio::error::would_block;
    return error;
  }

  void finish(const ::grpc::Status& status) noexcept {
    if (may_finish(status)) {
      Finish(status);
    }
  }
  /// @pre Nothing is being written.
  void finish_with(const ::grpc::ByteBuffer& message) noexcept {
    if (may_finish(::grpc::Status::OK)) {
      outgoing_ = message;
      StartWriteAndFinish(&outgoing_, ::grpc::WriteOptions(), ::grpc::Status::OK);
    }
  }

  enum class Rest { no, rests, ended };
  /// @pre Nothing is being written.
  Rest rest(const ::grpc::ByteBuffer& answer) noexcept {
    {
      const std::lock_guard lock(mutex_);
      if (!inbox_.empty()) {
        return Rest::no;
      }
      if (!ended_ && !cancelled_ && ending_ == Ending::none) {
        outgoing_ = answer;
        resting_ = true;
        announced_ = false;
        return Rest::rests;
      }
    }
    finish_with(answer);
    return Rest::ended;
  }

  // ---- gRPC's threads

  void OnReadDone(bool ok) override {
    bool more = false;
    bool over = false;
    bool news = false;
    {
      const std::lock_guard lock(mutex_);
      if (ok) {
        inbox_.push(incoming_);
        more = inbox_.has_room();
      }
      reading_ = more;
      ended_ = !ok;
      const bool rested = std::exchange(resting_, false);
      over = rested && ended_ && ending_ == Ending::none;
      if (over) {
        ending_ = Ending::started;
      } else if (rested) {
        outgoing_.Clear();  // it will be answered anew
      }
      news = ending_ == Ending::none &&
             (!std::exchange(announced_, true) || std::exchange(awaited_, false));
    }
    if (over) {
      StartWriteAndFinish(&outgoing_, ::grpc::WriteOptions(), ::grpc::Status::OK);
    }
    if (more) {
      StartRead(&incoming_);
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
      last = ending_ == Ending::deferred;
      if (last) {
        ending_ = Ending::started;
      }
      news = !last && std::exchange(awaited_, false);
    }
    if (last) {
      Finish(*status_);
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

  void come_back() noexcept override { finish(server_stopped()); }

 private:
  enum class Ending { none, deferred, started };

  void tell() {
    if (!box_->send(shared_from_this())) {
      come_back();
    }
  }

  // gRPC must not be told of the end while it writes.
  bool may_finish(const ::grpc::Status& status) noexcept {
    const std::lock_guard lock(mutex_);
    if (ending_ != Ending::none) {
      return false;
    }
    ending_ = writing_ ? Ending::deferred : Ending::started;
    if (writing_) {
      status_ = status;
    }
    return !writing_;
  }

  // With the mutex.
  error_code write_error() const noexcept {
    if (cancelled_ || ending_ != Ending::none || !written_) {
      return boost::asio::error::connection_reset;
    }
    return writing_ ? make_error_code(boost::asio::error::would_block) : error_code();
  }

  // gRPC's, and there until `OnDone`; that comes after the end.
  ::grpc::GenericCallbackServerContext* context_;
  std::shared_ptr<AnyMailbox> box_;
  std::shared_ptr<Reactor> self_;
  // gRPC's from the start of an operation to its end.
  ::grpc::ByteBuffer incoming_;
  ::grpc::ByteBuffer outgoing_;

  mutable std::mutex mutex_;
  Inbox inbox_;
  /// Of an end that is deferred.
  std::optional<::grpc::Status> status_{};
  Ending ending_ = Ending::none;
  bool reading_ = false;
  bool ended_ = false;
  bool cancelled_ = false;
  bool writing_ = false;
  /// No write has failed.
  bool written_ = true;
  /// The executor has been told of the call, and serves it.
  bool announced_ = false;
  /// Who serves it has asked in vain for a message, or for a write to end.
  bool awaited_ = false;
  bool resting_ = false;
};

}  // namespace fedagent::grpc::detail
