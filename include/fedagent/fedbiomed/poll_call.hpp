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
  template <class T>
  using awaitable = typename Store::template awaitable<T>;
  template <class T>
  using result = boost::system::result<T>;

 public:
  static awaitable<void> serve(State* state, std::shared_ptr<Call> call) {
    co_await boost::asio::this_coro::throw_if_cancelled(false);
    auto reading = Call::read(call);
    const auto bytes = co_await std::move(reading);
    if (!bytes) {
      co_return call->finish(bytes.error() == boost::asio::error::eof
                                 ? status_of(errc::bad_protobuf)
                                 : status_of(bytes.error()));
    }
    const auto request = decode_task_request(grpc::Bytes(*bytes).view());
    if (!request) {
      co_return call->finish(status_of(request.error()));
    }
    const auto version = parse_version(request->protocol_version);
    if (!version) {
      co_return call->finish(wrong_version(request->protocol_version));
    }
    if (const auto refused = check_peer(*state, *call, request->node)) {
      co_return call->finish(status_of(refused));
    }
    auto polling = poll(state, call, *request, *version);
    const auto why = co_await std::move(polling);
    call->finish(status_of(why));
  }

 private:
  static awaitable<boost::system::error_code> poll(State* state, std::shared_ptr<Call> call,
                                                   const TaskRequest& request, Version version) {
    const auto agent = state->store->retrieve(request.node);
    if (!agent) {
      co_return agent.error();
    }
    if (state->store == nullptr) {
      co_return make_error_code(fedagent::errc::stopped);  // by the user's admission
    }
    state->nodes.tidy(state->store->size(),
                      [&](const auto& id) { return state->store->get(id).has_value(); });
    NodeTable::OpenPoll open(state->nodes, request.node, version, call->peer());
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
      if (!is_for_node(*state, version, *task->message())) {
        task->not_encodable();
        continue;
      }
      Delivery delivery(*state, task->message());
      auto written = delivery.write_to(*call);
      while (written == boost::asio::error::would_block) {
        auto flushing = Call::flush(call);
        const auto flushed = co_await std::move(flushing);
        written = flushed ? delivery.write_to(*call) : flushed.error();
      }
      if (written) {
        why = written;
      } else {
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

  /// A task on its way to the node, chunk by chunk.
  class Delivery {
   public:
    Delivery(const State& state, const MessagePtr<Message_>& message)
        : message_(message), chunks_(message->bytes(), state.options.chunk_size) {}

    /// Goes on. @return `would_block`: not before gRPC has taken the chunk before.
    boost::system::error_code write_to(Call& call) {
      for (; next_ <= chunks_.count(); ++next_) {
        if (call.writing()) {
          return boost::asio::error::would_block;
        }
        auto chunk = to_buffer(chunks_.chunk(next_), message_);
        if (const auto error = call.try_write(chunk)) {
          return error;
        }
      }
      return {};
    }

   private:
    MessagePtr<Message_> message_;
    ChunkSplitter chunks_;
    std::int32_t next_ = 1;
  };

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
    const std::array slices{::grpc::Slice(before + chunk.bytes.size())};
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
