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
#include <boost/asio/socket_base.hpp>
#include <boost/asio/write.hpp>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include "fedagent/error.hpp"
#include "fedagent/transport/stream/context.hpp"
#include "fedagent/transport/stream/error.hpp"
#include "fedagent/transport/stream/frame.hpp"
#include "fedagent/transport/stream/inbox.hpp"
#include "fedagent/transport/stream/joiner.hpp"
#include "fedagent/transport/stream/options.hpp"
#include "fedagent/transport/stream/payload.hpp"
#include "fedagent/transport/stream/timeouts.hpp"
#include "fedagent/transport/stream/turn.hpp"

namespace fedagent::stream::detail {

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
class Connection : public std::enable_shared_from_this<Connection<Stream, Executor, Clock>> {
 public:
  using error_code = boost::system::error_code;
  template <class T>
  using awaitable = boost::asio::awaitable<T, Executor>;

  template <std::size_t N>
  using Spaces = std::array<boost::asio::mutable_buffer, N>;
  template <std::size_t N>
  using Parts = std::array<boost::asio::const_buffer, N>;

  Connection(Stream stream, std::shared_ptr<Context<Executor, Clock>> context)
      : context_(std::move(context)), stream_(std::move(stream)), timeouts_(*this, *context_) {
    if constexpr (is_socket<Stream>) {
      error_code ignored;
      stream_.non_blocking(true, ignored);
    }
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  virtual ~Connection() = default;

  Stream& stream() noexcept { return stream_; }
  const std::shared_ptr<Context<Executor, Clock>>& context() const noexcept { return context_; }
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
    timeouts_.expect_end();
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
    timeouts_.stop();
    if (!fault_) {
      fail(boost::asio::error::operation_aborted, false);
    }
    error_code ignored;
    stream_.lowest_layer().close(ignored);
  }

  // ---- reading: one coroutine

  /// The time for the first frame runs from here.
  void expect_hello() noexcept { timeouts_.expect_hello(); }

  /// Whether nothing has come that was not looked at.
  bool idle() const noexcept { return inbox_.empty(); }
  /// To be awaited when it is `idle`: something comes, or the stream ends. For sockets only; it
  /// spares the memory that `read_header` takes while it waits.
  auto async_next_frame() {
    timeouts_.expect_frame();
    return stream_.async_wait(boost::asio::socket_base::wait_read,
                              boost::asio::as_tuple(boost::asio::deferred));
  }
  /// Reads what there is, without waiting. What goes wrong the next read will find.
  void read_ahead() {
    timeouts_.read_ended();
    const auto space = context_->space.get();
    error_code later;
    inbox_.came(space, stream_.read_some(space, later));
  }
  /// To be called before the reader waits for anything but input.
  void keep_input() { inbox_.keep(); }

  /// As `read_header`, when the header has come already. @return Whether it has.
  bool take_header(FrameHeader& header, error_code& error) noexcept {
    if (inbox_.size() < FrameHeader::encoded_size || fault_) {
      return false;
    }
    std::array<unsigned char, FrameHeader::encoded_size> bytes;
    Spaces<1> spaces{boost::asio::buffer(bytes)};
    inbox_.fill(spaces);
    error = decode(bytes, header);
    return true;
  }

  /// Waits for the next frame. @return `eof`: the peer has left, not in the middle of a message.
  static awaitable<error_code> read_header(Connection& c, FrameHeader& header) {
    std::array<unsigned char, FrameHeader::encoded_size> bytes{};
    Spaces<1> spaces{boost::asio::buffer(bytes)};
    error_code error;
    if (!c.inbox_.fill(spaces)) {
      c.timeouts_.expect_frame();
      auto receiving = receive(c, spaces);
      error = co_await std::move(receiving);
    }
    if (c.fault_) {
      co_return c.fault_;
    }
    if (error) {
      const bool begun = spaces[0].size() < bytes.size() || c.joiner_;
      const error_code end = begun ? make_error_code(errc::truncated) : boost::asio::error::eof;
      co_return c.is_end(error) ? end : error;
    }
    co_return c.decode(bytes, header);
  }

  /// Fills the spaces with what has come already of the frame. @return Whether they are full;
  /// otherwise `read` goes on with them.
  template <std::size_t N>
  bool take(Spaces<N>& spaces) noexcept {
    return !fault_ && inbox_.fill(spaces);
  }

  /// Fills the spaces with what comes next of the frame.
  template <std::size_t N>
  static awaitable<error_code> read(Connection& c, Spaces<N> spaces) {
    error_code error;
    if (!c.inbox_.fill(spaces)) {
      c.timeouts_.expect_rest();
      auto receiving = receive(c, spaces);
      error = co_await std::move(receiving);
    }
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
      c.read_ended_ = static_cast<bool>(error);
    }
    c.close();
  }

  // ---- writing: in turn

  /// Writes one frame: its head, then the buffers, of which none is copied.
  /** @param goodbye Whether this is the last frame of a connection that has failed. */
  template <std::size_t N>
  static awaitable<error_code> write(Connection& c, EncodedHead head, Parts<N> rest,
                                     bool goodbye = false) {
    if (c.fault_ && !goodbye) {
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
    if (c.closed_ || (c.fault_ && !goodbye)) {
      co_return c.fault_;
    }
    const std::string postponed = std::exchange(c.postponed_, {});
    Parts<N + 2> buffers;
    buffers[0] = boost::asio::buffer(postponed);
    buffers[1] = boost::asio::buffer(head.bytes().data(), head.bytes().size());
    std::copy(rest.begin(), rest.end(), buffers.begin() + 2);
    if (c.write_at_once(buffers)) {
      co_return error_code();
    }
    c.timeouts_.write_begins();
    const auto [error, size] = co_await boost::asio::async_write(
        c.stream_, buffers, AllAtOnce(), boost::asio::as_tuple(boost::asio::deferred));
    c.timeouts_.write_ended();
    if (error) {
      c.fail(error, false);
      c.close();
    }
    co_return c.fault_ ? c.fault_ : error;
  }

  /// How much of a frame was written without waiting.
  enum class AtOnce { nothing, part, all };
  /// As `write`, without waiting, if it is a socket's turn. What it does not take is postponed.
  template <std::size_t N>
  AtOnce write_now(EncodedHead head, const Parts<N>& rest) {
    if (!is_socket<Stream> || fault_ || !turn_.try_take()) {
      return AtOnce::nothing;
    }
    const typename Turn<Clock, Executor>::Holder turn(turn_);
    Parts<N + 2> buffers;
    buffers[0] = boost::asio::buffer(postponed_);
    buffers[1] = boost::asio::buffer(head.bytes().data(), head.bytes().size());
    std::copy(rest.begin(), rest.end(), buffers.begin() + 2);
    const auto size = boost::asio::buffer_size(buffers);
    const bool all = write_at_once(buffers);
    const auto left = boost::asio::buffer_size(buffers);
    if (all) {
      postponed_.clear();
    } else if (left < size) {
      std::string rest_of_it(left, '\0');
      boost::asio::buffer_copy(boost::asio::buffer(rest_of_it), buffers);
      postponed_ = std::move(rest_of_it);
    }
    return all ? AtOnce::all : left < size ? AtOnce::part : AtOnce::nothing;
  }

  /// The reader's answers: a small frame goes out with whatever is written next, at the latest
  /// before the reader waits for input.
  void postpone(FrameType type, std::string_view payload) {
    const EncodedHead head(FrameHeader{static_cast<std::uint32_t>(payload.size()), type, false});
    const auto bytes = head.bytes();
    postponed_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    postponed_.append(payload);
  }
  bool postponed() const noexcept { return !postponed_.empty(); }
  /// Writes what was postponed, if it is a socket's turn and it takes that. @return Whether all of
  /// it is written.
  bool flush_at_once() {
    if (postponed() && !fault_ && turn_.try_take()) {
      const typename Turn<Clock, Executor>::Holder turn(turn_);
      Parts<1> buffers{boost::asio::buffer(postponed_)};
      write_at_once(buffers);
      postponed_.substr(postponed_.size() - buffers[0].size()).swap(postponed_);  // no memory left
    }
    return !postponed();
  }
  /// Writes what was postponed.
  static awaitable<error_code> flush(Connection& c) { return write(c, EncodedHead(), Parts<0>{}); }

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
  // Asio's own condition writes 64 KiB at a time.
  struct AllAtOnce {
    std::size_t operator()(const error_code& error, std::size_t /*written*/) const noexcept {
      return error ? 0 : std::numeric_limits<std::size_t>::max();
    }
  };

  // Writes what a socket takes without waiting. What is large is left: others have their turn.
  // What goes wrong the next write will find. @return Whether that is all.
  template <std::size_t N>
  bool write_at_once(Parts<N>& buffers) {
    const auto size = boost::asio::buffer_size(buffers);
    if constexpr (is_socket<Stream>) {
      if (size <= SharedSpace::size) {
        // One buffer is written faster than many.
        std::array<char, 512> room{};
        const auto copied = boost::asio::buffer_copy(boost::asio::buffer(room), buffers);
        const auto joined = boost::asio::buffer(room, copied);
        error_code later;
        const auto written =
            copied == size ? stream_.write_some(joined, later) : stream_.write_some(buffers, later);
        take_off(buffers, written);
        return written == size;
      }
    }
    return size == 0;
  }

  // Moves the beginnings of the buffers along. @return How much of the size goes beyond them.
  template <class Buffers>
  static std::size_t take_off(Buffers& buffers, std::size_t size) noexcept {
    for (auto& buffer : buffers) {
      const auto taken = std::min(size, buffer.size());
      buffer += taken;
      size -= taken;
    }
    return size;
  }

  // Reads until the spaces are full, and from a socket what else there is. The answers go out
  // before that, so that they never are more than those to one shared space of frames.
  template <std::size_t N>
  static awaitable<error_code> receive(Connection& c, Spaces<N>& spaces) {
    error_code error;
    while (!error && !c.inbox_.fill(spaces)) {
      if (c.postponed()) {
        auto flushing = flush(c);
        error = co_await std::move(flushing);
        if (error) {
          break;
        }
      }
      std::size_t size = 0;
      if constexpr (is_socket<Stream>) {
        // Waited for even when there is something: others have their turn.
        std::tie(error) = co_await c.stream_.async_wait(
            boost::asio::socket_base::wait_read, boost::asio::as_tuple(boost::asio::deferred));
        if (!error) {
          Spaces<N + 1> parts;
          std::copy(spaces.begin(), spaces.end(), parts.begin());
          parts.back() = c.context_->space.get();
          size = c.stream_.read_some(parts, error);
        }
        if (error == boost::asio::error::would_block) {
          error.clear();
        }
      } else {
        std::tie(error, size) = co_await c.stream_.async_read_some(
            spaces, boost::asio::as_tuple(boost::asio::deferred));
      }
      c.read_ended_ = c.read_ended_ || error;
      size = take_off(spaces, size);
      if (size > 0) {
        c.inbox_.came(c.context_->space.get(), size);
      }
    }
    c.timeouts_.read_ended();
    co_return error;
  }

  error_code decode(const std::array<unsigned char, FrameHeader::encoded_size>& bytes,
                    FrameHeader& header) const noexcept {
    const auto decoded = decode_frame_header(bytes, options().limits.max_frame);
    if (decoded) {
      header = *decoded;
    }
    return decoded ? error_code() : decoded.error();
  }

  static awaitable<void> say_goodbye(std::shared_ptr<Connection> c) {
    try {
      const auto payload = encode_error(c->fault_);
      const EncodedHead head(
          FrameHeader{static_cast<std::uint32_t>(payload.size()), FrameType::error, false});
      auto writing = write(*c, head, Parts<1>{boost::asio::buffer(payload)}, true);
      co_await std::move(writing);
      // The reader goes on until the peer has seen the end, or `close_timeout`.
      if (error_code ignored; !c->closed_) {
        c->stream_.lowest_layer().shutdown(boost::asio::socket_base::shutdown_send, ignored);
      }
    } catch (...) {
      c->close();
    }
  }

  // Destroyed last: the joiner gives its bytes back.
  std::shared_ptr<Context<Executor, Clock>> context_;
  Stream stream_;
  std::unique_ptr<Joiner> joiner_;
  Inbox inbox_;
  std::string postponed_;
  Turn<Clock, Executor> turn_;
  Limits peer_{};
  Timeouts<Connection, Executor, Clock> timeouts_;
  error_code fault_;
  bool read_ended_ = false;
  bool closed_ = false;
};

}  // namespace fedagent::stream::detail
