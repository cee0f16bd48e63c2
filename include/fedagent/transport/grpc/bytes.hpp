#pragma once

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/slice.h>

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>
#include <utility>

namespace fedagent::grpc {

/// A message of gRPC as one piece of memory; copied only when it is in several pieces.
/**
 * @par Lifetimes
 * The view is valid as long as this object is.
 */
class Bytes {
 public:
  Bytes() = default;
  explicit Bytes(const ::grpc::ByteBuffer& buffer) {
    if (!buffer.TrySingleSlice(&slice_).ok()) {
      good_ = buffer.DumpToSingleSlice(&slice_).ok();
    }
  }

  /// Whether gRPC could read its own buffer.
  bool good() const noexcept { return good_; }
  std::string_view view() const noexcept {
    return {reinterpret_cast<const char*>(slice_.begin()), slice_.size()};
  }

 private:
  ::grpc::Slice slice_{};
  bool good_ = true;
};

/// A copy of the bytes.
inline ::grpc::Slice copied_slice(std::string_view bytes) { return {bytes.data(), bytes.size()}; }

/// The bytes themselves, which `owner` keeps alive until gRPC has written them.
/**
 * Below a size a copy is cheaper than an owner that threads share.
 */
template <class Owner>
::grpc::Slice shared_slice(std::string_view bytes, std::shared_ptr<Owner> owner) {
  constexpr std::size_t worth_sharing = 4096;
  if (bytes.size() < worth_sharing) {
    return copied_slice(bytes);
  }
  auto* const kept = new std::shared_ptr<Owner>(std::move(owner));
  // gRPC does not write to it.
  auto* const data = const_cast<char*>(bytes.data());
  return {data, bytes.size(), [](void* user) { delete static_cast<std::shared_ptr<Owner>*>(user); },
          kept};
}

/// A message of these pieces.
inline ::grpc::ByteBuffer byte_buffer(std::span<const ::grpc::Slice> slices) {
  return {slices.data(), slices.size()};
}

/// A message without any byte, such as one of protobuf whose fields have their defaults.
inline ::grpc::ByteBuffer empty_message() {
  const ::grpc::Slice none;
  return {&none, 1};
}

}  // namespace fedagent::grpc
