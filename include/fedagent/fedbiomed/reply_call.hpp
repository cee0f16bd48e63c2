#pragma once

#include "fedagent/fedbiomed/received_chunk.hpp"
#include "fedagent/fedbiomed/service.hpp"

namespace fedagent::fedbiomed::detail {

/// ReplyTask: replies, and messages from node to node (E13 to E17, E20).
template <class State>
class ReplyCall {
  using Store = typename State::Store;
  using Call = grpc::Call<typename State::executor_type>;
  template <class T>
  using awaitable = typename Store::template awaitable<T>;

 public:
  static awaitable<void> serve(State* state, std::shared_ptr<Call> call) {
    co_await boost::asio::this_coro::throw_if_cancelled(false);
    Incoming incoming(*state);
    while (true) {
      auto reading = Call::read(call);
      const auto bytes = co_await std::move(reading);
      if (!bytes) {
        if (bytes.error() != boost::asio::error::eof) {
          call->finish(status_of(bytes.error()));
        } else if (incoming.joiner.begun()) {
          call->finish(status_of(errc::truncated));
        } else {
          call->finish_with(state->empty);
        }
        co_return;
      }
      const auto whole = incoming.add(*bytes);
      if (!whole) {
        co_return call->finish(whole.error());
      }
      if (*whole) {
        MessagePtr<Message> message;
        if (const auto checked = check(*state, *call, incoming.take(), message); !checked.ok()) {
          co_return call->finish(checked);
        }
        boost::system::error_code error;
        if (message->destination().empty()) {
          error = try_serve_reply(*state->store, message->source(), message).error();
        } else {  // a forwarder of the user may wait
          auto relaying = serve_reply(*state->store, std::string(message->source()), message);
          const auto relayed = co_await std::move(relaying);
          error = relayed.error();
        }
        if (error) {
          co_return call->finish(status_of(error));
        }
        // Nodes send one message in a call. To hear of its end would wake this thread once more.
        if (call->rest(state->empty)) {
          co_return;
        }
      }
    }
  }

 private:
  /// Whether a chunk has made a message whole, or the status that ends the call.
  class Added {
   public:
    Added(bool whole) : whole_(whole) {}
    Added(::grpc::Status error) : error_(std::move(error)) {}
    explicit operator bool() const noexcept { return error_.ok(); }
    bool operator*() const noexcept { return whole_; }
    const ::grpc::Status& error() const noexcept { return error_; }

   private:
    ::grpc::Status error_{};
    bool whole_ = false;
  };

  /// The half-received message, and its part of what all of them may take.
  struct Incoming {
    explicit Incoming(State& of) : state(&of), joiner(of.options.max_message) {}
    Incoming(const Incoming&) = delete;
    Incoming& operator=(const Incoming&) = delete;
    ~Incoming() { give_back(); }

    Added add(const ::grpc::ByteBuffer& buffer) {
      const ReceivedChunk chunk(buffer);
      if (!chunk.good()) {
        return status_of(errc::bad_protobuf);
      }
      const auto limit = state->options.max_incoming_bytes;
      if (limit > 0 && buffer.Length() > limit - std::min(limit, state->incoming_bytes)) {
        return ::grpc::Status(::grpc::StatusCode::RESOURCE_EXHAUSTED,
                              "the server is receiving as many bytes as it can hold");
      }
      taken += buffer.Length();
      state->incoming_bytes += buffer.Length();
      const auto whole = joiner.add(chunk.size(), chunk.iteration(), chunk.pieces());
      return whole ? Added(*whole) : Added(status_of(whole.error()));
    }
    std::string take() {
      give_back();
      return joiner.take();
    }
    void give_back() noexcept { state->incoming_bytes -= std::exchange(taken, 0); }

    State* state;
    ChunkJoiner joiner;
    std::uint64_t taken = 0;
  };

  static ::grpc::Status check(const State& state, const Call& call, std::string bytes,
                              MessagePtr<Message>& checked) {
    auto message = Message::parse(std::move(bytes));
    if (!message) {
      return status_of(message.error());
    }
    if (!parse_version(message->protocol_version())) {
      return wrong_version(message->protocol_version());
    }
    if (message->source().empty()) {
      return status_of(errc::missing_field);
    }
    if (const auto refused = check_peer(state, call, message->source())) {
      return status_of(refused);
    }
    checked = std::make_shared<const Message>(*std::move(message));
    return ::grpc::Status::OK;
  }
};

}  // namespace fedagent::fedbiomed::detail
