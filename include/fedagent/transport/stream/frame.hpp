#pragma once

#include <array>
#include <boost/system/error_code.hpp>
#include <boost/system/result.hpp>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "fedagent/transport/stream/error.hpp"

namespace fedagent::stream {

inline constexpr std::uint16_t protocol_version = 1;
/// The longest node id, request id, destination or source, in bytes.
inline constexpr std::size_t max_id_length = 1024;

/// What one end of a connection takes; announced in hello and welcome.
struct Limits {
  /// The largest payload of a frame, in bytes. 4 KiB to 64 MiB.
  std::uint32_t max_frame = 1U << 20U;
  /// The largest body of a message, in bytes. At least 1.
  std::uint64_t max_message = std::uint64_t{2} << 30U;
};

enum class FrameType : std::uint8_t {
  hello = 1,
  welcome = 2,
  poll = 3,
  task = 4,
  poll_end = 5,
  reply = 6,
  reply_result = 7,
  feedback = 8,
  overlay = 9,
  ping = 10,
  pong = 11,
  error = 12,
  receipt = 13,
};

/// What stands before each payload: length (4 bytes), type (1), flags (1), zero (2).
struct FrameHeader {
  static constexpr std::size_t encoded_size = 8;

  std::uint32_t length = 0;
  FrameType type = FrameType::error;
  /// Whether this is the last chunk of a message.
  bool last = false;
};

/// What stands before the ids and the body in the first chunk of a message. The other chunks have
/// the index alone before their part of the body.
struct ChunkHead {
  static constexpr std::size_t index_size = 4;
  static constexpr std::size_t encoded_size = 18;

  std::uint32_t index = 0;
  /// The size of the whole body.
  std::uint64_t total = 0;
  std::uint16_t request_id = 0;
  std::uint16_t destination = 0;
  std::uint16_t source = 0;

  std::size_t ids() const noexcept {
    return std::size_t{request_id} + std::size_t{destination} + std::size_t{source};
  }
};

using Bytes = std::span<const unsigned char>;

namespace detail {

/// Appends integers, most significant byte first. @pre There is room.
class Packer {
 public:
  explicit Packer(unsigned char* at) noexcept : at_(at) {}

  template <std::unsigned_integral U>
  Packer& put(U value) noexcept {
    for (std::size_t shift = sizeof(U) * 8; shift > 0; shift -= 8) {
      *at_++ = static_cast<unsigned char>((std::uint64_t{value} >> (shift - 8)) & 0xffU);
    }
    return *this;
  }

 private:
  unsigned char* at_;
};

/// Takes integers and bytes off the front; what goes beyond the end is zero, and noted.
class Unpacker {
 public:
  explicit Unpacker(Bytes bytes) noexcept : rest_(bytes) {}

  template <std::unsigned_integral U>
  U take() noexcept {
    std::uint64_t value = 0;
    for (const auto byte : take_bytes(sizeof(U))) {
      value = (value << 8U) | byte;
    }
    return static_cast<U>(value);
  }
  Bytes take_bytes(std::size_t count) noexcept {
    if (count > rest_.size()) {
      short_ = true;
      rest_ = {};
      return {};
    }
    const auto taken = rest_.first(count);
    rest_ = rest_.subspan(count);
    return taken;
  }
  std::string_view take_text(std::size_t count) noexcept {
    const auto taken = take_bytes(count);
    return {reinterpret_cast<const char*>(taken.data()), taken.size()};
  }
  std::string_view take_rest() noexcept { return take_text(rest_.size()); }
  /// Whether everything was there, and nothing is left.
  bool exact() const noexcept { return !short_ && rest_.empty(); }
  bool ran_short() const noexcept { return short_; }

 private:
  Bytes rest_;
  bool short_ = false;
};

inline constexpr std::uint8_t last_flag = 1;

}  // namespace detail

/// A frame header, and for a chunk what stands before the ids or the body, ready to be written.
class EncodedHead {
 public:
  /// Nothing.
  EncodedHead() noexcept = default;
  explicit EncodedHead(const FrameHeader& header) noexcept : size_(FrameHeader::encoded_size) {
    pack(header);
  }
  /// The head of a chunk; of all but the first one only the index counts.
  EncodedHead(const FrameHeader& header, const ChunkHead& chunk) noexcept
      : size_(FrameHeader::encoded_size +
              (chunk.index == 0 ? ChunkHead::encoded_size : ChunkHead::index_size)) {
    pack(header)
        .put(chunk.index)
        .put(chunk.total)
        .put(chunk.request_id)
        .put(chunk.destination)
        .put(chunk.source);
  }

  Bytes bytes() const noexcept { return Bytes(bytes_).first(size_); }

 private:
  detail::Packer pack(const FrameHeader& header) noexcept {
    detail::Packer packer(bytes_.data());
    packer.put(header.length)
        .put(static_cast<std::uint8_t>(header.type))
        .put(header.last ? detail::last_flag : std::uint8_t{0})
        .put(std::uint16_t{0});
    return packer;
  }

  std::array<unsigned char, FrameHeader::encoded_size + ChunkHead::encoded_size> bytes_{};
  std::size_t size_ = 0;
};

/// Whether frames of this type are chunks of a message.
constexpr bool is_chunk(FrameType type) noexcept {
  return type == FrameType::task || type == FrameType::reply || type == FrameType::overlay;
}

/// Reads a frame header and checks all that can be checked before the payload is there.
/** @param max_frame The receiver's own limit; small frames have smaller ones. */
inline boost::system::result<FrameHeader> decode_frame_header(
    std::span<const unsigned char, FrameHeader::encoded_size> bytes, std::uint32_t max_frame) {
  detail::Unpacker unpacker{bytes};
  FrameHeader header;
  header.length = unpacker.take<std::uint32_t>();
  const auto type = unpacker.take<std::uint8_t>();
  const auto flags = unpacker.take<std::uint8_t>();
  const auto reserved = unpacker.take<std::uint16_t>();
  if (type < static_cast<std::uint8_t>(FrameType::hello) ||
      type > static_cast<std::uint8_t>(FrameType::receipt)) {
    return make_error_code(errc::unknown_frame_type);
  }
  header.type = static_cast<FrameType>(type);
  header.last = flags == detail::last_flag;
  if (reserved != 0 || (flags & ~detail::last_flag) != 0 ||
      (header.last && !is_chunk(header.type))) {
    return make_error_code(errc::reserved_bits_set);
  }
  switch (header.type) {
    case FrameType::poll:
    case FrameType::ping:
    case FrameType::pong:
      max_frame = 0;
      break;
    case FrameType::hello:
    case FrameType::welcome:
    case FrameType::poll_end:
    case FrameType::reply_result:
    case FrameType::error:
    case FrameType::receipt:
      max_frame = 2 * max_id_length;
      break;
    default:
      if (header.length > max_frame) {
        return make_error_code(errc::frame_too_large);
      }
  }
  if (header.length > max_frame ||
      (is_chunk(header.type) && header.length < ChunkHead::index_size)) {
    return make_error_code(errc::bad_frame_length);
  }
  return header;
}

/// Reads the head of a first chunk. @pre The bytes are `ChunkHead::encoded_size` ones.
inline ChunkHead decode_chunk_head(Bytes bytes) noexcept {
  detail::Unpacker unpacker(bytes);
  ChunkHead head;
  head.index = unpacker.take<std::uint32_t>();
  head.total = unpacker.take<std::uint64_t>();
  head.request_id = unpacker.take<std::uint16_t>();
  head.destination = unpacker.take<std::uint16_t>();
  head.source = unpacker.take<std::uint16_t>();
  return head;
}

}  // namespace fedagent::stream
