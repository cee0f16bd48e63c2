#pragma once

#include <algorithm>
#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/socket_base.hpp>
#include <boost/asio/write.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "fedagent/detail/watchdog.hpp"
#include "fedagent/transport/stream/joiner.hpp"
#include "fedagent/transport/stream/options.hpp"
#include "fedagent/transport/stream/turn.hpp"

namespace fedagent::stream::detail {

/// What the connections of a server, or of a client, share.
template <class Executor_, class Clock>
struct Context {
  using executor_type = Executor_;

  Context(const Executor_& the_executor, const ConnectionOptions& the_options,
          std::uint64_t max_incoming_bytes)
      : executor(the_executor),
        connection_options(the_options),
        incoming{.limit = max_incoming_bytes},
        watchdog(the_executor) {}

  Executor_ executor;
  ConnectionOptions connection_options;
  Budget incoming;
  fedagent::detail::Watchdog<Clock, Executor_> watchdog;
};

/// Frames over any AsyncStream: one coroutine reads, any number of them write in turn.
/**
 * The first fault ends the connection: what waits to write leaves with it, the peer is told, and
 * after `close_timeout` at the latest the stream is closed, which ends what still reads or writes.
 *
 * @par Lifetimes
 * Coroutines that are spawned hold it by `shared_ptr`; those that are awaited at once take a
 * reference.
 * @par Cancellation
 * A write that is cancelled may have written a part of a frame, so it closes the connection.
 * @par Thread safety
 * Unsafe: on one executor.
 */
template <class Stream, class Executor, class Clock>
class Connection : public std::enable_shared_from_this<Connection<Stream, Executor, Clock>>,
                   private fedagent::detail::Deadlines<Clock>::Entry {
 public:
  using error_code = boost::system::error_code;
  using time_point = typename Clock::time_point;
  template <class T>
  using awaitable = boost::asio::awaitable<T, Executor>;

  template <std::size_t N>
  using Spaces = std::array<boost::asio::mutable_buffer, N>;
  template <std::size_t N>
  using Parts = std::array<boost::asio::const_buffer, N>;

  Connection(Stream stream, std::shared_ptr<Context<Executor, Clock>> context)
      : context_(std::move(context)), stream_(std::move(stream)) {}
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  virtual ~Connection() { this->disarm(); }

  Stream& stream() noexcept { return stream_; }
  const Executor& executor() const noexcept { return context_->executor; }
  /// Why the connection has ended; no error while it has not.
  error_code fault() const noexcept { return fault_; }
  void peer_limits(const Limits& limits) noexcept { peer_ = limits; }
  const Limits& peer_limits() const noexcept { return peer_; }
  const ConnectionOptions& options() const noexcept { return context_->connection_options; }
  Budget& incoming() noexcept { return context_->incoming; }

  /// Ends the connection. Only the first call counts.
  /** @param tell Whether to write an error frame that names the fault, if that is possible. */
  void fail(error_code why, bool tell = true) noexcept {
    if (fault_) {
      return;
    }
    fault_ = why;
    turn_.dismiss(why);
    failing();
    if (!tell || closed_) {
      close();
      return;
    }
    close_by_ = after(options().close_timeout);
    watch(close_by_);
    try {
      boost::asio::co_spawn(executor(), say_goodbye(this->shared_from_this()),
                            boost::asio::detached);
    } catch (...) {
      close();
    }
  }

  /// Closes the stream: whoever reads or writes ends.
  void close() noexcept {
    if (closed_) {
      return;
    }
    closed_ = true;
    if (!fault_) {
      fail(boost::asio::error::operation_aborted, false);
    }
    this->disarm();
    error_code ignored;
    stream_.lowest_layer().close(ignored);
  }

  // ---- reading: one coroutine

  /// The time for the first frame runs from here.
  void expect_hello() noexcept { expect(Expecting::hello, options().hello_timeout); }

  /// Waits for the next frame. @return `eof`: the peer has left, not in the middle of a message.
  static awaitable<error_code> read_header(Connection& c, FrameHeader& header) {
    if (c.expecting_ != Expecting::hello) {
      c.expect(Expecting::frame, c.options().peer_timeout);
    }
    std::array<unsigned char, FrameHeader::encoded_size> bytes{};
    const auto [error, size] = co_await boost::asio::async_read(
        c.stream_, boost::asio::buffer(bytes), boost::asio::as_tuple(boost::asio::deferred));
    c.read_ended(error);
    if (c.fault_) {
      co_return c.fault_;
    }
    if (error) {
      const error_code end =
          size > 0 || c.joiner_ ? make_error_code(errc::truncated) : boost::asio::error::eof;
      co_return c.is_end(error) ? end : error;
    }
    const auto decoded = decode_frame_header(bytes, c.options().limits.max_frame);
    if (!decoded) {
      co_return decoded.error();
    }
    header = *decoded;
    co_return error_code();
  }

  /// Fills the buffers with what comes next of the frame.
  template <std::size_t N>
  static awaitable<error_code> read(Connection& c, Spaces<N> buffers) {
    c.expect(Expecting::rest, c.options().frame_timeout);
    const auto [error, size] = co_await boost::asio::async_read(
        c.stream_, buffers, boost::asio::as_tuple(boost::asio::deferred));
    c.read_ended(error);
    if (c.fault_) {
      co_return c.fault_;
    }
    co_return c.is_end(error) ? make_error_code(errc::truncated) : error;
  }

  /// Reads the payload of a small frame.
  static awaitable<error_code> read_payload(Connection& c, const FrameHeader& header,
                                            std::string& payload) {
    payload.resize(header.length);
    auto reading = read(c, Spaces<1>{boost::asio::buffer(payload)});
    const error_code error = co_await std::move(reading);
    co_return error;
  }

  /// The message that is being received, or null.
  std::unique_ptr<Joiner>& joiner() noexcept { return joiner_; }

  /// The reader's last step. What is wrong with the peer is told to it, and what it still sends is
  /// read and forgotten until it has left or the stream is closed, so that it gets to read that.
  static awaitable<void> wind_up(Connection& c, error_code why, bool peer_left) {
    const bool tell = !peer_left && (why.category() == error_category() ||
                                     why.category() == fedagent::error_category());
    c.fail(why, tell);
    std::array<char, 512> rest{};
    // After the end of the stream another read would wait for ever.
    while (!c.read_ended_ && !c.closed_) {
      const auto [error, size] = co_await c.stream_.async_read_some(
          boost::asio::buffer(rest), boost::asio::as_tuple(boost::asio::deferred));
      c.read_ended(error);
    }
    c.close();
  }

  // ---- writing: in turn

  /// Writes one frame: its head, then the buffers, of which none is copied.
  template <std::size_t N>
  static awaitable<error_code> write(Connection& c, EncodedHead head, Parts<N> rest) {
    if (c.fault_) {
      co_return c.fault_;
    }
    if (!c.turn_.try_take()) {
      auto waiting = Turn<Clock, Executor>::take(c.turn_, c.executor());
      const error_code error = co_await std::move(waiting);
      if (error) {
        co_return error;
      }
    }
    const typename Turn<Clock, Executor>::Holder turn(c.turn_);
    if (c.fault_) {
      co_return c.fault_;
    }
    auto writing = write_now(c, head, rest);
    const error_code error = co_await std::move(writing);
    co_return error;
  }

  /// Writes a small frame.
  static awaitable<error_code> write_frame(Connection& c, FrameType type, std::string payload) {
    const FrameHeader header{static_cast<std::uint32_t>(payload.size()), type, false};
    auto writing = write(c, EncodedHead(header), Parts<1>{boost::asio::buffer(payload)});
    const error_code error = co_await std::move(writing);
    co_return error;
  }

  /// The last chunk of a message is about to be written: an answer to it may come from now on.
  virtual void message_ends() noexcept = 0;

 protected:
  /// Whether a read that ended so tells that the peer has left.
  virtual bool is_end(error_code error) const noexcept { return error == boost::asio::error::eof; }
  /// The connection fails: whoever waits for something of it must leave.
  virtual void failing() noexcept = 0;

 private:
  enum class Expecting : std::uint8_t { nothing, hello, frame, rest };

  static time_point after(Duration duration) noexcept {
    return Clock::now() + std::chrono::duration_cast<typename Clock::duration>(duration);
  }

  // With the turn.
  template <std::size_t N>
  static awaitable<error_code> write_now(Connection& c, EncodedHead head, Parts<N> rest) {
    Parts<N + 1> buffers;
    buffers[0] = boost::asio::buffer(head.bytes().data(), head.bytes().size());
    std::copy(rest.begin(), rest.end(), buffers.begin() + 1);
    c.write_by_ = after(c.options().frame_timeout);
    c.watch(c.write_by_);
    const auto [error, size] = co_await boost::asio::async_write(
        c.stream_, buffers, boost::asio::as_tuple(boost::asio::deferred));
    c.write_by_ = time_point::max();
    if (error) {
      c.fail(error, false);
      c.close();
    }
    co_return c.fault_ ? c.fault_ : error;
  }

  static awaitable<void> say_goodbye(std::shared_ptr<Connection> c) {
    try {
      bool mine = c->turn_.try_take();
      if (!mine) {
        auto waiting = Turn<Clock, Executor>::take(c->turn_, c->executor());
        const error_code error = co_await std::move(waiting);
        mine = !error;
      }
      if (mine && !c->closed_) {
        const typename Turn<Clock, Executor>::Holder turn(c->turn_);
        const auto payload = encode_error(c->fault_);
        const EncodedHead head(
            FrameHeader{static_cast<std::uint32_t>(payload.size()), FrameType::error, false});
        auto writing = write_now(*c, head, Parts<1>{boost::asio::buffer(payload)});
        co_await std::move(writing);
      }
      // The reader goes on until the peer has seen the end, or `close_by_`.
      if (error_code ignored; !c->closed_) {
        c->stream_.lowest_layer().shutdown(boost::asio::socket_base::shutdown_send, ignored);
      }
    } catch (...) {
      c->close();
    }
  }

  void expect(Expecting what, Duration within) noexcept {
    expecting_ = what;
    read_by_ = what == Expecting::nothing ? time_point::max() : after(within);
    if (what != Expecting::nothing) {
      watch(read_by_);
    }
  }

  void read_ended(error_code error) noexcept {
    expect(Expecting::nothing, Duration::zero());
    read_ended_ = read_ended_ || error;
  }

  // The deadline moves with every frame. What is armed stays armed until it is due, unless
  // something is due earlier; then the deadlines are looked at anew.
  void watch(time_point at) noexcept {
    if (!closed_ && (!this->armed() || at < this->deadline())) {
      context_->watchdog.arm(*this, at);
    }
  }

  void on_deadline() noexcept override {
    const auto now = Clock::now();
    if (fault_) {
      if (now >= close_by_) {
        close();
      } else {
        watch(close_by_);
      }
    } else if (now >= write_by_) {
      fail(errc::write_timeout, false);
    } else if (now >= read_by_) {
      fail(expecting_ == Expecting::hello   ? errc::hello_timeout
           : expecting_ == Expecting::frame ? errc::peer_silent
                                            : errc::frame_timeout);
    } else if (const auto next = std::min(read_by_, write_by_); next != time_point::max()) {
      watch(next);
    }
  }

  // Destroyed last: the joiner gives its bytes back.
  std::shared_ptr<Context<Executor, Clock>> context_;
  Stream stream_;
  std::unique_ptr<Joiner> joiner_;
  Turn<Clock, Executor> turn_;
  Limits peer_{};
  error_code fault_;
  time_point read_by_ = time_point::max();
  time_point write_by_ = time_point::max();
  time_point close_by_ = time_point::max();
  Expecting expecting_ = Expecting::nothing;
  bool read_ended_ = false;
  bool closed_ = false;
};

}  // namespace fedagent::stream::detail
