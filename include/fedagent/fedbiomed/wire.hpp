#pragma once

#include <array>
#include <boost/system/result.hpp>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "fedagent/fedbiomed/feedback.hpp"
#include "fedagent/fedbiomed/protobuf.hpp"

/// @file
/// The protobuf messages of the service (c.2). Fields that are not known are skipped.

namespace fedagent::fedbiomed {

/// What a node says when it polls.
struct TaskRequest {
  std::string node{};
  std::string protocol_version{};
};

/// A piece of a message: TaskResponse towards the node, TaskResult from it.
struct Chunk {
  /// How many chunks the message has.
  std::int32_t size = 0;
  /// Which one this is, from 1 on.
  std::int32_t iteration = 0;
  /// A view into what was decoded.
  std::string_view bytes{};
};

/// What stands before the bytes of an encoded chunk, so that the bytes can be sent from where they
/// are.
class ChunkHead {
 public:
  explicit ChunkHead(const Chunk& chunk) noexcept {
    using detail::WireType;
    if (chunk.size != 0) {
      put(detail::tag(1, WireType::varint));
      put(detail::varint_of(chunk.size));
    }
    if (chunk.iteration != 0) {
      put(detail::tag(2, WireType::varint));
      put(detail::varint_of(chunk.iteration));
    }
    if (!chunk.bytes.empty()) {
      put(detail::tag(3, WireType::bytes));
      put(chunk.bytes.size());
    }
  }

  std::string_view bytes() const noexcept { return {bytes_.data(), size_}; }

 private:
  void put(std::uint64_t value) noexcept {
    size_ =
        static_cast<std::size_t>(detail::put_varint(bytes_.data() + size_, value) - bytes_.data());
  }

  std::array<char, 3 * (1 + detail::max_varint)> bytes_;
  std::size_t size_ = 0;
};

/// @par Errors `bad_protobuf`, `bad_utf8`.
inline boost::system::result<TaskRequest> decode_task_request(std::string_view bytes) {
  TaskRequest request;
  boost::system::error_code error;
  const bool whole = detail::read_fields(bytes, error, [&](const detail::ProtobufField& field) {
    if (field.is(1, detail::WireType::bytes)) {
      detail::take_text(field, request.node, error);
    } else if (field.is(2, detail::WireType::bytes)) {
      detail::take_text(field, request.protocol_version, error);
    }
  });
  if (!whole) {
    return error;
  }
  return request;
}

/// @par Lifetimes The chunk has a view into `bytes`.
/// @par Errors `bad_protobuf`.
inline boost::system::result<Chunk> decode_chunk(std::string_view bytes) {
  Chunk chunk;
  boost::system::error_code error;
  const bool whole = detail::read_fields(bytes, error, [&](const detail::ProtobufField& field) {
    if (field.is(1, detail::WireType::varint)) {
      chunk.size = field.as_int32();
    } else if (field.is(2, detail::WireType::varint)) {
      chunk.iteration = field.as_int32();
    } else if (field.is(3, detail::WireType::bytes)) {
      chunk.bytes = field.bytes_value;
    }
  });
  if (!whole) {
    return error;
  }
  return chunk;
}

inline std::string encode(const TaskRequest& request) {
  return detail::ProtobufWriter()
      .string(1, request.node)
      .string(2, request.protocol_version)
      .take();
}

/// The whole of an encoded chunk, with a copy of its bytes; `ChunkHead` does without.
inline std::string encode(const Chunk& chunk) {
  return std::string(ChunkHead(chunk).bytes()).append(chunk.bytes);
}

}  // namespace fedagent::fedbiomed
