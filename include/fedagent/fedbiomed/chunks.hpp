#pragma once

#include <algorithm>
#include <boost/system/result.hpp>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "fedagent/fedbiomed/error.hpp"
#include "fedagent/fedbiomed/wire.hpp"

namespace fedagent::fedbiomed {

/// The most bytes of a chunk: 4,000,000 with all that protobuf puts before them.
inline constexpr std::size_t chunk_size = 3'999'967;

/// Cuts an encoded message into chunks (c.3).
/**
 * @par Lifetimes
 * The bytes must outlive it and the chunks.
 */
class ChunkSplitter {
 public:
  /// @pre The bytes are not empty; they make at most 2^31 - 1 pieces.
  explicit ChunkSplitter(std::string_view bytes, std::size_t piece = chunk_size) noexcept
      : bytes_(bytes), piece_(piece) {}

  std::int32_t count() const noexcept {
    return static_cast<std::int32_t>((bytes_.size() + piece_ - 1) / piece_);
  }
  /// @pre From 1 to `count`.
  Chunk chunk(std::int32_t iteration) const noexcept {
    return {count(), iteration,
            bytes_.substr(static_cast<std::size_t>(iteration - 1) * piece_, piece_)};
  }

 private:
  std::string_view bytes_;
  std::size_t piece_;
};

/// Joins the chunks of the messages that come one after another in a stream (c.3, E13, E16).
/**
 * The memory follows what has arrived, not what a chunk claims: it is less than four times of it,
 * or less than 256 KiB. Until a message is whole, at most a third of it is copied, if no chunk is
 * larger than the first.
 */
class ChunkJoiner {
 public:
  static constexpr std::size_t least_room = std::size_t{64} << 10U;

  /// @param max_message The most bytes of a message.
  explicit ChunkJoiner(std::size_t max_message) noexcept : max_message_(max_message) {}

  /// Goes on with a chunk.
  /**
   * @pre A message that was whole has been taken.
   * @return Whether the message is whole now.
   * @par Errors
   * `bad_chunk_count`, `bad_chunk_order`, `chunk_size_changed`, `empty_chunk`,
   * `message_too_large`. What had come of the message is gone then: end the stream.
   */
  boost::system::result<bool> add(std::int32_t size, std::int32_t iteration,
                                  std::string_view bytes) {
    return add(size, iteration, std::span(&bytes, 1));
  }
  /// As above, with the bytes of the chunk in several pieces.
  boost::system::result<bool> add(std::int32_t size, std::int32_t iteration,
                                  std::span<const std::string_view> pieces) {
    std::size_t fresh = 0;
    for (const auto piece : pieces) {
      fresh += piece.size();
    }
    if (const auto error = check(size, iteration, fresh)) {
      clear();
      return {boost::system::in_place_error, error};
    }
    make_room(size, fresh);
    count_ = size;
    joined_ = iteration;
    for (const auto piece : pieces) {
      bytes_.append(piece);
    }
    return joined_ == count_;
  }

  /// The message. @pre `add` has returned true.
  std::string take() noexcept {
    std::string whole = std::move(bytes_);
    clear();
    return whole;
  }

  /// Whether a part of a message is there: a stream that ends now is truncated.
  bool begun() const noexcept { return joined_ > 0; }
  /// The memory that it takes, in bytes.
  std::size_t room() const noexcept { return bytes_.capacity(); }

 private:
  boost::system::error_code check(std::int32_t size, std::int32_t iteration,
                                  std::size_t fresh) const noexcept {
    if (size <= 0) {
      return errc::bad_chunk_count;
    }
    if (begun() && size != count_) {
      return errc::chunk_size_changed;
    }
    if (joined_ == size || iteration != joined_ + 1) {
      return errc::bad_chunk_order;
    }
    if (fresh == 0) {
      return errc::empty_chunk;
    }
    if (fresh > max_message_ - bytes_.size()) {
      return errc::message_too_large;
    }
    return {};
  }

  // What is expected in all, or a quarter of it, or a quarter of that, and so on: the last step
  // ends at the whole.
  void make_room(std::int32_t count, std::size_t fresh) {
    if (!begun()) {
      // Chunks are alike, but for the last one.
      const auto chunks = static_cast<std::size_t>(count);
      expected_ = fresh <= max_message_ / chunks ? fresh * chunks : max_message_;
    }
    const auto needed = bytes_.size() + fresh;
    if (needed <= bytes_.capacity() || needed > expected_) {
      return;  // beyond what was expected the string grows by itself
    }
    auto room = expected_;
    while (room / 4 >= std::max(needed, least_room)) {
      room /= 4;
    }
    bytes_.reserve(room);
  }

  void clear() noexcept {
    bytes_ = {};
    count_ = 0;
    joined_ = 0;
  }

  std::string bytes_;
  std::size_t max_message_;
  std::size_t expected_ = 0;
  std::int32_t count_ = 0;
  std::int32_t joined_ = 0;
};

}  // namespace fedagent::fedbiomed
