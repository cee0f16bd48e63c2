#pragma once

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/slice.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "fedagent/fedbiomed/wire.hpp"
#include "fedagent/transport/grpc/bytes.hpp"

namespace fedagent::fedbiomed::detail {

/// A chunk as gRPC has received it: its bytes in the pieces in which they came, not copied.
/**
 * @par Lifetimes
 * The pieces are valid as long as this object is.
 */
class ReceivedChunk {
 public:
  explicit ReceivedChunk(const ::grpc::ByteBuffer& buffer) {
    if (::grpc::Slice one; buffer.TrySingleSlice(&one).ok()) {
      slices_.push_back(std::move(one));
    } else if (!buffer.Dump(&slices_).ok()) {
      return;
    }
    if (slices_.size() > 1 && take_pieces(buffer.Length())) {
      good_ = true;
      return;
    }
    // One piece, or none; or fields in another order than the usual one, or a head in two pieces.
    if (slices_.size() != 1) {
      slices_.resize(1);
      if (!buffer.DumpToSingleSlice(&slices_.front()).ok()) {
        return;
      }
    }
    const auto chunk = decode_chunk(view(slices_.front()));
    if (chunk) {
      size_ = chunk->size;
      iteration_ = chunk->iteration;
      pieces_.assign(1, chunk->bytes);
      good_ = true;
    }
  }

  /// Whether it is a chunk.
  bool good() const noexcept { return good_; }
  std::int32_t size() const noexcept { return size_; }
  std::int32_t iteration() const noexcept { return iteration_; }
  std::span<const std::string_view> pieces() const noexcept { return pieces_; }

 private:
  static std::string_view view(const ::grpc::Slice& slice) {
    return {reinterpret_cast<const char*>(slice.begin()), slice.size()};
  }

  // The form that every protobuf library writes: size, iteration, and last the bytes.
  bool take_pieces(std::size_t total) {
    const auto first = view(slices_.front());
    std::size_t at = 0;
    const auto size = field(first, at, tag(1, WireType::varint));
    const auto iteration = size ? field(first, at, tag(2, WireType::varint)) : std::nullopt;
    const auto length = iteration ? field(first, at, tag(3, WireType::bytes)) : std::nullopt;
    if (!length || *length != total - at) {
      return false;
    }
    size_ = static_cast<std::int32_t>(static_cast<std::uint32_t>(*size));
    iteration_ = static_cast<std::int32_t>(static_cast<std::uint32_t>(*iteration));
    pieces_.reserve(slices_.size());
    for (const auto& slice : slices_) {
      pieces_.push_back(view(slice).substr(pieces_.empty() ? at : 0));
    }
    return true;
  }

  // The number behind this tag of one byte.
  static std::optional<std::uint64_t> field(std::string_view bytes, std::size_t& at,
                                            std::uint64_t tag) {
    if (at >= bytes.size() || static_cast<unsigned char>(bytes[at]) != tag) {
      return std::nullopt;
    }
    ++at;
    std::uint64_t value = 0;
    for (unsigned shift = 0; at < bytes.size() && shift < 63; shift += 7) {
      const auto byte = static_cast<unsigned char>(bytes[at++]);
      value |= std::uint64_t{byte & 0x7fU} << shift;
      if (byte < 0x80) {
        return value;
      }
    }
    return std::nullopt;
  }

  std::vector<::grpc::Slice> slices_;
  std::vector<std::string_view> pieces_;
  std::int32_t size_ = 0;
  std::int32_t iteration_ = 0;
  bool good_ = false;
};

}  // namespace fedagent::fedbiomed::detail
