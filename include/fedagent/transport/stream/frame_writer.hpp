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

#include "fedagent/transport/stream/context.hpp"
#include "fedagent/transport/stream/frame.hpp"
#include "fedagent/transport/stream/inbox.hpp"
#include "fedagent/transport/stream/options.hpp"
#include "fedagent/transport/stream/payload.hpp"
#include "fedagent/transport/stream/timeouts.hpp"
#include "fedagent/transport/stream/turn.hpp"

namespace fedagent::stream::detail {

/// The half of a connection that writes, and its end.
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
class FrameWriter : public std::enable_shared_from_this<FrameWriter<Stream, Executor, Clock>> {
 public:
  using error_code = boost::system::error_code;
  template <class T>
  using awaitable = boost::asio::awaitable<T, Executor>;
  template <std::size_t N>
  using Parts = std::array<boost::asio::const_buffer, N>;

  FrameWriter(Stream stream, std::shared_ptr<Context<Executor, Clock>> context)
      : context_(std::move(context)), stream_(std::move(stream)), timeouts_(*this, *context_) {
    if constexpr (is_socket<Stream>) {
      error_code ignored;
      stream_.non_blocking(true, ignored);
    }
  }
  FrameWriter(const FrameWriter&) = delete;
  FrameWriter& operator=(const FrameWriter&) = delete;
  virtual ~FrameWriter() = default;

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

  // ---- writing: in turn

  /// Writes one frame: its head, then the buffers, of which none is copied.
  /** @param goodbye Whether this is the last frame of a connection that has failed. */
  template <std::size_t N>
  static awaitable<error_code> write(FrameWriter& c, EncodedHead head, Parts<N> rest,
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
    if (c.write_at_once(buffers) || c.write_large_at_once(buffers)) {
      co_return error_code();
    }
    c.at_once_ = 0;
    c.timeouts_.write_begins();
    error_code error;
    try {
      std::tie(error, std::ignore) = co_await boost::asio::async_write(
          c.stream_, buffers, AllAtOnce(), boost::asio::as_tuple(boost::asio::deferred));
    } catch (...) {
      c.close();  // nobody may write on in the middle of a frame
      throw;
    }
    c.timeouts_.write_ended();
    if (error) {
      c.fail(c.first_error_ ? c.first_error_ : error, false);
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
  static awaitable<error_code> flush(FrameWriter& c) { return write(c, EncodedHead(), Parts<0>{}); }

  /// Writes a small frame.
  static awaitable<error_code> write_frame(FrameWriter& c, FrameType type, std::string payload) {
    const FrameHeader header{static_cast<std::uint32_t>(payload.size()), type, false};
    auto writing = write(c, EncodedHead(header), Parts<1>{boost::asio::buffer(payload)});
    const error_code error = co_await std::move(writing);
    co_return error;
  }

  /// The last chunk of a message is about to be written: an answer to it may come from now on.
  virtual void message_ends() noexcept = 0;

 protected:
  /// The connection fails: whoever waits for something of it must leave.
  virtual void failing() noexcept = 0;

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

  Context<Executor, Clock>& shared() noexcept { return *context_; }
  Timeouts<FrameWriter, Executor, Clock>& timeouts() noexcept { return timeouts_; }
  bool closed() const noexcept { return closed_; }

 private:
  static constexpr std::size_t most_at_once = std::size_t{1} << 20U;

  // Asio's own condition writes 64 KiB at a time.
  struct AllAtOnce {
    std::size_t operator()(const error_code& error, std::size_t /*written*/) const noexcept {
      return error ? 0 : std::numeric_limits<std::size_t>::max();
    }
  };

  // Writes what a socket takes without waiting. What is large is left.
  // What goes wrong the next write will find. @return Whether that is all.
  template <std::size_t N>
  bool write_at_once(Parts<N>& buffers) {
    const auto size = boost::asio::buffer_size(buffers);
    if constexpr (is_socket<Stream>) {
      if (size <= SharedSpace::size) {
        // One buffer is written faster than many.
        const auto space = shared().write_space.get();
        const auto joined = boost::asio::buffer(space, boost::asio::buffer_copy(space, buffers));
        take_off(buffers, write_some(joined));
      }
    }
    return boost::asio::buffer_size(buffers) == 0;
  }

  // The same for what is large: the chunks of a message are quicker one right after the other,
  // while they are in the cache. After a MiB of them others have their turn.
  template <std::size_t N>
  bool write_large_at_once(Parts<N>& buffers) {
    if constexpr (is_socket<Stream>) {
      if (at_once_ < most_at_once && boost::asio::buffer_size(buffers) > SharedSpace::size) {
        const auto written = write_some(buffers);
        at_once_ += written;
        take_off(buffers, written);
      }
    }
    return boost::asio::buffer_size(buffers) == 0;
  }

  // A socket tells why the connection broke once, and then only that it is broken.
  template <class Buffers>
  std::size_t write_some(const Buffers& buffers) {
    error_code error;
    const auto written = stream_.write_some(buffers, error);
    if (error && error != boost::asio::error::would_block && !first_error_) {
      first_error_ = error;
    }
    return written;
  }

  static awaitable<void> say_goodbye(std::shared_ptr<FrameWriter> c) {
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

  // Destroyed last: what is half received gives its bytes back.
  std::shared_ptr<Context<Executor, Clock>> context_;
  Stream stream_;
  std::string postponed_;
  Turn<Clock, Executor> turn_;
  Limits peer_{};
  Timeouts<FrameWriter, Executor, Clock> timeouts_;
  error_code fault_;
  error_code first_error_;
  /// Bytes of large frames that were written since the last one that was waited for.
  std::size_t at_once_ = 0;
  bool closed_ = false;
};

}  // namespace fedagent::stream::detail
