#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/system/result.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "fedagent/fedbiomed/chunks.hpp"
#include "fedagent/fedbiomed/node_table.hpp"
#include "fedagent/fedbiomed/server_options.hpp"
#include "fedagent/fedbiomed/status.hpp"
#include "fedagent/fedbiomed/transport.hpp"
#include "fedagent/fedbiomed/wire.hpp"
#include "fedagent/service.hpp"
#include "fedagent/transport/grpc/bytes.hpp"
#include "fedagent/transport/grpc/call.hpp"

namespace fedagent::fedbiomed::detail {

/// What the calls of a server share.
template <class Store_>
struct ServiceState {
  using Store = Store_;
  using executor_type = typename Store::executor_type;

  ServiceState(Store& the_store, const ServerOptions& the_options)
      : store(&the_store), options((check(the_options), the_options)) {}

  /// Whether nodes show who they are.
  bool verified() const noexcept { return !options.tls.client_ca.empty(); }

  /// Null when the server has stopped.
  Store* store;
  ServerOptions options;
  /// That of every task.
  std::string researcher_id;
  /// What replies and feedback are answered with.
  const ::grpc::ByteBuffer empty = grpc::empty_message();
  NodeTable nodes;
  std::uint64_t incoming_bytes = 0;
};

/// Reads the message of a call that has one only. @pre It is the first one that is read.
/** @par Errors `bad_protobuf`: there is none; as `Call::read`. */
template <class Call>
boost::system::error_code read_message(Call& call, ::grpc::ByteBuffer& message) {
  const auto error = call.try_read(message);
  return error == boost::asio::error::eof ? make_error_code(errc::bad_protobuf) : error;
}

/// Whether a call may bear this node's id: its certificate must, if nodes show one.
/** @return `stopped`, or `wrong_node`, which the store has been told of; no error: it may. */
template <class State, class Call>
boost::system::error_code check_peer(const State& state, const Call& call, std::string_view claim) {
  if (state.store == nullptr) {
    return fedagent::errc::stopped;
  }
  if (!state.verified()) {
    return {};
  }
  const auto identity = call.identity();
  if (identity.is(claim, state.options.node_id_in)) {
    return {};
  }
  return refuse_wrong_node(*state.store, identity.name(state.options.node_id_in), claim);
}

}  // namespace fedagent::fedbiomed::detail
