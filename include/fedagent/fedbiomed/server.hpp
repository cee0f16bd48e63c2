#pragma once

#include <grpcpp/security/server_credentials.h>

#include <boost/system/result.hpp>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "fedagent/fedbiomed/feedback_call.hpp"
#include "fedagent/fedbiomed/poll_call.hpp"
#include "fedagent/fedbiomed/reply_call.hpp"
#include "fedagent/transport/grpc/server.hpp"

namespace fedagent::fedbiomed {

namespace detail {

/// `researcher.ResearcherService`, for the gRPC bridge.
template <class Store>
class Service final : public ServiceState<Store> {
  using State = ServiceState<Store>;
  using Call = grpc::Call<typename Store::executor_type>;
  enum Route : int { get_task_unary, reply_task, feedback };

 public:
  using State::State;

  static int route(std::string_view method) noexcept {
    constexpr std::string_view service = "/researcher.ResearcherService/";
    if (!method.starts_with(service)) {
      return -1;
    }
    method.remove_prefix(service.size());
    return method == "GetTaskUnary" ? get_task_unary
           : method == "ReplyTask"  ? reply_task
           : method == "Feedback"   ? feedback
                                    : -1;
  }

  /// @return None: it is served already.
  std::optional<typename Store::template awaitable<void>> serve(std::shared_ptr<Call> call) {
    switch (call->route()) {
      case get_task_unary:
        return PollCall<State>::serve(this, std::move(call));
      case reply_task:
        return ReplyCall<State>::serve(this, std::move(call));
      default:
        FeedbackCall<State>::serve(*this, *call);
        return std::nullopt;
    }
  }
};

}  // namespace detail

/// Serves the agents of a store to unmodified Fed-BioMed nodes, over gRPC.
/**
 * @tparam Store An `AgentStore` over `fedbiomed::Transport`. Log lines and metrics go to its
 * observer's `on_feedback`, as `Log` and `Scalar`.
 * @par Lifetimes
 * The store must outlive the server, or the server must be stopped before. As `grpc::Server`.
 * @par Thread safety
 * Unsafe: on the store's executor.
 * @par Source
 * c.1 to c.4 of the wire, b.5.
 */
template <class Store>
class Server {
  using Service = detail::Service<Store>;

 public:
  using executor_type = typename Store::executor_type;
  template <class T>
  using awaitable = typename Store::template awaitable<T>;

  /** @par Errors `std::invalid_argument` when an option is out of range. */
  explicit Server(Store& store, const ServerOptions& options)
      : service_(std::make_shared<Service>(store, options)),
        server_(store.get_executor(), service_) {}
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server() { stop(); }

  /// Listens there; when this returns, nodes can connect (E22). Once only.
  /**
   * @param address Such as "0.0.0.0:50051"; port 0: one that is free.
   * @return The port. Or `bad_certificate`, `no_organization`, `other_organization`, or as
   * `grpc::Server::listen`.
   */
  boost::system::result<int> listen(const std::string& address) {
    const auto& options = service_->options;
    auto researcher_id = detail::researcher_id_of(options);
    if (!researcher_id) {
      return researcher_id.error();
    }
    service_->researcher_id = *std::move(researcher_id);
    const bool plain = options.tls.certificate_chain.empty();
    const auto port = server_.listen(
        address, plain ? ::grpc::InsecureServerCredentials() : grpc::credentials(options.tls),
        detail::connection_options());
    if (port && !service_->verified() && options.on_warning) {
      options.on_warning(
          "node ids are claims: without client certificates, whoever can connect can poll and "
          "reply as any node");
    }
    return port;
  }

  /// The id that every task must have: the organization in the certificate. Empty before `listen`.
  const std::string& researcher_id() const noexcept { return service_->researcher_id; }

  /// The version that the node gave when it polled last: the one to encode tasks in.
  std::optional<Version> version_of(std::string_view node_id) const {
    return service_->nodes.version_of(node_id);
  }

  /// Accepts no more, and ends all calls: open polls end with UNAVAILABLE.
  /** A reply or feedback whose handler or hook stops the server may end with OK. */
  void stop() noexcept {
    service_->store = nullptr;
    server_.stop();
  }

  /// Waits until the server is stopped and the last of its calls has ended.
  awaitable<void> wait_stopped() { return server_.wait_stopped(); }

  /// Calls that wait: polls, and replies that come in parts or are being relayed.
  std::size_t open_calls() const noexcept { return server_.open(); }

 private:
  std::shared_ptr<Service> service_;
  grpc::Server<executor_type, Service> server_;
};

}  // namespace fedagent::fedbiomed
