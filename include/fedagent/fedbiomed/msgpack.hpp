#pragma once

#include <bit>
#include <boost/system/result.hpp>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "fedagent/fedbiomed/error.hpp"

namespace fedagent::fedbiomed {

/// What a MessagePack value is, as far as its first byte tells.
enum class MsgpackKind { nil, boolean, integer, floating, string, binary, extension, array, map };

/// A value, or the beginning of an array or a map.
struct MsgpackValue {
  MsgpackKind kind = MsgpackKind::nil;
  /// Of an array or a map: how many values follow that belong to it. A map has two for each entry.
  std::uint64_t children = 0;
  /// Of a string, a binary or an extension: its bytes.
  std::string_view bytes{};
  /// Of a boolean.
  bool truth = false;
  /// Of an integer: whether `integer` is to be read as a negative number in two's complement.
  bool negative = false;
  std::uint64_t integer = 0;
  double floating = 0;
};

/// Reads MessagePack from its beginning on, without making anything of it.
/**
 * @par Lifetimes
 * The bytes must outlive it and what it returns.
 */
class MsgpackReader {
 public:
  explicit MsgpackReader(std::string_view bytes) noexcept : bytes_(bytes) {}

  /// How many bytes have been read.
  std::size_t position() const noexcept { return at_; }
  bool at_end() const noexcept { return at_ == bytes_.size(); }

  /// Reads a value; of an array or a map only its head, what is in it comes next.
  /** @par Errors `truncated`, `bad_msgpack`; an array that cannot be whole is truncated too. */
  boost::system::result<MsgpackValue> next() {
    if (at_end()) {
      return make_error_code(errc::truncated);
    }
    const auto first = static_cast<unsigned char>(bytes_[at_++]);
    if (first <= 0x7f) {
      return MsgpackValue{.kind = MsgpackKind::integer, .integer = first};
    }
    if (first >= 0xe0) {
      return signed_integer(first, 1);
    }
    if (first <= 0x8f) {
      return container(MsgpackKind::map, std::uint64_t{2} * (first & 0x0fU));
    }
    if (first <= 0x9f) {
      return container(MsgpackKind::array, first & 0x0fU);
    }
    if (first <= 0xbf) {
      return body(MsgpackKind::string, first & 0x1fU);
    }
    return of_type(first);
  }

  /// Skips a whole value. Takes no stack and no memory for nesting.
  /** @par Errors As `next`. */
  boost::system::result<void> skip() {
    for (std::uint64_t left = 1; left > 0; --left) {
      const auto value = next();
      if (!value) {
        return value.error();
      }
      left += value->children;
      // Each value takes a byte, so this also keeps the sum far from overflowing.
      if (left - 1 > bytes_.size() - at_) {
        return make_error_code(errc::truncated);
      }
    }
    return {};
  }

 private:
  using Kind = MsgpackKind;
  using Result = boost::system::result<MsgpackValue>;

  Result of_type(unsigned char first) {
    switch (first) {
      case 0xc0:
        return MsgpackValue{};
      case 0xc2:
      case 0xc3:
        return MsgpackValue{.kind = Kind::boolean, .truth = first == 0xc3};
      case 0xc4:
      case 0xc5:
      case 0xc6:
        return sized_body(Kind::binary, 1U << (first - 0xc4U), 0);
      case 0xc7:
      case 0xc8:
      case 0xc9:
        return sized_body(Kind::extension, 1U << (first - 0xc7U), 1);
      case 0xca:
      case 0xcb:
      case 0xcc:
      case 0xcd:
      case 0xce:
      case 0xcf:
      case 0xd0:
      case 0xd1:
      case 0xd2:
      case 0xd3:
        return number(first);
      case 0xd4:
      case 0xd5:
      case 0xd6:
      case 0xd7:
      case 0xd8:
        return body(Kind::extension, 1U + (1U << (first - 0xd4U)));
      case 0xd9:
      case 0xda:
      case 0xdb:
        return sized_body(Kind::string, 1U << (first - 0xd9U), 0);
      case 0xdc:
      case 0xdd:
      case 0xde:
      case 0xdf: {
        std::uint64_t count = 0;
        if (!take_size(first % 2 == 0 ? 2U : 4U, count)) {
          return make_error_code(errc::truncated);
        }
        return first <= 0xdd ? container(Kind::array, count) : container(Kind::map, 2 * count);
      }
      default:
        return make_error_code(errc::bad_msgpack);
    }
  }

  Result number(unsigned char first) {
    const std::size_t size = first <= 0xcb ? 4U << (first - 0xcaU) : 1U << (first % 4U);
    std::uint64_t bits = 0;
    if (!take_size(size, bits)) {
      return make_error_code(errc::truncated);
    }
    if (first == 0xca) {
      const auto value = std::bit_cast<float>(static_cast<std::uint32_t>(bits));
      return MsgpackValue{.kind = Kind::floating, .floating = static_cast<double>(value)};
    }
    if (first == 0xcb) {
      return MsgpackValue{.kind = Kind::floating, .floating = std::bit_cast<double>(bits)};
    }
    if (first <= 0xcf) {
      return MsgpackValue{.kind = Kind::integer, .integer = bits};
    }
    return signed_integer(bits, size);
  }

  static MsgpackValue signed_integer(std::uint64_t bits, std::size_t size) noexcept {
    const auto unused = 64U - 8U * size;
    const auto value = static_cast<std::int64_t>(bits << unused) >> unused;
    return {
        .kind = Kind::integer, .negative = value < 0, .integer = static_cast<std::uint64_t>(value)};
  }

  Result container(Kind kind, std::uint64_t children) const {
    if (children > bytes_.size() - at_) {
      return make_error_code(errc::truncated);
    }
    return MsgpackValue{.kind = kind, .children = children};
  }

  Result body(Kind kind, std::uint64_t size) {
    if (size > bytes_.size() - at_) {
      return make_error_code(errc::truncated);
    }
    const auto bytes = bytes_.substr(at_, static_cast<std::size_t>(size));
    at_ += bytes.size();
    return MsgpackValue{.kind = kind, .bytes = bytes};
  }

  /// @param more What the body has beyond its size: the type of an extension.
  Result sized_body(Kind kind, std::size_t size_of_size, std::size_t more) {
    std::uint64_t size = 0;
    if (!take_size(size_of_size, size)) {
      return make_error_code(errc::truncated);
    }
    return body(kind, size + more);
  }

  bool take_size(std::size_t bytes, std::uint64_t& size) noexcept {
    if (bytes_.size() - at_ < bytes) {
      return false;
    }
    for (const auto end = at_ + bytes; at_ < end; ++at_) {
      size = (size << 8U) | static_cast<unsigned char>(bytes_[at_]);
    }
    return true;
  }

  std::string_view bytes_;
  std::size_t at_ = 0;
};

}  // namespace fedagent::fedbiomed
