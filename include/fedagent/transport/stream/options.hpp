#pragma once

#include <boost/system/error_code.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>

#include "fedagent/options.hpp"
#include "fedagent/transport/stream/frame.hpp"
#include "fedagent/transport/stream/payload.hpp"

namespace fedagent::stream {

/// What both ends of a connection go by.
struct ConnectionOptions {
  /// What this end takes from its peer.
  Limits limits{};
  /// The largest chunk that this end writes, in bytes; a ping waits for no more than a MiB and one
  /// chunk. The peer's `max_frame` counts too. 4 KiB to 64 MiB.
  std::uint32_t chunk_size = 256U << 10U;
  /// The time for the first frame of the peer, and for a TLS handshake before it. Above zero, to 1
  /// day.
  Duration hello_timeout = std::chrono::seconds{5};
  /// The time for a frame from its header to its end, in either direction. Above zero, to 1 day.
  Duration frame_timeout = std::chrono::seconds{10};
  /// The longest silence of the peer; it pings. Above zero, to 1 day.
  Duration peer_timeout = std::chrono::seconds{15};
  /// The time for telling the peer why its connection ends. Above zero, to 1 day.
  Duration close_timeout = std::chrono::seconds{1};
};

/// How a server behaves.
struct ServerOptions {
  ConnectionOptions connection{};
  /// How often clients are to ping; no more than half of `peer_timeout`. When a third of the
  /// store's `disconnect_timeout` is less, that counts, so that a node that works is not taken for
  /// a lost one. 1 ms to 1 day.
  Duration ping_interval = std::chrono::seconds{4};
  /// The most connections; one more is told so and closed. At least 1.
  std::size_t max_connections = 10'000;
  /// What all half-received messages may take together, in bytes. Zero: no limit.
  std::uint64_t max_incoming_bytes = std::uint64_t{4} << 30U;
  /// How long accepting pauses after an error such as "too many open files". Above zero, to 1 day.
  Duration accept_pause = std::chrono::milliseconds{100};
  /// Called when a connection ends other than by the peer's leaving it between two messages, with
  /// why; the id is empty before a valid hello. Not called any more once the server is stopped or
  /// destroyed. It must not throw.
  std::function<void(std::string_view node_id, boost::system::error_code error)>
      on_connection_error{};
};

/// How a node client behaves.
/**
 * The hooks run on the client's executor, must not throw, and are not called any more once the
 * client is stopped or destroyed.
 */
struct ClientOptions {
  /// As whom the client introduces itself. 1 to `max_id_length` bytes.
  std::string node_id{};
  ConnectionOptions connection{};
  /// The time for one attempt to connect. Above zero, to 1 day.
  Duration connect_timeout = std::chrono::seconds{10};
  /// The pause before the second attempt; it doubles with every further one that fails. 1 ms to 1
  /// day.
  Duration least_pause = std::chrono::milliseconds{100};
  /// The longest pause. `least_pause` to 1 day.
  Duration longest_pause = std::chrono::seconds{30};
  /// The part of a pause that is left to chance, so that nodes do not come back all together. 0 to
  /// 1.
  double pause_jitter = 0.5;
  /// The most replies that wait for the server's answer; with more, the client takes no tasks. At
  /// least 1.
  std::size_t max_unanswered = 8;
  /// The seed of what is left to chance. Zero: a random one.
  std::uint64_t seed = 0;
  /// Called when the server has accepted this client.
  std::function<void()> on_connected{};
  /// Called when a connection was lost or could not be made, with why.
  std::function<void(boost::system::error_code error)> on_disconnected{};
  /// Called when the handler threw, or returned an error: that task gets no reply.
  std::function<void(std::string_view request_id, std::exception_ptr error)> on_handler_error{};
  /// Called with what the server says to each reply, and to each overlay message.
  std::function<void(std::string_view request_id, const ReplyResult& result)> on_reply_result{};
  /// Called once what became of an overlay message that the server relays and that has a request id
  /// is known: nothing, its destination has it; or why not. See `Receipt`. It is lost when this
  /// client is not connected at that time.
  std::function<void(std::string_view request_id, const boost::system::result<void>& result)>
      on_receipt{};
};

namespace detail {

inline void require(bool holds, const char* sentence) {
  if (!holds) {
    throw std::invalid_argument(std::string("fedagent: ") + sentence);
  }
}

inline void check_time(Duration value, const char* name) {
  require(value > Duration::zero() && value <= std::chrono::hours{24},
          (std::string(name) + " must be above zero and at most a day").c_str());
}

inline void check(const ConnectionOptions& options) {
  constexpr std::uint32_t least = 4 * max_id_length;
  constexpr std::uint32_t most = 64U << 20U;
  require(options.limits.max_frame >= least && options.limits.max_frame <= most,
          "max_frame must be from 4 KiB to 64 MiB");
  require(options.limits.max_message > 0, "max_message must be at least 1");
  require(options.chunk_size >= least && options.chunk_size <= most,
          "chunk_size must be from 4 KiB to 64 MiB");
  check_time(options.hello_timeout, "hello_timeout");
  check_time(options.frame_timeout, "frame_timeout");
  check_time(options.peer_timeout, "peer_timeout");
  check_time(options.close_timeout, "close_timeout");
}

inline void check(const ServerOptions& options) {
  check(options.connection);
  check_time(options.ping_interval, "ping_interval");
  check_time(options.accept_pause, "accept_pause");
  require(options.ping_interval >= std::chrono::milliseconds{1},
          "ping_interval must be at least a millisecond");
  require(options.ping_interval * 2 <= options.connection.peer_timeout,
          "ping_interval must be at most half of peer_timeout");
  require(options.max_connections > 0, "max_connections must be at least 1");
}

inline void check(const ClientOptions& options) {
  check(options.connection);
  require(!options.node_id.empty() && options.node_id.size() <= max_id_length,
          "node_id must have from 1 to 1024 bytes");
  check_time(options.connect_timeout, "connect_timeout");
  check_time(options.longest_pause, "longest_pause");
  require(options.least_pause >= std::chrono::milliseconds{1} &&
              options.least_pause <= options.longest_pause,
          "least_pause must be from 1 ms to longest_pause");
  require(options.pause_jitter >= 0.0 && options.pause_jitter <= 1.0,
          "pause_jitter must be from 0 to 1");
  require(options.max_unanswered > 0, "max_unanswered must be at least 1");
}

}  // namespace detail
}  // namespace fedagent::stream
