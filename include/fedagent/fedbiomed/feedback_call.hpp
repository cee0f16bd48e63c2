#pragma once

#include "fedagent/fedbiomed/service.hpp"

namespace fedagent::fedbiomed::detail {

/// Feedback: a log line or a metric (E18).
template <class State>
class FeedbackCall {
  using Call = grpc::Call<typename State::executor_type>;

 public:
  static void serve(State& state, Call& call) {
    ::grpc::ByteBuffer bytes;
    if (const auto error = read_message(call, bytes)) {
      return call.finish(status_of(error));
    }
    const auto taken = take(state, call, grpc::Bytes(bytes).view());
    taken.ok() ? call.finish_with(state.empty) : call.finish(taken);
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
