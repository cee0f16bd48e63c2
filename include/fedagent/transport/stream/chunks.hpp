#pragma once

#include <algorithm>
#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/system/error_code.hpp>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "fedagent/transport/stream/frame.hpp"
#include "fedagent/transport/stream/joiner.hpp"
#include "fedagent/transport/stream/message.hpp"

// Messages as frames of a `Connection`.
namespace fedagent::stream::detail {

/// Reads a chunk straight into the message that it belongs to, the `joiner`, in two steps.
template <class C>
class ChunkReader {
 public:
  ChunkReader(C& c, const FrameHeader& header) : c_(c), header_(header), first_(!c.joiner()) {
    if (first_) {
      c_.joiner() = std::make_unique<Joiner>(c_.incoming());
    }
    const bool with_ids = first_ && header.length >= ChunkHead::encoded_size;
    head[0] =
        boost::asio::buffer(bytes_, with_ids ? ChunkHead::encoded_size : ChunkHead::index_size);
  }
  ChunkReader(const ChunkReader&) = delete;
  ChunkReader& operator=(const ChunkReader&) = delete;

  /// To be called when the head is full.
  boost::system::error_code head_came() {
    const auto decoded = decode_chunk_head(bytes_);
    const auto error = first_
                           ? c_.joiner()->first(header_, decoded, c_.options().limits.max_message)
                           : c_.joiner()->next(header_, decoded.index);
    if (error) {
      return error;
    }
    auto& message = c_.joiner()->message();
    const auto space = c_.joiner()->space();
    // Of another chunk than the first the ids are there.
    if (first_) {
      rest[0] = boost::asio::buffer(message.request_id);
      rest[1] = boost::asio::buffer(message.destination);
      rest[2] = boost::asio::buffer(message.source);
    }
    rest[3] = boost::asio::buffer(space.data(), space.size());
    return {};
  }

  /// To be filled first, and then.
  typename C::template Spaces<1> head{};
  typename C::template Spaces<4> rest{};

 private:
  C& c_;
  FrameHeader header_;
  bool first_;
  std::array<unsigned char, ChunkHead::encoded_size> bytes_{};
};

/// Reads a chunk.
template <class C>
typename C::template awaitable<boost::system::error_code> read_chunk(C& c,
                                                                     const FrameHeader& header) {
  ChunkReader<C> chunk(c, header);
  boost::system::error_code error;
  if (!c.take(chunk.head)) {
    auto reading = C::read(c, chunk.head);
    error = co_await std::move(reading);
  }
  if (!error) {
    error = chunk.head_came();
  }
  if (!error && !c.take(chunk.rest)) {
    auto reading = C::read(c, chunk.rest);
    error = co_await std::move(reading);
  }
  co_return error;
}

/// Reads a chunk that has come already. @pre All of it has.
template <class C>
boost::system::error_code take_chunk(C& c, const FrameHeader& header) {
  ChunkReader<C> chunk(c, header);
  c.take(chunk.head);
  const auto error = chunk.head_came();
  if (!error) {
    c.take(chunk.rest);
  }
  return error;
}

/// What is wrong with a message, so that it cannot be written; no error when nothing is.
template <class C>
boost::system::error_code check_message(const C& c, const Message& message) {
  if (message.body.size() > c.peer_limits().max_message) {
    return errc::message_too_large;
  }
  if (std::max({message.request_id.size(), message.destination.size(), message.source.size()}) >
      max_id_length) {
    return errc::id_too_long;
  }
  return {};
}

/// A message on its way out, one chunk after the other. The body is not copied.
class Chunks {
 public:
  Chunks(FrameType type, const Message& message, std::uint64_t chunk_size) noexcept
      : message_(message),
        type_(type),
        chunk_size_(chunk_size),
        head_{.index = 0,
              .total = message.body.size(),
              .request_id = static_cast<std::uint16_t>(message.request_id.size()),
              .destination = static_cast<std::uint16_t>(message.destination.size()),
              .source = static_cast<std::uint16_t>(message.source.size())} {}

  bool first() const noexcept { return head_.index == 0; }
  bool last() const noexcept { return written_ + size() == head_.total; }
  EncodedHead head() const noexcept {
    return EncodedHead(
        FrameHeader{static_cast<std::uint32_t>(before_body() + size()), type_, last()}, head_);
  }
  boost::asio::const_buffer body() const noexcept {
    return boost::asio::buffer(message_.body.data() + written_, size());
  }
  void next() noexcept {
    written_ += size();
    ++head_.index;
  }

 private:
  std::uint64_t before_body() const noexcept {
    return first() ? ChunkHead::encoded_size + head_.ids() : ChunkHead::index_size;
  }
  std::uint64_t size() const noexcept {
    return std::min(chunk_size_ - before_body(), head_.total - written_);
  }

  const Message& message_;
  FrameType type_;
  std::uint64_t chunk_size_;
  ChunkHead head_;
  std::uint64_t written_ = 0;
};

template <class C>
Chunks chunks_for(const C& c, FrameType type, const Message& message) {
  return {type, message, std::min(c.options().chunk_size, c.peer_limits().max_frame)};
}
template <class C>
typename C::template Parts<4> first_parts(const Message& message, const Chunks& chunks) {
  return {boost::asio::buffer(message.request_id), boost::asio::buffer(message.destination),
          boost::asio::buffer(message.source), chunks.body()};
}

/// Writes a message of one chunk without waiting, if that is possible; what is left is postponed.
template <class C>
typename C::AtOnce write_message_now(C& c, FrameType type, const Message& message) {
  const auto chunks = chunks_for(c, type, message);
  if (check_message(c, message) || !chunks.last()) {
    return C::AtOnce::nothing;
  }
  const auto written = c.write_now(chunks.head(), first_parts<C>(message, chunks));
  if (written != C::AtOnce::nothing) {
    c.message_ends();
  }
  return written;
}

/// Writes a message in chunks; other frames may pass between two of them.
/** The message must stay as it is until this ends. */
template <class C>
typename C::template awaitable<boost::system::error_code> write_message(C& c, FrameType type,
                                                                        const Message& message) {
  boost::system::error_code error = check_message(c, message);
  for (auto chunks = chunks_for(c, type, message); !error; chunks.next()) {
    const bool last = chunks.last();
    if (last && !c.fault()) {
      c.message_ends();
    }
    if (chunks.first()) {
      auto writing = C::write(c, chunks.head(), first_parts<C>(message, chunks));
      error = co_await std::move(writing);
    } else {
      auto writing = C::write(c, chunks.head(), typename C::template Parts<1>{chunks.body()});
      error = co_await std::move(writing);
    }
    if (last) {
      break;
    }
  }
  co_return error;
}

}  // namespace fedagent::stream::detail
