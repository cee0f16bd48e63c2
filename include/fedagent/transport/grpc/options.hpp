#pragma once

#include <grpcpp/security/server_credentials.h>

#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace fedagent::grpc {

/// What a server proves itself with, and what it asks of its clients. All PEM texts.
struct Tls {
  std::string certificate_chain{};
  std::string private_key{};
  /// Certificates of those who sign the clients' ones. Empty: clients show none. Otherwise one
  /// without a certificate that these have signed cannot connect.
  std::string client_ca{};
};

/// How a server behaves. Durations are gRPC's: milliseconds.
struct ServerOptions {
  /// The largest message of gRPC, in either direction, in bytes.
  int max_message = 4 << 20;
  /// More arguments of gRPC's channels, such as `GRPC_ARG_KEEPALIVE_TIME_MS`.
  std::vector<std::pair<std::string, int>> arguments{};
};

/// The credentials of a server with TLS.
inline std::shared_ptr<::grpc::ServerCredentials> credentials(const Tls& tls) {
  ::grpc::SslServerCredentialsOptions options(
      tls.client_ca.empty() ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                            : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  options.pem_root_certs = tls.client_ca;
  options.pem_key_cert_pairs.push_back({tls.private_key, tls.certificate_chain});
  return ::grpc::SslServerCredentials(options);
}

}  // namespace fedagent::grpc
