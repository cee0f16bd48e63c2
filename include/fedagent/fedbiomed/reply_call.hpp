#pragma once

#include "fedagent/fedbiomed/received_chunk.hpp"
#include "fedagent/fedbiomed/service.hpp"

namespace fedagent::fedbiomed::detail {

/// ReplyTask: replies, and messages from node to node (E13 to E17, E20).
/** Nodes send one message in a call, of one chunk unless it is large. */
template <class State>
class ReplyCall {
  using Store = typename State::Store;
  using Call = grpc::Call<typename State::executor_type>;
  using CallPtr = std::shared_ptr<Call>;
  template <class T>
  using awaitable = typename Store::template awaitable<T>;

 public:
  /// Serves what has come already. That is mostly all; if not, a coroutine serves the rest.
  static std::optional<awaitable<void>> serve(State* state, CallPtr call) {
    Incoming incoming(*state);
    auto next = Next::read;
    while (next == Next::read) {
      ::grpc::ByteBuffer bytes;
      const auto error = call->try_read(bytes);
      if (error == boost::asio::error::would_block) {
        break;
      }
      next = error ? ended(*call, incoming, error) : arrived(*call, incoming, bytes);
    }
    if (next == Next::done) {
      return std::nullopt;
    }
    return serve_rest(state, std::move(call), std::move(incoming), next);
  }

 private:
  enum class Next { read, relay, done };

  /// The half-received message, and its part of what all of them may take.
  struct Incoming {
    explicit Incoming(State& of) : state(&of), joiner(of.options.max_message) {}
    Incoming(Incoming&& other) noexcept
        : state(other.state),
          joiner(std::move(other.joiner)),
          message(std::move(other.message)),
          taken(std::exchange(other.taken, 0)) {}
    Incoming& operator=(Incoming&&) = delete;
    ~Incoming() { give_back(); }

    /// @param whole Whether the chunk has made the message whole.
    ::grpc::Status add(const ::grpc::ByteBuffer& buffer, bool& whole) {
      const ReceivedChunk chunk(buffer);
      if (!chunk.good()) {
        return status_of(errc::bad_protobuf);
      }
      const auto limit = state->options.max_incoming_bytes;
      if (limit > 0 && buffer.Length() > limit - std::min(limit, state->incoming_bytes)) {
        return {::grpc::StatusCode::RESOURCE_EXHAUSTED,
                "the server is receiving as many bytes as it can hold"};
      }
      taken += buffer.Length();
      state->incoming_bytes += buffer.Length();
      const auto added = joiner.add(chunk.size(), chunk.iteration(), chunk.pieces());
      whole = added && *added;
      return added ? ::grpc::Status::OK : status_of(added.error());
    }
    std::string take() {
      give_back();
      return joiner.take();
    }
    void give_back() noexcept { state->incoming_bytes -= std::exchange(taken, 0); }

    State* state;
    ChunkJoiner joiner;
    /// The whole one.
    MessagePtr<Message> message{};
    std::uint64_t taken = 0;
  };

  static awaitable<void> serve_rest(State* state, CallPtr call, Incoming incoming, Next next) {
    co_await boost::asio::this_coro::throw_if_cancelled(false);
    while (next != Next::done) {
      if (next == Next::relay) {
        auto relaying =
            serve_reply(*state->store, std::string(incoming.message->source()), incoming.message);
        const auto relayed = co_await std::move(relaying);
        next = answer(*call, incoming, relayed.error());
      } else {
        auto reading = Call::read(call);
        const auto bytes = co_await std::move(reading);
        next = bytes ? arrived(*call, incoming, *bytes) : ended(*call, incoming, bytes.error());
      }
    }
  }

  /// There is no more to read.
  static Next ended(Call& call, const Incoming& incoming, boost::system::error_code why) {
    if (why != boost::asio::error::eof) {
      call.finish(status_of(why));
    } else if (incoming.joiner.begun()) {
      call.finish(status_of(errc::truncated));
    } else {
      call.finish_with(incoming.state->empty);
    }
    return Next::done;
  }

  static Next arrived(Call& call, Incoming& incoming, const ::grpc::ByteBuffer& bytes) {
    bool whole = false;
    auto status = incoming.add(bytes, whole);
    if (status.ok() && whole) {
      status = check(*incoming.state, call, incoming.take(), incoming.message);
    }
    if (!status.ok()) {
      call.finish(status);
      return Next::done;
    }
    if (!whole) {
      return Next::read;
    }
    const auto& message = incoming.message;
    if (!message->destination().empty()) {
      return Next::relay;  // a forwarder of the user may wait
    }
    return answer(call, incoming,
                  try_serve_reply(*incoming.state->store, message->source(), message).error());
  }

  /// Answers the message that was whole.
  static Next answer(Call& call, Incoming& incoming, boost::system::error_code error) {
    incoming.message = nullptr;
    if (error) {
      call.finish(status_of(error));
      return Next::done;
    }
    // To hear of the end of the call would wake this thread once more.
    return call.rest(incoming.state->empty) ? Next::done : Next::read;
  }

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
