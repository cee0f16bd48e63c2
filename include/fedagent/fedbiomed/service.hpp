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

/// Who has made a call: as its certificate says, or else as it says itself.
/**
 * @return The node id to go by; the name in the certificate when `claim` is not one of its names.
 */
template <class State, class Call>
std::string peer_of(const State& state, const Call& call, std::string_view claim) {
  if (!state.verified()) {
    return std::string(claim);
  }
  const auto identity = call.identity();
  if (identity.is(claim, state.options.node_id_in)) {
    return std::string(claim);
  }
  if (state.options.node_id_in == grpc::NameIn::common_name) {
    return identity.common_name;
  }
  return identity.alternative_names.empty() ? std::string() : identity.alternative_names.front();
}

}  // namespace fedagent::fedbiomed::detail
