#pragma once

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/system/result.hpp>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "fedagent/transport/stream/server_connection.hpp"
#include "fedagent/transport/stream/server_state.hpp"

namespace fedagent::stream {

/// What lies between a socket and the frames: nothing.
/**
 * A layer of your own, for TLS say, has `wrap(socket)`, which returns the stream, and may have
 * `handshake(stream)`, an awaitable error code that is to end within `hello_timeout`, and
 * `authenticate(stream, node_id)`, which tells whether the peer, known by its certificate, may use
 * that node id. Without the last one, every peer that can connect can be every node. It may also
 * have `is_end(error)`: whether a read that ended so tells that the peer has left, besides `eof`.
 * For TLS that is `ssl::error::stream_truncated`; frames tell by themselves whether a message is
 * whole.
 */
struct Plain {
  template <class Socket>
  Socket wrap(Socket socket) const {
    return socket;
  }
};

namespace detail {

// Frames are written whole, and many are small: waiting for more to send gains nothing.
template <class Socket>
void set_no_delay(Socket& socket) noexcept {
  if constexpr (std::is_same_v<typename Socket::protocol_type, boost::asio::ip::tcp>) {
    boost::system::error_code ignored;
    socket.set_option(boost::asio::ip::tcp::no_delay(true), ignored);
  }
}

}  // namespace detail

/// Serves the agents of a store to nodes that connect.
/**
 * @par Lifetimes
 * The store must outlive the server, not its connections: when the server is stopped or destroyed
 * they end without the store. The destructor stops and waits for nothing, and may run after the
 * loop is gone.
 * @par Thread safety
 * Unsafe: on the store's executor.
 */
template <class Store>
class Server {
  using State = detail::ServerState<Store>;
  using Executor = typename Store::executor_type;

 public:
  using executor_type = Executor;
  template <class T>
  using awaitable = boost::asio::awaitable<T, Executor>;
  template <class T>
  using result = boost::system::result<T>;

  /** @par Errors `std::invalid_argument` when an option is out of range. */
  explicit Server(Store& store, const ServerOptions& options = {})
      : state_(std::make_shared<State>(store, options)) {}
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server() { stop(); }

  /// Listens there; when this returns, clients can connect (E22). May be called more than once.
  /**
   * @param layer What lies between the sockets and the frames; a copy for each connection.
   * @return Where it listens, with the port that was chosen when the given one is zero. Or the
   * error of the system, such as "Address already in use".
   */
  template <class Endpoint, class Layer = Plain>
  result<Endpoint> listen(const Endpoint& endpoint, Layer layer = {}) {
    using Protocol = typename Endpoint::protocol_type;
    using Acceptor = Listener<Protocol>;
    if (state_->stopped) {
      return fedagent::make_error_code(fedagent::errc::stopped);
    }
    auto listener = std::make_shared<Acceptor>(state_->executor);
    auto& acceptor = listener->acceptor;
    boost::system::error_code error;
    acceptor.open(endpoint.protocol(), error);
    if (!error && std::is_same_v<Protocol, boost::asio::ip::tcp>) {
      acceptor.set_option(boost::asio::socket_base::reuse_address(true), error);
    }
    if (!error) {
      acceptor.bind(endpoint, error);
    }
    if (!error) {
      acceptor.listen(boost::asio::socket_base::max_listen_connections, error);
    }
    if (error) {
      return error;
    }
    const auto bound = acceptor.local_endpoint(error);
    if (error) {
      return error;
    }
    listeners_.push_back(listener);
    boost::asio::co_spawn(state_->executor, accept(state_, std::move(listener), std::move(layer)),
                          boost::asio::detached);
    return bound;
  }

  /// Serves one stream that is connected already, to its end.
  /**
   * @par Cancellation
   * Closes the connection.
   */
  template <class Stream, class Layer = Plain>
  awaitable<void> serve(Stream stream, Layer layer = {}) {
    using Connection = detail::ServerConnection<Store, Stream, Layer>;
    return Connection::serve(
        std::make_shared<Connection>(std::move(stream), std::move(layer), state_));
  }

  /// Accepts no more, and ends all connections: open polls end with `stopped`.
  void stop() noexcept {
    for (auto& listener : listeners_) {
      if (const auto open = listener.lock()) {
        open->close();
      }
    }
    listeners_.clear();
    state_->stop();
  }

  /// Waits until the server is stopped and the last of its connections has ended, which takes
  /// `close_timeout` at most.
  awaitable<void> wait_stopped() { return until_stopped(state_); }

  ServerCounters counters() const noexcept { return state_->counters(); }

 private:
  struct AnyListener {
    virtual ~AnyListener() = default;
    virtual void close() noexcept = 0;
  };
  template <class Protocol>
  struct Listener final : AnyListener {
    explicit Listener(const Executor& executor) : acceptor(executor) {}
    void close() noexcept override {
      boost::system::error_code ignored;
      acceptor.close(ignored);
    }
    boost::asio::basic_socket_acceptor<Protocol, Executor> acceptor;
  };
  using Waiter = fedagent::detail::Waiter<typename Store::clock_type, Executor>;

  template <class Protocol, class Layer>
  static awaitable<void> accept(std::shared_ptr<State> state,
                                std::shared_ptr<Listener<Protocol>> listener, Layer layer) {
    while (!state->stopped) {
      auto [error, socket] =
          co_await listener->acceptor.async_accept(boost::asio::as_tuple(boost::asio::deferred));
      if (state->stopped) {
        break;
      }
      if (!error) {
        detail::set_no_delay(socket);
        try {
          start(state, layer.wrap(std::move(socket)), layer);
        } catch (...) {
          error = boost::asio::error::no_memory;
        }
      }
      // Such as "too many open files": it may pass, and the connections there are go on.
      if (error) {
        state->count_accept_error();
        auto pausing = pause(*state, state->options.accept_pause);
        co_await std::move(pausing);
      }
      // Those who are told that there are too many take a place too, for a moment.
      while (!state->stopped && state->open() >= state->options.max_connections + told_at_once) {
        auto waiting = wait_changed(*state);
        co_await std::move(waiting);
      }
    }
  }

  template <class Stream, class Layer>
  static void start(const std::shared_ptr<State>& state, Stream stream, const Layer& layer) {
    using Connection = detail::ServerConnection<Store, Stream, Layer>;
    Connection::start(std::make_shared<Connection>(std::move(stream), layer, state));
  }

  static awaitable<void> pause(State& state, Duration duration) {
    Waiter waiter(state.executor);
    state.changed.push_back(waiter);
    state.watchdog.arm(waiter, fedagent::detail::time_after(Store::clock_type::now(), duration));
    while (!waiter.verdict() && !state.stopped) {
      co_await waiter.wait();
    }
  }

  static awaitable<void> wait_changed(State& state) {
    Waiter waiter(state.executor);
    state.changed.push_back(waiter);
    co_await waiter.wait();
  }

  static awaitable<void> until_stopped(std::shared_ptr<State> state) {
    while (!state->stopped || state->open() > 0) {
      auto waiting = wait_changed(*state);
      co_await std::move(waiting);
    }
    state->watchdog.look();  // nothing is left to look at: the loop may run out of work
  }

  static constexpr std::size_t told_at_once = 16;

  std::shared_ptr<State> state_;
  // Each is its coroutine's: a server that outlives the loop must not touch them.
  std::vector<std::weak_ptr<AnyListener>> listeners_;
};

}  // namespace fedagent::stream
