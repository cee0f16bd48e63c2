#pragma once

#include <grpc/grpc_security_constants.h>
#include <grpcpp/security/auth_context.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace fedagent::grpc {

/// Where in its certificate a client's name is.
enum class NameIn {
  /// The common name of the subject.
  common_name,
  /// Any of the subject's alternative names: DNS names, URIs, addresses.
  alternative_name,
};

/// Who a client is by the certificate that it has shown, and that gRPC has verified.
struct Identity {
  /// Whether it has shown one.
  bool known = false;
  std::string common_name{};
  std::vector<std::string> alternative_names{};

  /// Whether the certificate has this name there.
  bool is(std::string_view name, NameIn where) const {
    if (!known || name.empty()) {
      return false;
    }
    return where == NameIn::common_name
               ? common_name == name
               : std::ranges::find(alternative_names, name) != alternative_names.end();
  }
  /// The name that it has there, the first if it has several; empty when it has none.
  std::string_view name(NameIn where) const {
    if (where == NameIn::common_name) {
      return common_name;
    }
    return alternative_names.empty() ? std::string_view() : alternative_names.front();
  }
};

namespace detail {

inline std::string_view view_of(const ::grpc::string_ref& text) {
  return {text.data(), text.size()};
}

inline Identity identity_of(const ::grpc::AuthContext& context) {
  Identity identity{.known = context.IsPeerAuthenticated()};
  if (identity.known) {
    for (const auto& name : context.FindPropertyValues(GRPC_X509_CN_PROPERTY_NAME)) {
      identity.common_name = view_of(name);
    }
    for (const auto& name : context.FindPropertyValues(GRPC_X509_SAN_PROPERTY_NAME)) {
      identity.alternative_names.emplace_back(view_of(name));
    }
  }
  return identity;
}

}  // namespace detail
}  // namespace fedagent::grpc
