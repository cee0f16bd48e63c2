#pragma once

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>

#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/intrusive/list.hpp>
#include <boost/system/result.hpp>
#include <chrono>
#include <cstddef>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include "fedagent/detail/waiter.hpp"
#include "fedagent/error.hpp"
#include "fedagent/transport/grpc/listen_error.hpp"
#include "fedagent/transport/grpc/options.hpp"
#include "fedagent/transport/grpc/serving.hpp"

namespace fedagent::grpc {

namespace detail {

/// The part of a server that gRPC's threads know: it makes calls out of what comes in.
template <class Executor, class Service>
class Reception final : public ::grpc::CallbackGenericService {
  using Host = typename Call<Executor>::Host;

 public:
  Reception(std::shared_ptr<Mailbox<Executor>> box, std::shared_ptr<const Host> host)
      : box_(std::move(box)), host_(std::move(host)) {}

  ::grpc::ServerGenericBidiReactor* CreateReactor(
      ::grpc::GenericCallbackServerContext* context) override {
    const int route = Service::route(context->method());
    if (route < 0) {
      return nullptr;  // UNIMPLEMENTED
    }
    return Call<Executor>::start(std::make_shared<Call<Executor>>(*context, route, box_, host_));
  }

 private:
  std::shared_ptr<Mailbox<Executor>> box_;
  std::shared_ptr<const Host> host_;
};

/// A server of gRPC and what it needs to the end of its last thread. It may end on any thread.
template <class Executor, class Service>
struct Running {
  std::unique_ptr<Reception<Executor, Service>> reception;
  std::unique_ptr<::grpc::Server> server;

  /// Waits for gRPC's threads, which wait for nobody.
  /**
   * The calls that were served have been told to end. The others, which have sent nothing yet or
   * are at rest, are cancelled after a moment.
   */
  void shut_down() {
    constexpr std::chrono::milliseconds moment{500};
    server->Shutdown(std::chrono::system_clock::now() + moment);
    server.reset();
    reception.reset();
  }
};

}  // namespace detail

/// Serves the calls of gRPC on an Asio executor, by coroutines where there is something to wait
/// for.
/**
 * Messages are bytes, as gRPC has them; there is no generated code.
 *
 * @tparam Service Has `static int route(std::string_view method) noexcept`, called on any thread: a
 * number for the method's path, or less than zero for one that is not implemented; and
 * `awaitable<void> serve(std::shared_ptr<Call<Executor>>)`, called on the executor for each call
 * once its first message, or its end, is there, and again for a call at rest when more comes. A
 * coroutine may be destroyed before it has begun, when the client is gone or the server stops.
 * Instead `serve` may return a `std::optional<awaitable<void>>`: none when it has served the call
 * itself, and always when it has ended it or let it rest. A call that is neither then ends with OK.
 * What is thrown ends the call with INTERNAL.
 *
 * @par Lifetimes
 * While it listens it keeps the loop from running out of work, as an acceptor does, and after
 * `stop` until gRPC's threads have ended. The destructor stops and waits for nothing; it may run
 * after the loop is gone. A loop that is destroyed ends the calls. gRPC's own end needs threads: a
 * program that leaves `main` without running the loop to its end after `stop` may cut it short.
 * @par Thread safety
 * Unsafe: on the executor.
 */
template <class Executor, class Service>
class Server {
 public:
  using executor_type = Executor;
  using call_type = Call<Executor>;
  template <class T>
  using awaitable = boost::asio::awaitable<T, Executor>;

  Server(const Executor& executor, std::shared_ptr<Service> service)
      : state_(std::make_shared<State>(executor, std::move(service))) {}
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server() { stop(); }

  /// Listens there; when this returns, clients can connect. Once only.
  /**
   * @param address As gRPC has it, such as "0.0.0.0:50051"; port 0: one that is free.
   * @return The port. Or the error of the system, such as "Address already in use": a port is
   * never shared (E23); `invalid_argument` when gRPC cannot use the address or the credentials;
   * "Resource temporarily unavailable" when there is no thread to be had.
   */
  boost::system::result<int> listen(const std::string& address,
                                    const std::shared_ptr<::grpc::ServerCredentials>& credentials,
                                    const ServerOptions& options = {}) {
    if (state_->stopped) {
      return fedagent::make_error_code(fedagent::errc::stopped);
    }
    if (state_->over) {
      return boost::system::error_code(boost::asio::error::already_open);
    }
    const auto running = std::make_shared<Running>(Running{
        .reception = std::make_unique<Reception>(state_->box, state_->host), .server = nullptr});
    std::promise<void> over;
    try {
      // The end waits, in a thread of its own. Made now: there may be none to be had then.
      std::thread(&State::shut_down, running, over.get_future(), state_->box,
                  std::make_shared<Ended>(state_))
          .detach();
    } catch (const std::system_error& no_thread) {
      return boost::system::error_code(no_thread.code().value(), boost::system::system_category());
    }
    ::grpc::ServerBuilder builder;
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    for (const auto& [name, value] : options.arguments) {
      builder.AddChannelArgument(name, value);
    }
    builder.SetMaxReceiveMessageSize(options.max_message);
    builder.SetMaxSendMessageSize(options.max_message);
    int port = 0;
    builder.AddListeningPort(address, credentials, &port);
    builder.RegisterCallbackGenericService(running->reception.get());
    running->server = builder.BuildAndStart();
    if (!running->server || port <= 0) {
      if (running->server) {
        running->shut_down();
      }
      return detail::why_not_listening(address);
    }
    state_->over = std::move(over);
    state_->ended = false;
    // It is what keeps the loop from running out of work.
    boost::asio::co_spawn(state_->executor, until_stopped(state_), boost::asio::detached);
    return port;
  }

  /// Accepts no more, and ends all calls with UNAVAILABLE; their coroutines are cancelled.
  /** A call whose `serve` stops the server ends as the service ends it, if it does so itself. */
  void stop() noexcept { state_->stop(); }

  /// Waits until the server is stopped, its calls' coroutines have ended, and so has gRPC.
  awaitable<void> wait_stopped() { return until_stopped(state_); }

  /// Calls that coroutines serve.
  std::size_t open() const noexcept { return state_->servings.size(); }

 private:
  using Reception = detail::Reception<Executor, Service>;
  using Running = detail::Running<Executor, Service>;
  using Box = detail::Mailbox<Executor>;
  using Waiter = fedagent::detail::Waiter<std::chrono::steady_clock, Executor>;
  using Waiters = fedagent::detail::WaitList<std::chrono::steady_clock>;

  struct Ended;
  struct State : std::enable_shared_from_this<State> {
    using executor_type = Executor;
    using Host = typename call_type::Host;

    State(const Executor& the_executor, std::shared_ptr<Service> the_service)
        : executor(the_executor),
          service(std::move(the_service)),
          box(std::make_shared<Box>(the_executor)),
          host(std::make_shared<Host>(Host{this, &State::begin})) {}
    State(const State&) = delete;
    State& operator=(const State&) = delete;
    ~State() {
      stop();
      box->close();
    }

    static void begin(void* self, const std::shared_ptr<call_type>& call) {
      auto& state = *static_cast<State*>(self);
      detail::Serving<State>::start(state.shared_from_this(), call);
    }

    void stop() noexcept {
      if (std::exchange(stopped, true)) {
        return;
      }
      *host = Host{};
      for (auto& serving : servings) {
        serving.end();
      }
      changed.wake_all();
      if (over) {
        over->set_value();
      }
    }

    // In a thread of its own. It does not touch the state.
    static void shut_down(std::shared_ptr<Running> running, std::future<void> over,
                          std::shared_ptr<Box> box, std::shared_ptr<Ended> mail) {
      over.wait();
      if (running->server) {  // it did listen
        running->shut_down();
        box->send(mail);
      }
    }

    const Executor executor;
    const std::shared_ptr<Service> service;
    const std::shared_ptr<Box> box;
    const std::shared_ptr<Host> host;
    boost::intrusive::list<detail::Serving<State>> servings;
    /// To be told when gRPC is to end; none: it has not begun.
    std::optional<std::promise<void>> over{};
    /// Those who wait for the end.
    Waiters changed;
    bool stopped = false;
    /// gRPC has ended, or never began.
    bool ended = true;
  };

  /// gRPC has ended.
  struct Ended final : detail::Mail {
    explicit Ended(std::weak_ptr<State> of) : state(std::move(of)) {}
    void arrive() noexcept override {
      if (const auto alive = state.lock()) {
        alive->ended = true;
        alive->changed.wake_all();
      }
    }
    void come_back() noexcept override {}

    std::weak_ptr<State> state;
  };

  static awaitable<void> until_stopped(std::shared_ptr<State> state) {
    Waiter waiter(state->executor);
    while (!state->stopped || !state->ended || !state->servings.empty()) {
      state->changed.push_back(waiter);
      auto waiting = waiter.wait();
      co_await std::move(waiting);
      if (waiter.verdict()) {
        break;
      }
    }
  }

  std::shared_ptr<State> state_;
};

}  // namespace fedagent::grpc
