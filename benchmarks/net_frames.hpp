#pragma once

// The frames of docs/stream-protocol.md, as far as the network benchmarks need them. Of its own, so
// that the peers and the load do not stand or fall with the library.
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace net {

enum Type : std::uint8_t {
  hello = 1,
  welcome = 2,
  poll = 3,
  task = 4,
  poll_end = 5,
  reply = 6,
  reply_result = 7,
  ping = 10,
  pong = 11,
};

inline constexpr std::size_t head_size = 8;
inline constexpr std::size_t first_chunk_head_size = 18;
inline constexpr std::size_t chunk_index_size = 4;
/// The fixed part of a hello.
inline constexpr std::size_t hello_size = 30;
inline constexpr std::size_t max_small_frame = 2048;
inline constexpr std::uint32_t max_frame = 1U << 20U;
inline constexpr std::uint64_t max_message = std::uint64_t{2} << 30U;
inline constexpr std::size_t chunk_size = std::size_t{256} << 10U;
inline constexpr std::uint32_t magic = 0x46454441;
inline constexpr std::uint16_t version = 1;
inline constexpr std::uint32_t ping_interval_ms = 3000;
inline constexpr std::uint8_t disposition_delivered = 0;

template <class U>
U big_endian(U value) noexcept {
  static_assert(std::endian::native == std::endian::little);
  if constexpr (sizeof(U) == 8) {
    return static_cast<U>(__builtin_bswap64(value));
  } else if constexpr (sizeof(U) == 4) {
    return static_cast<U>(__builtin_bswap32(value));
  } else if constexpr (sizeof(U) == 2) {
    return static_cast<U>(__builtin_bswap16(value));
  } else {
    return value;
  }
}

template <class U>
void put(std::string& out, U value) {
  value = big_endian(value);
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

template <class U>
U take(const char* from) noexcept {
  U value;
  std::memcpy(&value, from, sizeof value);
  return big_endian(value);
}

struct Head {
  std::uint32_t length = 0;
  Type type = hello;
  bool last = false;

  static Head read(const char* from) noexcept {
    return {take<std::uint32_t>(from), static_cast<Type>(from[4]), from[5] != 0};
  }
  bool is_chunk() const noexcept { return type == task || type == reply; }
  bool sound() const noexcept { return length <= (is_chunk() ? max_frame : max_small_frame); }
};

/// What stands after the head of a first chunk.
struct ChunkHead {
  std::uint64_t total = 0;
  std::size_t request_id = 0;
  std::size_t destination = 0;
  std::size_t source = 0;

  static ChunkHead read(const char* from) noexcept {
    return {take<std::uint64_t>(from + 4), take<std::uint16_t>(from + 12),
            take<std::uint16_t>(from + 14), take<std::uint16_t>(from + 16)};
  }
  std::size_t ids() const noexcept { return request_id + destination + source; }
};

inline void put_head(std::string& out, Type type, std::size_t length, bool last = false) {
  put(out, static_cast<std::uint32_t>(length));
  put(out, static_cast<std::uint8_t>(type));
  put(out, static_cast<std::uint8_t>(last ? 1 : 0));
  put(out, std::uint16_t{0});
}

/// A message goes out in this many bytes of body in the first chunk, and then in the others.
inline std::size_t body_in_first_chunk(std::size_t request_id, std::size_t body) noexcept {
  const auto room = chunk_size - first_chunk_head_size - request_id;
  return body < room ? body : room;
}
inline std::size_t body_in_next_chunk(std::size_t rest) noexcept {
  const auto room = chunk_size - chunk_index_size;
  return rest < room ? rest : room;
}

/// All of the first chunk of a message but its body.
inline void put_first_chunk(std::string& out, Type type, std::string_view request_id,
                            std::size_t body) {
  const auto in_first = body_in_first_chunk(request_id.size(), body);
  put_head(out, type, first_chunk_head_size + request_id.size() + in_first, in_first == body);
  put(out, std::uint32_t{0});
  put(out, static_cast<std::uint64_t>(body));
  put(out, static_cast<std::uint16_t>(request_id.size()));
  put(out, std::uint16_t{0});
  put(out, std::uint16_t{0});
  out.append(request_id);
}

/// All of a further chunk but its body.
inline void put_next_chunk(std::string& out, Type type, std::uint32_t index, std::size_t rest) {
  const auto in_this = body_in_next_chunk(rest);
  put_head(out, type, chunk_index_size + in_this, in_this == rest);
  put(out, index);
}

inline void put_hello(std::string& out, std::uint64_t instance, std::string_view node_id) {
  put_head(out, hello, hello_size + node_id.size());
  put(out, magic);
  put(out, version);
  put(out, instance);
  put(out, std::uint32_t{1});
  put(out, max_frame);
  put(out, max_message);
  out.append(node_id);
}

inline void put_welcome(std::string& out) {
  put_head(out, welcome, 22);
  put(out, magic);
  put(out, version);
  put(out, max_frame);
  put(out, max_message);
  put(out, ping_interval_ms);
}

inline void put_reply_result(std::string& out, std::uint8_t disposition) {
  put_head(out, reply_result, 1);
  put(out, disposition);
}

}  // namespace net
