#pragma once

#include <grpcpp/support/byte_buffer.h>

#include <array>
#include <cstddef>

namespace fedagent::grpc::detail {

/// Messages of a call that were read ahead.
/**
 * gRPC's buffers can be swapped and copied, but not moved: a ring buffer of a library would copy
 * each message, and a `std::deque` allocates when it is made.
 */
class Inbox {
 public:
  bool empty() const noexcept { return count_ == 0; }
  /// Whether to read on. One large message is enough.
  bool has_room() const noexcept {
    constexpr std::size_t most_bytes = 64U << 10U;
    return count_ < messages_.size() && bytes_ < most_bytes;
  }

  /// Takes the message. @pre There is room.
  void push(::grpc::ByteBuffer& message) {
    bytes_ += message.Length();
    messages_[(first_ + count_++) % messages_.size()].Swap(&message);
  }
  /// Gives the oldest message. @pre Not empty, and `message` is.
  void pop(::grpc::ByteBuffer& message) {
    messages_[first_].Swap(&message);
    bytes_ -= message.Length();
    first_ = (first_ + 1) % messages_.size();
    --count_;
  }

 private:
  std::array<::grpc::ByteBuffer, 8> messages_{};
  std::size_t first_ = 0;
  std::size_t count_ = 0;
  std::size_t bytes_ = 0;
};

}  // namespace fedagent::grpc::detail
