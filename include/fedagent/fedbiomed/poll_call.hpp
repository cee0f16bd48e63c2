#pragma once

#include "fedagent/fedbiomed/service.hpp"

namespace fedagent::fedbiomed::detail {

/// GetTaskUnary: a poll. It hands out tasks until its time is over (E1, E2, E5 to E12).
/**
 * The coroutine holds the call; the state outlives it.
 */
template <class State>
class PollCall {
  using Store = typename State::Store;
  using Clock = typename Store::clock_type;
  using Call = grpc::Call<typename State::executor_type>;
  using Message_ = typename Store::message_type;
  using CallPtr = std::shared_ptr<Call>;
  template <class T>
  using awaitable = typename Store::template awaitable<T>;

 public:
  /// What the node says is looked at now; a coroutine does the rest.
  static std::optional<awaitable<void>> serve(State* state, CallPtr call) {
    ::grpc::ByteBuffer bytes;
    if (const auto error = read_message(*call, bytes)) {
      return refuse(*call, status_of(error));
    }
    auto request = decode_task_request(grpc::Bytes(bytes).view());
    if (!request) {
      return refuse(*call, status_of(request.error()));
    }
    const auto version = parse_version(request->protocol_version);
    if (!version) {
      return refuse(*call, wrong_version(request->protocol_version));
    }
    if (const auto refused = check_peer(*state, *call, request->node)) {
      return refuse(*call, status_of(refused));
    }
    return serve_node(state, std::move(call), std::move(request->node), *version);
  }

 private:
  static std::nullopt_t refuse(Call& call, const ::grpc::Status& why) {
    call.finish(why);
    return std::nullopt;
  }

  static awaitable<void> serve_node(State* state, CallPtr call, std::string node, Version version) {
    co_await boost::asio::this_coro::throw_if_cancelled(false);
    auto polling = poll(state, call, node, version);
    const auto why = co_await std::move(polling);
    call->finish(status_of(why));
  }

  static awaitable<boost::system::error_code> poll(State* state, CallPtr call,
                                                   const std::string& node, Version version) {
    const auto agent = state->store->retrieve(node);
    if (!agent) {
      co_return agent.error();
    }
    if (state->store == nullptr) {
      co_return make_error_code(fedagent::errc::stopped);  // by the user's admission
    }
    state->nodes.tidy(state->store->size(),
                      [&](const auto& id) { return state->store->get(id).has_value(); });
    NodeTable::OpenPoll open(state->nodes, node, version, call->peer());
    fedagent::Poll poll(*agent, open.session());
    auto until = Clock::time_point::max();
    boost::system::error_code why;
    while (!why) {
      auto taking = poll.get_task(until);
      auto task = co_await std::move(taking);
      if (!task) {
        // A task that is on its way yet cannot be confirmed, and more may follow it meanwhile.
        if (task.error() == fedagent::errc::poll_ended && until <= Clock::now() &&
            call->writing()) {
          until = to_confirm(*state);
        } else {
          why = task.error();
        }
        continue;
      }
      const auto message = task->message();
      if (!is_for_node(*state, version, *message)) {
        task->not_encodable();
        continue;
      }
      // Not `Call::write`: it would take a coroutine for each task.
      const ChunkSplitter chunks(message->bytes(), state->options.chunk_size);
      for (std::int32_t i = 1; !why && i <= chunks.count(); ++i) {
        if (call->writing()) {
          auto flushing = Call::flush(call);
          const auto flushed = co_await std::move(flushing);
          why = flushed.error();
        }
        if (!why) {
          auto chunk = to_buffer(chunks.chunk(i), message);
          why = call->try_write(chunk);
        }
      }
      if (!why) {
        task->delivered();
        until = to_confirm(*state);
      }
    }
    if (why == fedagent::errc::poll_ended) {
      // A large task may be on its way yet: the node is not to be taken for one that has left.
      auto flushing = Call::flush(call);
      if (const auto flushed = co_await std::move(flushing); !flushed) {
        co_return flushed.error();
      }
      open.ends_well();
    }
    co_return why;
  }

  /// Else the node would take it for an attack, or refuse it.
  static bool is_for_node(const State& state, Version version, const Message_& message) {
    return message.researcher_id() == state.researcher_id &&
           message.protocol_version() == to_string(version);
  }

  static ::grpc::ByteBuffer to_buffer(const Chunk& chunk, const MessagePtr<Message_>& message) {
    constexpr std::size_t small = 4096;
    const ChunkHead head(chunk);
    if (chunk.bytes.size() > small) {
      const std::array slices{grpc::copied_slice(head.bytes()),
                              grpc::shared_slice(chunk.bytes, message)};
      return grpc::byte_buffer(slices);
    }
    // In one piece: one allocation.
    const auto before = head.bytes().size();
    // Not const: a short slice has its bytes within itself.
    std::array slices{::grpc::Slice(before + chunk.bytes.size())};
    auto* const to = reinterpret_cast<char*>(const_cast<std::uint8_t*>(slices.front().begin()));
    head.bytes().copy(to, before);
    chunk.bytes.copy(to + before, chunk.bytes.size());
    return grpc::byte_buffer(slices);
  }

  static typename Clock::time_point to_confirm(const State& state) {
    return fedagent::detail::time_after(Clock::now(), state.options.confirm_after);
  }
};

}  // namespace fedagent::fedbiomed::detail
