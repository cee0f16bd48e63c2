#pragma once

#include <grpcpp/support/status.h>

#include <boost/asio/error.hpp>
#include <boost/system/error_code.hpp>
#include <cstddef>
#include <string>
#include <string_view>

#include "fedagent/error.hpp"
#include "fedagent/fedbiomed/error.hpp"

namespace fedagent::fedbiomed::detail {

inline ::grpc::StatusCode code_of(fedagent::errc error) noexcept {
  using fedagent::errc;
  using ::grpc::StatusCode;
  switch (error) {
    case errc::superseded:
    case errc::poll_refused:
      return StatusCode::ABORTED;
    case errc::bad_node_id:
      return StatusCode::INVALID_ARGUMENT;
    case errc::not_admitted:
    case errc::wrong_node:
      return StatusCode::PERMISSION_DENIED;
    case errc::too_many_agents:
    case errc::quota_exceeded:
    case errc::queue_full:
    case errc::message_too_large:
      return StatusCode::RESOURCE_EXHAUSTED;
    case errc::unknown_node:
    case errc::no_route:
      return StatusCode::NOT_FOUND;
    case errc::disconnected:
    case errc::removed:
    case errc::stopped:
      return StatusCode::UNAVAILABLE;
    default:
      return StatusCode::INTERNAL;
  }
}

/// What the node is told. The texts are the library's own: they show nothing of what is inside.
inline ::grpc::Status status_of(const boost::system::error_code& error) {
  if (!error || error == fedagent::errc::poll_ended) {
    return ::grpc::Status::OK;
  }
  if (error.category() == fedagent::error_category()) {
    return {code_of(static_cast<fedagent::errc>(error.value())), error.message()};
  }
  if (error == errc::version_mismatch) {
    return {::grpc::StatusCode::FAILED_PRECONDITION, error.message()};
  }
  if (error.category() == fedbiomed::error_category()) {
    return {::grpc::StatusCode::INVALID_ARGUMENT, error.message()};
  }
  if (error == boost::asio::error::connection_reset ||
      error == boost::asio::error::operation_aborted) {
    return ::grpc::Status::CANCELLED;
  }
  return {::grpc::StatusCode::INTERNAL, "internal error"};
}

/// The refusal of a version, with both versions in it.
inline ::grpc::Status wrong_version(std::string_view of_node) {
  constexpr std::size_t longest = 32;
  return {::grpc::StatusCode::FAILED_PRECONDITION,
          "the node speaks version \"" + std::string(of_node.substr(0, longest)) +
              "\" of the protocol, this server speaks versions \"5\" and \"7\""};
}

}  // namespace fedagent::fedbiomed::detail
