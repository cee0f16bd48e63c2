#pragma once

#include <algorithm>
#include <boost/system/error_code.hpp>
#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>

#include "fedagent/transport/stream/frame.hpp"
#include "fedagent/transport/stream/message.hpp"

namespace fedagent::stream {

/// The bytes that all half-joined messages of a server or a client may take together.
struct Budget {
  /// Zero: no limit.
  std::uint64_t limit = 0;
  std::uint64_t used = 0;

  bool take(std::uint64_t bytes) noexcept {
    if (limit > 0 && bytes > limit - std::min(used, limit)) {
      return false;
    }
    used += bytes;
    return true;
  }
  void give_back(std::uint64_t bytes) noexcept { used -= bytes; }
};

/// Joins the chunks of one message. What they bring is read straight into the message.
/**
 * Call `first` or `next` with what stands before the body, fill what `ids` and `space` give, and
 * `take` the message when it is `whole`.
 *
 * The memory follows what has arrived, with the chunk that begins: the body has room for less than
 * eight times of it, or less than 256 KiB. Until it is whole, at most a seventh of it is copied.
 *
 * @par Lifetimes
 * The budget must outlive it.
 */
class Joiner {
 public:
  static constexpr std::uint64_t least_room = std::uint64_t{32} << 10U;

  explicit Joiner(Budget& budget) noexcept : budget_(&budget) {}
  Joiner(const Joiner&) = delete;
  Joiner& operator=(const Joiner&) = delete;
  ~Joiner() { budget_->give_back(room_); }

  /// Begins the message. @param max_message The limit that was announced to the peer.
  boost::system::error_code first(const FrameHeader& header, const ChunkHead& head,
                                  std::uint64_t max_message) {
    if (head.index != 0) {
      return errc::chunk_out_of_order;
    }
    if (std::max({head.request_id, head.destination, head.source}) > max_id_length) {
      return errc::id_too_long;
    }
    if (head.total > max_message) {
      return errc::message_too_large;
    }
    if (header.length < ChunkHead::encoded_size + head.ids()) {
      return errc::malformed_payload;
    }
    type_ = header.type;
    total_ = head.total;
    message_.request_id.resize(head.request_id);
    message_.destination.resize(head.destination);
    message_.source.resize(head.source);
    return grow(header.length - ChunkHead::encoded_size - head.ids(), header.last);
  }

  /// Goes on with a further chunk.
  boost::system::error_code next(const FrameHeader& header, std::uint32_t index) {
    if (header.type != type_) {
      return errc::message_interrupted;
    }
    if (index != next_index_) {
      return errc::chunk_out_of_order;
    }
    return grow(header.length - ChunkHead::index_size, header.last);
  }

  /// Where the body of the chunk goes.
  std::span<char> space() noexcept {
    return std::span<char>(message_.body).subspan(message_.body.size() - fresh_);
  }
  /// The message as far as it is there; the ids of a first chunk are to be filled in.
  Message& message() noexcept { return message_; }
  const Message& message() const noexcept { return message_; }

  FrameType type() const noexcept { return type_; }
  bool begun() const noexcept { return next_index_ > 0; }
  bool whole() const noexcept { return whole_; }
  Message take() noexcept { return std::move(message_); }

 private:
  boost::system::error_code grow(std::uint64_t fresh, bool last) {
    const std::uint64_t arrived = message_.body.size();
    if (fresh > total_ - arrived) {
      return errc::body_too_long;
    }
    if (last && arrived + fresh < total_) {
      return errc::body_too_short;
    }
    if (fresh == 0 && !(last && next_index_ == 0)) {
      return errc::empty_chunk;
    }
    if (arrived + fresh > room_) {
      const auto wanted = room_for(arrived + fresh);
      if (!budget_->take(wanted - room_)) {
        return errc::too_much_incoming;
      }
      room_ = wanted;
      try {
        message_.body.reserve(static_cast<std::size_t>(wanted));
      } catch (const std::bad_alloc&) {
        return errc::too_much_incoming;
      } catch (const std::length_error&) {
        return errc::message_too_large;
      }
    }
    message_.body.resize(static_cast<std::size_t>(arrived + fresh));
    fresh_ = static_cast<std::size_t>(fresh);
    ++next_index_;
    whole_ = last;
    return {};
  }

  // The whole, or an eighth of it, or an eighth of that, and so on. With steps that end at the
  // whole the last one copies an eighth, and the string does not round it up.
  std::uint64_t room_for(std::uint64_t bytes) const noexcept {
    std::uint64_t room = total_;
    while (room / 8 >= std::max(bytes, least_room)) {
      room /= 8;
    }
    return room;
  }

  Budget* budget_;
  Message message_;
  std::uint64_t total_ = 0;
  std::uint64_t room_ = 0;
  std::size_t fresh_ = 0;
  std::uint32_t next_index_ = 0;
  FrameType type_ = FrameType::error;
  bool whole_ = false;
};

}  // namespace fedagent::stream
