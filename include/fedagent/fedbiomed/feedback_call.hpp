#pragma once

#include "fedagent/fedbiomed/service.hpp"

namespace fedagent::fedbiomed::detail {

/// Feedback: a log line or a metric (E18).
template <class State>
class FeedbackCall {
  using Store = typename State::Store;
  using Call = grpc::Call<typename State::executor_type>;

 public:
  static typename Store::template awaitable<void> serve(State* state, std::shared_ptr<Call> call) {
    co_await boost::asio::this_coro::throw_if_cancelled(false);
    auto reading = Call::read(call);
    const auto bytes = co_await std::move(reading);
    if (!bytes) {
      co_return call->finish(bytes.error() == boost::asio::error::eof
                                 ? status_of(errc::bad_protobuf)
                                 : status_of(bytes.error()));
    }
    const auto taken = take(*state, *call, grpc::Bytes(*bytes).view());
    taken.ok() ? call->finish_with(state->empty) : call->finish(taken);
  }

 private:
  static ::grpc::Status take(State& state, const Call& call, std::string_view bytes) {
    const auto message = decode_feedback(bytes);
    if (!message) {
      return status_of(message.error());
    }
    if (!parse_version(message->protocol_version)) {
      return wrong_version(message->protocol_version);
    }
    return std::visit([&](const auto& feedback) { return give(state, call, feedback); },
                      message->feedback);
  }

  static ::grpc::Status give(State&, const Call&, std::monostate) {
    return status_of(errc::missing_field);
  }
  template <class Feedback>
  static ::grpc::Status give(State& state, const Call& call, const Feedback& feedback) {
    if (const auto refused = check_peer(state, call, feedback.node_id)) {
      return status_of(refused);
    }
    const auto given = serve_feedback(*state.store, feedback.node_id, feedback);
    // That the observer has no use for it is nothing to the node.
    return given || given.error() == fedagent::errc::no_route ? ::grpc::Status::OK
                                                              : status_of(given.error());
  }
};

}  // namespace fedagent::fedbiomed::detail
