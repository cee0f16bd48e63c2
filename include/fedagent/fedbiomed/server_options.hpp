#pragma once

#include <boost/system/result.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>

#include "fedagent/fedbiomed/certificate.hpp"
#include "fedagent/fedbiomed/chunks.hpp"
#include "fedagent/fedbiomed/error.hpp"
#include "fedagent/options.hpp"
#include "fedagent/transport/grpc/identity.hpp"
#include "fedagent/transport/grpc/options.hpp"

namespace fedagent::fedbiomed {

/// How a server for Fed-BioMed nodes behaves.
struct ServerOptions {
  /// The certificate, its key, and who signs the nodes' certificates, if nodes are to have some.
  /// Without a certificate the server speaks plain TCP: for tests, as no node does.
  grpc::Tls tls{};
  /// What the organization in the certificate must be. Empty: whatever it is. Without a certificate
  /// it is needed.
  std::string researcher_id{};
  /// Where in its certificate a node's id is.
  grpc::NameIn node_id_in = grpc::NameIn::common_name;
  /// The most bytes of a chunk that is sent. 1 to `fedbiomed::chunk_size`.
  std::size_t chunk_size = fedbiomed::chunk_size;
  /// The largest message of a node, in bytes, whatever its chunks are. At least 1.
  std::size_t max_message = std::size_t{1} << 30U;
  /// What all half-received messages may take together, in bytes. Zero: no limit.
  std::uint64_t max_incoming_bytes = std::uint64_t{4} << 30U;
  /// How long a poll that has handed out a task and gets no other one stays open. The node polls
  /// again at once, and so tells that it has the task: if its connection breaks later, the task is
  /// not given to it twice. 1 ms to 1 day.
  Duration confirm_after = std::chrono::seconds{1};
  /// Called with a sentence on what the owner of the server should know: once, when it listens,
  /// that node ids are claims. It must not throw.
  std::function<void(std::string_view sentence)> on_warning{};
};

namespace detail {

inline void check(const ServerOptions& options) {
  const auto require = [](bool holds, const char* sentence) {
    if (!holds) {
      throw std::invalid_argument(sentence);
    }
  };
  require(options.chunk_size >= 1 && options.chunk_size <= fedbiomed::chunk_size,
          "fedagent: chunk_size must be from 1 to 3999967");
  require(options.max_message >= 1, "fedagent: max_message must be at least 1");
  require(options.confirm_after >= std::chrono::milliseconds{1} &&
              options.confirm_after <= std::chrono::hours{24},
          "fedagent: confirm_after must be from 1 ms to 1 day");
}

/// The id that every task must have (c.3).
inline boost::system::result<std::string> researcher_id_of(const ServerOptions& options) {
  if (options.tls.certificate_chain.empty()) {
    if (options.researcher_id.empty()) {
      return make_error_code(errc::no_organization);
    }
    return options.researcher_id;
  }
  auto organization = organization_of(options.tls.certificate_chain);
  if (organization && !options.researcher_id.empty() && *organization != options.researcher_id) {
    return make_error_code(errc::other_organization);
  }
  return organization;
}

/// What nodes expect of the connection (c.1).
inline grpc::ServerOptions connection_options() {
  constexpr int max_message = 100 << 20;
  return {.max_message = max_message,
          .arguments = {{GRPC_ARG_KEEPALIVE_TIME_MS, 60'000},
                        {GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 2'000},
                        {GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1},
                        {GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0},
                        {GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 1'800},
                        {GRPC_ARG_HTTP2_MAX_PING_STRIKES, 100},
                        {GRPC_ARG_MAX_CONNECTION_IDLE_MS, 3'602'000},
                        {GRPC_ARG_MAX_CONNECTION_AGE_MS, 3'605'000},
                        {GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS, 2'000}}};
}

}  // namespace detail
}  // namespace fedagent::fedbiomed
