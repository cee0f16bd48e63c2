#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

namespace fedagent::fedbiomed {

/// Writes MessagePack, each value in its shortest form. Its sizes are those of MessagePack: below
/// 2^32.
class MsgpackWriter {
 public:
  MsgpackWriter& nil() { return byte(0xc0); }
  MsgpackWriter& boolean(bool value) { return byte(value ? 0xc3 : 0xc2); }
  MsgpackWriter& integer(std::int64_t value) {
    if (value >= 0) {
      return unsigned_integer(static_cast<std::uint64_t>(value));
    }
    const auto bits = static_cast<std::uint64_t>(value);
    if (value >= -32) {
      return byte(static_cast<unsigned>(bits & 0xffU));
    }
    if (value >= std::numeric_limits<std::int8_t>::min()) {
      return byte(0xd0).big_endian(bits, 1);
    }
    if (value >= std::numeric_limits<std::int16_t>::min()) {
      return byte(0xd1).big_endian(bits, 2);
    }
    if (value >= std::numeric_limits<std::int32_t>::min()) {
      return byte(0xd2).big_endian(bits, 4);
    }
    return byte(0xd3).big_endian(bits, 8);
  }
  MsgpackWriter& string(std::string_view text) {
    if (text.size() < 32) {
      byte(0xa0U | static_cast<unsigned>(text.size()));
    } else {
      sized(0xd9, 0xda, 0xdb, text.size());
    }
    return raw(text);
  }
  MsgpackWriter& binary(std::string_view bytes) {
    return sized(0xc4, 0xc5, 0xc6, bytes.size()).raw(bytes);
  }
  MsgpackWriter& array(std::size_t count) { return container(0x90, 0xdc, count); }
  MsgpackWriter& map(std::size_t count) { return container(0x80, 0xde, count); }
  /// Appends what is encoded already.
  MsgpackWriter& raw(std::string_view encoded) {
    bytes_ += encoded;
    return *this;
  }

  /// What has been written, to append to.
  std::string& bytes() noexcept { return bytes_; }
  std::string take() noexcept { return std::move(bytes_); }

 private:
  MsgpackWriter& unsigned_integer(std::uint64_t value) {
    if (value <= 0x7f) {
      return byte(static_cast<unsigned>(value));
    }
    if (value <= 0xff) {
      return byte(0xcc).big_endian(value, 1);
    }
    if (value <= 0xffff) {
      return byte(0xcd).big_endian(value, 2);
    }
    if (value <= 0xffffffff) {
      return byte(0xce).big_endian(value, 4);
    }
    return byte(0xcf).big_endian(value, 8);
  }
  MsgpackWriter& sized(unsigned one, unsigned two, unsigned four, std::size_t size) {
    if (size <= 0xff) {
      return byte(one).big_endian(size, 1);
    }
    if (size <= 0xffff) {
      return byte(two).big_endian(size, 2);
    }
    return byte(four).big_endian(size, 4);
  }
  MsgpackWriter& container(unsigned small, unsigned two, std::size_t count) {
    if (count < 16) {
      return byte(small | static_cast<unsigned>(count));
    }
    if (count <= 0xffff) {
      return byte(two).big_endian(count, 2);
    }
    return byte(two + 1).big_endian(count, 4);
  }
  MsgpackWriter& byte(unsigned value) {
    bytes_ += static_cast<char>(static_cast<unsigned char>(value));
    return *this;
  }
  MsgpackWriter& big_endian(std::uint64_t value, unsigned size) {
    for (unsigned shift = 8 * size; shift > 0; shift -= 8) {
      byte(static_cast<unsigned>((value >> (shift - 8)) & 0xffU));
    }
    return *this;
  }

  std::string bytes_;
};

}  // namespace fedagent::fedbiomed
