#pragma once

#include <array>
#include <boost/system/error_category.hpp>
#include <boost/system/error_code.hpp>
#include <type_traits>

#include "fedagent/detail/error_category.hpp"

namespace fedagent::stream {

/// Why a connection ended, or was never made. The values go over the wire: they never change.
enum class errc {
  // What is wrong with a frame.

  /// No frame type has this number.
  unknown_frame_type = 1,
  /// A bit that has no meaning in this version is set.
  reserved_bits_set = 2,
  /// The frame is larger than the receiver has announced.
  frame_too_large = 3,
  /// A frame of this type cannot have this length.
  bad_frame_length = 4,
  /// The payload does not have the form that its type asks for.
  malformed_payload = 5,
  /// A frame of this type is not allowed at this point, or in this direction.
  unexpected_frame = 6,

  // What is wrong with a hello.

  /// The peer does not speak this protocol.
  not_fedagent = 7,
  /// The peer speaks another version of it.
  unsupported_version = 8,
  /// The node may not use this node id.
  not_authenticated = 9,
  /// A later connection of the same client is already there.
  stale_connection = 10,

  // What is wrong with a message.

  /// The message is larger than the receiver has announced.
  message_too_large = 11,
  /// A request id, a destination or a source is longer than `max_id_length`.
  id_too_long = 12,
  /// The number of the chunk is not the one that comes next.
  chunk_out_of_order = 13,
  /// A message began before the one before it was whole.
  message_interrupted = 14,
  /// A chunk that is not the only one of its message has no body.
  empty_chunk = 15,
  /// The chunks have more body than the first one announced.
  body_too_long = 16,
  /// The last chunk came before the announced body was whole.
  body_too_short = 17,
  /// The connection ended in the middle of a frame or a message.
  truncated = 18,
  /// The message names another node as its source than the one that sent it.
  foreign_source = 19,
  /// An overlay message without a destination.
  destination_missing = 20,
  /// A reply with a destination.
  destination_unexpected = 21,
  /// A poll came in while one was open.
  poll_already_open = 22,

  // Limits.

  /// The server has `max_connections` connections.
  too_many_connections = 23,
  /// The messages that the server is receiving take `max_incoming_bytes`.
  too_much_incoming = 24,

  // Time.

  /// The first frame did not come within `hello_timeout`.
  hello_timeout = 25,
  /// The rest of a frame did not come within `frame_timeout`.
  frame_timeout = 26,
  /// Nothing came within `peer_timeout`.
  peer_silent = 27,
  /// The peer did not take a frame within `frame_timeout`.
  write_timeout = 28,

  // The rest.

  /// The connection was lost after the message was sent; whether it arrived is not known.
  connection_lost = 29,
  /// The client has no connection now.
  not_connected = 30,
  /// Connecting took longer than `connect_timeout`.
  connect_timeout = 31,
  /// The peer gave a reason that this version does not know.
  unknown_reason = 32,
  /// The peer had a failure of its own.
  internal = 33,
  /// `run` was called while it runs.
  already_running = 34,
};

namespace detail {

inline constexpr auto sentences = std::to_array<fedagent::detail::ErrorSentence<errc>>({
    {errc::unknown_frame_type, "no frame type has this number"},
    {errc::reserved_bits_set, "a reserved bit of a frame header is set"},
    {errc::frame_too_large, "the frame is larger than the receiver allows"},
    {errc::bad_frame_length, "a frame of this type cannot have this length"},
    {errc::malformed_payload, "the payload of the frame is malformed"},
    {errc::unexpected_frame, "a frame of this type is not allowed here"},
    {errc::not_fedagent, "the peer does not speak the fedagent protocol"},
    {errc::unsupported_version, "the peer speaks another version of the fedagent protocol"},
    {errc::not_authenticated, "the peer may not use this node id"},
    {errc::stale_connection, "a later connection of the same client is open"},
    {errc::message_too_large, "the message is larger than the receiver allows"},
    {errc::id_too_long, "an id in the message is too long"},
    {errc::chunk_out_of_order, "a chunk of the message is out of order"},
    {errc::message_interrupted, "a message began before the one before it was whole"},
    {errc::empty_chunk, "a chunk of a longer message is empty"},
    {errc::body_too_long, "the message has more body than it announced"},
    {errc::body_too_short, "the message has less body than it announced"},
    {errc::truncated, "the connection ended in the middle of a frame or a message"},
    {errc::foreign_source, "the message names another node as its source"},
    {errc::destination_missing, "the overlay message has no destination"},
    {errc::destination_unexpected, "the reply has a destination"},
    {errc::poll_already_open, "a poll is open already"},
    {errc::too_many_connections, "the server has its maximum number of connections"},
    {errc::too_much_incoming, "the server is receiving as many bytes as it can hold"},
    {errc::hello_timeout, "the peer did not introduce itself in time"},
    {errc::frame_timeout, "the rest of a frame did not come in time"},
    {errc::peer_silent, "nothing was heard from the peer for too long"},
    {errc::write_timeout, "the peer did not take a frame in time"},
    {errc::connection_lost, "the connection was lost before the message was answered"},
    {errc::not_connected, "the client is not connected"},
    {errc::connect_timeout, "connecting took too long"},
    {errc::unknown_reason, "the peer gave a reason that is not known here"},
    {errc::internal, "the peer had an internal failure"},
    {errc::already_running, "the client is running already"},
});
inline constexpr int last_errc = static_cast<int>(errc::already_running);
static_assert(fedagent::detail::all_have_sentences<errc>(sentences, errc::already_running));

inline constexpr fedagent::detail::ErrorCategory<errc> error_category_instance(0x2d9f4a7be1c35806U,
                                                                               "fedagent.stream",
                                                                               sentences);

}  // namespace detail

/// The category of every `stream::errc`; its name is "fedagent.stream".
inline const boost::system::error_category& error_category() noexcept {
  return detail::error_category_instance;
}

inline boost::system::error_code make_error_code(errc error) noexcept {
  return {static_cast<int>(error), error_category()};
}

}  // namespace fedagent::stream

template <>
struct boost::system::is_error_code_enum<fedagent::stream::errc> : std::true_type {};
