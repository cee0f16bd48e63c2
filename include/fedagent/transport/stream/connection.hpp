#pragma once

#include <algorithm>
#include <array>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/socket_base.hpp>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include "fedagent/error.hpp"
#include "fedagent/transport/stream/error.hpp"
#include "fedagent/transport/stream/frame_writer.hpp"
#include "fedagent/transport/stream/joiner.hpp"

namespace fedagent::stream::detail {

/// Frames over any AsyncStream: one coroutine reads, any number of them write in turn.
/** This is the half that reads; `FrameWriter` is the other one. */
template <class Stream, class Executor, class Clock>
class Connection : public FrameWriter<Stream, Executor, Clock> {
  using Base = FrameWriter<Stream, Executor, Clock>;

 public:
  using typename Base::error_code;
  template <class T>
  using awaitable = typename Base::template awaitable<T>;
  template <std::size_t N>
  using Parts = typename Base::template Parts<N>;
  template <std::size_t N>
  using Spaces = std::array<boost::asio::mutable_buffer, N>;

  using Base::Base;

  /// The time for the first frame runs from here.
  void expect_hello() noexcept { this->timeouts().expect_hello(); }

  /// Whether nothing has come that was not looked at.
  bool idle() const noexcept { return inbox_.empty(); }
  /// To be awaited when it is `idle`: something comes, or the stream ends. For sockets only; it
  /// spares the memory that `read_header` takes while it waits.
  auto async_next_frame() {
    this->timeouts().expect_frame();
    return this->stream().async_wait(boost::asio::socket_base::wait_read,
                                     boost::asio::as_tuple(boost::asio::deferred));
  }
  /// Reads what there is, without waiting. What goes wrong the next read will find.
  /** @return Whether there was anything. */
  bool read_ahead() {
    this->timeouts().read_ended();
    const auto space = this->shared().read_space.get();
    error_code later;
    inbox_.came(space, this->stream().read_some(space, later));
    return !idle();
  }
  /// To be called before the reader waits for anything but input.
  void keep_input() { inbox_.keep(); }

  /// The header of the next frame, when all of that has come already, and it is a good one.
  std::optional<FrameHeader> whole_frame() const noexcept {
    std::array<unsigned char, FrameHeader::encoded_size> bytes;
    FrameHeader header;
    const auto there = inbox_.bytes();
    if (there.size() < bytes.size() || this->fault()) {
      return std::nullopt;
    }
    std::copy_n(there.begin(), bytes.size(), bytes.begin());
    const bool whole = !decode(bytes, header) && there.size() >= bytes.size() + header.length;
    return whole ? std::optional(header) : std::nullopt;
  }

  /// As `read_header`, when the header has come already. @return Whether it has.
  bool take_header(FrameHeader& header, error_code& error) noexcept {
    if (inbox_.size() < FrameHeader::encoded_size || this->fault()) {
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
      c.timeouts().expect_frame();
      auto receiving = receive(c, spaces);
      error = co_await std::move(receiving);
    }
    if (c.fault()) {
      co_return c.fault();
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
    return !this->fault() && inbox_.fill(spaces);
  }

  /// Fills the spaces with what comes next of the frame.
  template <std::size_t N>
  static awaitable<error_code> read(Connection& c, Spaces<N> spaces) {
    error_code error;
    if (!c.inbox_.fill(spaces)) {
      c.timeouts().expect_rest();
      auto receiving = receive(c, spaces);
      error = co_await std::move(receiving);
    }
    if (c.fault()) {
      co_return c.fault();
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
    while (!c.read_ended_ && !c.closed()) {
      const auto [error, size] = co_await c.stream().async_read_some(
          boost::asio::buffer(rest), boost::asio::as_tuple(boost::asio::deferred));
      c.read_ended_ = static_cast<bool>(error);
    }
    c.close();
  }

 protected:
  /// Whether a read that ended so tells that the peer has left.
  virtual bool is_end(error_code error) const noexcept { return error == boost::asio::error::eof; }

 private:
  // Reads until the spaces are full, and from a socket what else there is. The answers go out
  // before that, so that they never are more than those to one shared space of frames.
  template <std::size_t N>
  static awaitable<error_code> receive(Connection& c, Spaces<N>& spaces) {
    error_code error;
    while (!error && !c.inbox_.fill(spaces)) {
      if (c.postponed()) {
        auto flushing = Base::flush(c);
        error = co_await std::move(flushing);
        if (error) {
          break;
        }
      }
      std::size_t size = 0;
      if constexpr (is_socket<Stream>) {
        // Waited for even when there is something: others have their turn.
        std::tie(error) = co_await c.stream().async_wait(
            boost::asio::socket_base::wait_read, boost::asio::as_tuple(boost::asio::deferred));
        if (!error) {
          Spaces<N + 1> parts;
          std::copy(spaces.begin(), spaces.end(), parts.begin());
          parts.back() = c.shared().read_space.get();
          size = c.stream().read_some(parts, error);
        }
        if (error == boost::asio::error::would_block) {
          error.clear();
        }
      } else {
        std::tie(error, size) = co_await c.stream().async_read_some(
            spaces, boost::asio::as_tuple(boost::asio::deferred));
      }
      c.read_ended_ = c.read_ended_ || error;
      size = Base::take_off(spaces, size);
      if (size > 0) {
        c.inbox_.came(c.shared().read_space.get(), size);
      }
    }
    c.timeouts().read_ended();
    co_return error;
  }

  error_code decode(const std::array<unsigned char, FrameHeader::encoded_size>& bytes,
                    FrameHeader& header) const noexcept {
    const auto decoded = decode_frame_header(bytes, this->options().limits.max_frame);
    if (decoded) {
      header = *decoded;
    }
    return decoded ? error_code() : decoded.error();
  }

  std::unique_ptr<Joiner> joiner_;
  Inbox inbox_;
  bool read_ended_ = false;
};

}  // namespace fedagent::stream::detail
