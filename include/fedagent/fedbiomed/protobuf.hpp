#pragma once

#include <array>
#include <bit>
#include <boost/system/error_code.hpp>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "fedagent/fedbiomed/error.hpp"
#include "fedagent/fedbiomed/utf8.hpp"

/// @file
/// As much of protobuf as the few messages of this wire need. A codec of our own keeps the library
/// free of generated code, and gives views of what it reads.

namespace fedagent::fedbiomed::detail {

enum class WireType : std::uint8_t {
  varint = 0,
  fixed64 = 1,
  bytes = 2,
  group = 3,
  group_end = 4,
  fixed32 = 5
};

/// A field as it stands in the bytes.
struct ProtobufField {
  std::uint32_t number = 0;
  WireType type = WireType::varint;
  /// Of a varint, a fixed64 or a fixed32.
  std::uint64_t number_value = 0;
  std::string_view bytes_value{};

  bool is(std::uint32_t wanted, WireType wanted_type) const noexcept {
    return number == wanted && type == wanted_type;
  }
  std::int32_t as_int32() const noexcept {
    return static_cast<std::int32_t>(static_cast<std::uint32_t>(number_value));
  }
  bool as_bool() const noexcept { return number_value != 0; }
  float as_float() const noexcept {
    return std::bit_cast<float>(static_cast<std::uint32_t>(number_value));
  }
};

/// Gives the fields of a message one after another; groups are skipped.
class ProtobufReader {
 public:
  explicit ProtobufReader(std::string_view bytes) noexcept : rest_(bytes) {}

  /// Whether there was one more field. False at the end, and at a fault: then `failed` is true.
  bool next(ProtobufField& field) noexcept {
    while (!failed_ && !rest_.empty()) {
      if (!take_tag(field) || field.type == WireType::group_end) {
        failed_ = true;
      } else if (field.type == WireType::group) {
        failed_ = !skip_group(field.number);
      } else {
        failed_ = !take_value(field);
        return !failed_;
      }
    }
    return false;
  }
  bool failed() const noexcept { return failed_; }

 private:
  // The limits of protobuf itself: of groups in each other, and of the bytes of a tag or a size.
  static constexpr std::size_t max_groups = 100;
  static constexpr std::size_t max_short = 5;

  bool take_varint(std::uint64_t& value, std::size_t max_bytes = 10) noexcept {
    value = 0;
    for (std::size_t i = 0; i < max_bytes && !rest_.empty(); ++i) {
      const auto byte = static_cast<unsigned char>(rest_.front());
      rest_.remove_prefix(1);
      value |= std::uint64_t{byte & 0x7fU} << (7 * i);
      if (byte < 0x80) {
        return true;
      }
    }
    return false;
  }

  bool take_fixed(std::size_t size, std::uint64_t& value) noexcept {
    if (rest_.size() < size) {
      return false;
    }
    value = 0;
    for (std::size_t i = size; i > 0; --i) {
      value = (value << 8U) | static_cast<unsigned char>(rest_[i - 1]);
    }
    rest_.remove_prefix(size);
    return true;
  }

  bool take_tag(ProtobufField& field) noexcept {
    std::uint64_t value = 0;
    if (!take_varint(value, max_short)) {
      return false;
    }
    const auto tag = static_cast<std::uint32_t>(value);  // of 35 bits, as protobuf does
    field.number = tag >> 3U;
    field.type = static_cast<WireType>(tag & 7U);
    return field.number != 0 && field.type <= WireType::fixed32;
  }

  bool take_value(ProtobufField& field) noexcept {
    switch (field.type) {
      case WireType::varint:
        return take_varint(field.number_value);
      case WireType::fixed64:
        return take_fixed(8, field.number_value);
      case WireType::fixed32:
        return take_fixed(4, field.number_value);
      case WireType::bytes: {
        std::uint64_t size = 0;
        if (!take_varint(size, max_short) || size > rest_.size()) {
          return false;
        }
        field.bytes_value = rest_.substr(0, static_cast<std::size_t>(size));
        rest_.remove_prefix(field.bytes_value.size());
        return true;
      }
      case WireType::group:
      case WireType::group_end:
        break;
    }
    return false;
  }

  bool skip_group(std::uint32_t number) noexcept {
    std::array<std::uint32_t, max_groups> open{number};
    std::size_t depth = 1;
    while (depth > 0) {
      ProtobufField field;
      if (!take_tag(field)) {
        return false;
      }
      if (field.type == WireType::group) {
        if (depth == open.size()) {
          return false;
        }
        open[depth++] = field.number;
      } else if (field.type == WireType::group_end) {
        if (open[--depth] != field.number) {
          return false;
        }
      } else if (!take_value(field)) {
        return false;
      }
    }
    return true;
  }

  std::string_view rest_;
  bool failed_ = false;
};

inline constexpr std::size_t max_varint = 10;

/// Writes a varint. @pre There is room for `max_varint` bytes. @return The end of it.
inline char* put_varint(char* at, std::uint64_t value) noexcept {
  while (value >= 0x80) {
    *at++ = static_cast<char>(static_cast<unsigned char>(value | 0x80U));
    value >>= 7U;
  }
  *at++ = static_cast<char>(static_cast<unsigned char>(value));
  return at;
}

constexpr std::uint64_t tag(std::uint32_t number, WireType type) noexcept {
  return (std::uint64_t{number} << 3U) | static_cast<std::uint64_t>(type);
}

/// As protobuf does: a negative int32 takes ten bytes.
constexpr std::uint64_t varint_of(std::int32_t value) noexcept {
  return static_cast<std::uint64_t>(std::int64_t{value});
}

/// Appends fields to a message. What has its default value is left out, unless `always` is asked.
class ProtobufWriter {
 public:
  enum class Presence { implicit, always };
  using enum Presence;

  ProtobufWriter& string(std::uint32_t number, std::string_view text,
                         Presence presence = implicit) {
    if (presence == always || !text.empty()) {
      varint(tag(number, WireType::bytes));
      varint(text.size());
      bytes_ += text;
    }
    return *this;
  }
  ProtobufWriter& int32(std::uint32_t number, std::int32_t value, Presence presence = implicit) {
    if (presence == always || value != 0) {
      varint(tag(number, WireType::varint));
      varint(varint_of(value));
    }
    return *this;
  }
  ProtobufWriter& boolean(std::uint32_t number, bool value) { return int32(number, value ? 1 : 0); }
  ProtobufWriter& float32(std::uint32_t number, float value) {
    varint(tag(number, WireType::fixed32));
    auto bits = std::bit_cast<std::uint32_t>(value);
    for (int i = 0; i < 4; ++i, bits >>= 8U) {
      bytes_ += static_cast<char>(static_cast<unsigned char>(bits & 0xffU));
    }
    return *this;
  }

  std::string take() noexcept { return std::move(bytes_); }

 private:
  void varint(std::uint64_t value) {
    std::array<char, max_varint> buffer{};
    const auto* const end = put_varint(buffer.data(), value);
    // One by one: GCC 12 takes the size of an append for one that could be endless.
    for (const auto* byte = buffer.data(); byte != end; ++byte) {
      bytes_ += *byte;
    }
  }

  std::string bytes_;
};

/// Runs `take` for each field. @return Whether all was well; else the error is in `error`.
template <class Take>
bool read_fields(std::string_view bytes, boost::system::error_code& error, Take take) {
  ProtobufReader reader(bytes);
  ProtobufField field;
  while (!error && reader.next(field)) {
    take(field);
  }
  if (!error && reader.failed()) {
    error = errc::bad_protobuf;
  }
  return !error;
}

inline void take_text(const ProtobufField& field, std::string& into,
                      boost::system::error_code& error) {
  if (is_utf8(field.bytes_value)) {
    into = field.bytes_value;
  } else {
    error = errc::bad_utf8;
  }
}

}  // namespace fedagent::fedbiomed::detail
