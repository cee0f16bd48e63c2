#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/system/result.hpp>
#include <string>
#include <type_traits>
#include <utility>

namespace fedagent::stream {

/// Connects to a host and a port, by name or by number, trying every address it has.
/**
 * A connector of your own has `executor_type`, `get_executor()` and a call operator, an awaitable
 * `result` of a connected stream (an AsyncStream with `lowest_layer()`). It is called once for each
 * attempt, and must support cancellation of type terminal; a TLS handshake belongs into it.
 */
template <class Executor = boost::asio::any_io_executor>
class TcpConnector {
 public:
  using executor_type = Executor;
  using stream_type = boost::asio::basic_stream_socket<boost::asio::ip::tcp, Executor>;
  using result_type = boost::system::result<stream_type>;

  TcpConnector(const std::type_identity_t<Executor>& executor, std::string host, std::string port)
      : executor_(executor), host_(std::move(host)), port_(std::move(port)) {}

  executor_type get_executor() const noexcept { return executor_; }
  boost::asio::awaitable<result_type, Executor> operator()() const {
    return connect(executor_, host_, port_);
  }

 private:
  static boost::asio::awaitable<result_type, Executor> connect(Executor executor, std::string host,
                                                               std::string port) {
    using Tcp = boost::asio::ip::tcp;
    boost::asio::ip::basic_resolver<Tcp, Executor> resolver(executor);
    const auto [unknown, addresses] =
        co_await resolver.async_resolve(host, port, boost::asio::as_tuple(boost::asio::deferred));
    if (unknown) {
      co_return unknown;
    }
    stream_type socket(executor);
    const auto [failed, address] = co_await boost::asio::async_connect(
        socket, addresses, boost::asio::as_tuple(boost::asio::deferred));
    if (failed) {
      co_return failed;
    }
    boost::system::error_code ignored;
    socket.set_option(Tcp::no_delay(true), ignored);
    co_return socket;
  }

  Executor executor_;
  std::string host_;
  std::string port_;
};

/// Connects to a Unix socket.
template <class Executor = boost::asio::any_io_executor>
class UnixConnector {
 public:
  using executor_type = Executor;
  using protocol_type = boost::asio::local::stream_protocol;
  using stream_type = boost::asio::basic_stream_socket<protocol_type, Executor>;
  using result_type = boost::system::result<stream_type>;

  UnixConnector(const std::type_identity_t<Executor>& executor, std::string path)
      : executor_(executor), path_(std::move(path)) {}

  executor_type get_executor() const noexcept { return executor_; }
  boost::asio::awaitable<result_type, Executor> operator()() const {
    return connect(executor_, path_);
  }

 private:
  static boost::asio::awaitable<result_type, Executor> connect(Executor executor,
                                                               std::string path) {
    stream_type socket(executor);
    const auto [failed] = co_await socket.async_connect(
        protocol_type::endpoint(path), boost::asio::as_tuple(boost::asio::deferred));
    if (failed) {
      co_return failed;
    }
    co_return socket;
  }

  Executor executor_;
  std::string path_;
};

}  // namespace fedagent::stream
