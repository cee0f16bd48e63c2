#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/intrusive/list.hpp>
#include <exception>
#include <memory>
#include <optional>
#include <utility>

#include "fedagent/transport/grpc/call.hpp"

namespace fedagent::grpc::detail {

/// What was thrown is none of the client's business.
inline ::grpc::Status internal_error() { return {::grpc::StatusCode::INTERNAL, "internal error"}; }

/// A call and the coroutine that serves it. It lives as long as the coroutine.
/**
 * @tparam State What the calls of a server share: `executor`, `service`, `servings`, `changed`,
 * `stopped`.
 * @par Thread safety
 * Unsafe: on the executor.
 */
template <class State>
class Serving final : public CallOwner<typename State::executor_type>,
                      public std::enable_shared_from_this<Serving<State>>,
                      public boost::intrusive::list_base_hook<> {
  using Executor = typename State::executor_type;
  using CallPtr = std::shared_ptr<Call<Executor>>;
  template <class T>
  using awaitable = boost::asio::awaitable<T, Executor>;

 public:
  Serving(std::shared_ptr<State> state, CallPtr call, awaitable<void> coroutine)
      : CallOwner<Executor>(state->executor),
        state_(std::move(state)),
        call_(std::move(call)),
        coroutine_(std::move(coroutine)) {
    state_->servings.push_back(*this);
    call_->owner(this);
  }
  ~Serving() {
    if (call_->owner() == this) {
      call_->owner(nullptr);
      call_->finish(server_stopped());
    }
    state_->servings.erase(state_->servings.iterator_to(*this));
    state_->changed.wake_all();
  }

  /// Has the service serve a call. If it needs a coroutine, that starts now, or is posted.
  static void start(const std::shared_ptr<State>& state, const CallPtr& call) noexcept {
    try {
      std::optional<awaitable<void>> coroutine = state->service->serve(call);
      if (state->stopped) {
        call->finish(server_stopped());  // it is not among those that were told
      } else if (coroutine) {
        auto serving = std::make_shared<Serving>(state, call, *std::move(coroutine));
        boost::asio::co_spawn(
            serving->executor, run(serving.get()),
            boost::asio::bind_cancellation_slot(serving->peer_gone_.slot(),
                                                [serving](const std::exception_ptr&) {}));
      } else if (!call->given_back()) {
        call->finish(::grpc::Status::OK);
      }
    } catch (...) {
      call->finish(internal_error());
    }
  }

  void look() noexcept override {
    if (!told_ && call_->cancelled()) {
      cancel();
    } else if (this->waiter != nullptr) {
      this->waiter->wake();
    }
  }

  /// The server stops.
  void end() noexcept {
    if (call_->owner() == this) {
      call_->finish(server_stopped());
      // Outside of the loop the signal would only note where the coroutine is, and look there later
      // (Boost 1.81), when it may be gone.
      boost::asio::post(this->executor, [self = this->shared_from_this()] { self->cancel(); });
    }
  }

  void cancel() noexcept {
    // The slot of a coroutine that has not begun yet, or has ended, must not be used.
    if (running_ && !std::exchange(told_, true)) {
      peer_gone_.emit(boost::asio::cancellation_type::terminal);
    }
  }

 private:
  struct Running {
    explicit Running(Serving& of) : serving(&of) { serving->running_ = true; }
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;
    ~Running() { serving->running_ = false; }

    Serving* serving;
  };

  // The object lives as long as this coroutine's completion handler does.
  static awaitable<void> run(Serving* self) {
    const Running running(*self);
    if (!self->call_->due()) {
      co_return;  // ended meanwhile: some executors start no coroutine at once
    }
    try {
      co_await std::move(self->coroutine_);
      if (self->call_->owner() == self) {
        self->call_->finish(::grpc::Status::OK);
      }
    } catch (...) {
      self->call_->finish(self->told_ ? ::grpc::Status::CANCELLED : internal_error());
    }
  }

  std::shared_ptr<State> state_;
  CallPtr call_;
  /// The service's, until it begins.
  awaitable<void> coroutine_;
  boost::asio::cancellation_signal peer_gone_;
  bool running_ = false;
  bool told_ = false;
};

}  // namespace fedagent::grpc::detail
