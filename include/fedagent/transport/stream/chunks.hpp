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

/// Reads a chunk straight into the message that it belongs to; see `joiner`.
template <class C>
typename C::template awaitable<boost::system::error_code> read_chunk(C& c,
                                                                     const FrameHeader& header) {
  const bool first = !c.joiner();
  if (first) {
    c.joiner() = std::make_unique<Joiner>(c.incoming());
  }
  std::array<unsigned char, ChunkHead::encoded_size> bytes{};
  const std::size_t head_size = first && header.length >= ChunkHead::encoded_size
                                    ? ChunkHead::encoded_size
                                    : ChunkHead::index_size;
  typename C::template Spaces<1> head_space{boost::asio::buffer(bytes, head_size)};
  boost::system::error_code error;
  if (!c.take(head_space)) {
    auto reading = C::read(c, head_space);
    error = co_await std::move(reading);
    if (error) {
      co_return error;
    }
  }
  const auto head = decode_chunk_head(bytes);
  error = first ? c.joiner()->first(header, head, c.options().limits.max_message)
                : c.joiner()->next(header, head.index);
  if (error) {
    co_return error;
  }
  auto& message = c.joiner()->message();
  const auto space = c.joiner()->space();
  // Of another chunk than the first the ids are there.
  typename C::template Spaces<4> spaces{};
  if (first) {
    spaces[0] = boost::asio::buffer(message.request_id);
    spaces[1] = boost::asio::buffer(message.destination);
    spaces[2] = boost::asio::buffer(message.source);
  }
  spaces[3] = boost::asio::buffer(space.data(), space.size());
  if (!c.take(spaces)) {
    auto reading = C::read(c, spaces);
    error = co_await std::move(reading);
  }
  co_return error;
}

/// Writes a message in chunks; other frames may pass between two of them.
/** The body is not copied; the message must stay as it is until this ends. */
template <class C>
typename C::template awaitable<boost::system::error_code> write_message(C& c, FrameType type,
                                                                        const Message& message) {
  const std::uint64_t total = message.body.size();
  const std::uint64_t chunk_size = std::min(c.options().chunk_size, c.peer_limits().max_frame);
  if (total > c.peer_limits().max_message) {
    co_return errc::message_too_large;
  }
  if (std::max({message.request_id.size(), message.destination.size(), message.source.size()}) >
      max_id_length) {
    co_return errc::id_too_long;
  }
  ChunkHead head{.index = 0,
                 .total = total,
                 .request_id = static_cast<std::uint16_t>(message.request_id.size()),
                 .destination = static_cast<std::uint16_t>(message.destination.size()),
                 .source = static_cast<std::uint16_t>(message.source.size())};
  std::uint64_t before_body = ChunkHead::encoded_size + head.ids();
  std::uint64_t written = 0;
  while (true) {
    const std::uint64_t size = std::min(chunk_size - before_body, total - written);
    const bool last = written + size == total;
    const EncodedHead encoded(
        FrameHeader{static_cast<std::uint32_t>(before_body + size), type, last}, head);
    const auto body = boost::asio::buffer(message.body.data() + written, size);
    if (last && !c.fault()) {
      c.message_ends();
    }
    boost::system::error_code error;
    if (head.index == 0) {
      auto writing =
          C::write(c, encoded,
                   typename C::template Parts<4>{boost::asio::buffer(message.request_id),
                                                 boost::asio::buffer(message.destination),
                                                 boost::asio::buffer(message.source), body});
      error = co_await std::move(writing);
    } else {
      auto writing = C::write(c, encoded, typename C::template Parts<1>{body});
      error = co_await std::move(writing);
    }
    if (error || last) {
      co_return error;
    }
    written += size;
    before_body = ChunkHead::index_size;
    ++head.index;
  }
}

}  // namespace fedagent::stream::detail
