#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/address.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/system/errc.hpp>
#include <boost/system/error_code.hpp>
#include <cstdint>
#include <string>
#include <string_view>

namespace fedagent::grpc::detail {

/// Why gRPC could not listen at "host:port". It does not say, so the system is asked once more.
/** @return `invalid_argument` when the system has nothing against it. */
inline boost::system::error_code why_not_listening(std::string_view address) {
  const auto unknown = make_error_code(boost::system::errc::invalid_argument);
  const auto colon = address.rfind(':');
  if (colon == std::string_view::npos) {
    return unknown;
  }
  std::string host(address.substr(0, colon));
  if (host.size() > 1 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  boost::system::error_code error;
  boost::asio::io_context io;
  boost::asio::ip::tcp::resolver resolver(io);
  const auto found = resolver.resolve(
      host, std::string(address.substr(colon + 1)),
      boost::asio::ip::tcp::resolver::passive | boost::asio::ip::tcp::resolver::numeric_service,
      error);
  if (error || found.empty()) {
    return error ? error : unknown;
  }
  const auto endpoint = found.begin()->endpoint();
  boost::asio::ip::tcp::acceptor acceptor(io);
  acceptor.open(endpoint.protocol(), error);
  if (!error) {
    acceptor.set_option(boost::asio::socket_base::reuse_address(true), error);
  }
  if (!error) {
    acceptor.bind(endpoint, error);
  }
  if (!error) {
    acceptor.listen(boost::asio::socket_base::max_listen_connections, error);
  }
  return error ? error : unknown;
}

}  // namespace fedagent::grpc::detail
