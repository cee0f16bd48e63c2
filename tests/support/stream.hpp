#pragma once

#include <doctest/doctest.h>
#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/local/connect_pair.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/system/error_code.hpp>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fedagent/transport/stream.hpp"
#include "support/loop.hpp"

namespace test::stream {

namespace fs = fedagent::stream;

using Message = fs::Message;
using MessagePtr = fedagent::MessagePtr<Message>;
using Transport = fs::Transport<Executor, ManualClock>;
using Store = fedagent::AgentStore<Transport>;
using Server = fs::Server<Store>;
using Socket = boost::asio::basic_stream_socket<boost::asio::local::stream_protocol, Executor>;

/// The two ends of a connection.
inline std::pair<Socket, Socket> connected_pair(Loop& loop) {
  std::pair<Socket, Socket> ends{Socket(loop.executor()), Socket(loop.executor())};
  boost::asio::local::connect_pair(ends.first, ends.second);
  return ends;
}

inline Message task(std::string request_id, std::string body = "work") {
  Message message;
  message.request_id = std::move(request_id);
  message.body = std::move(body);
  return message;
}

/// A chunk of a message, as bytes.
inline std::string chunk(fs::FrameType type, const fs::ChunkHead& head, const std::string& rest,
                         bool last) {
  const auto head_size = head.index == 0 ? fs::ChunkHead::encoded_size : fs::ChunkHead::index_size;
  const fs::EncodedHead encoded(
      fs::FrameHeader{static_cast<std::uint32_t>(head_size + rest.size()), type, last}, head);
  return std::string(reinterpret_cast<const char*>(encoded.bytes().data()),
                     encoded.bytes().size()) +
         rest;
}
inline std::string frame(fs::FrameType type, const std::string& payload = {}) {
  const fs::EncodedHead encoded(
      fs::FrameHeader{static_cast<std::uint32_t>(payload.size()), type, false});
  return std::string(reinterpret_cast<const char*>(encoded.bytes().data()),
                     encoded.bytes().size()) +
         payload;
}
/// A message in one chunk.
inline std::string whole(fs::FrameType type, const Message& message) {
  const fs::ChunkHead head{.index = 0,
                           .total = message.body.size(),
                           .request_id = static_cast<std::uint16_t>(message.request_id.size()),
                           .destination = static_cast<std::uint16_t>(message.destination.size()),
                           .source = static_cast<std::uint16_t>(message.source.size())};
  return chunk(type, head, message.request_id + message.destination + message.source + message.body,
               true);
}
inline std::string hello(std::string node_id, std::uint64_t instance = 1,
                         std::uint32_t attempt = 1) {
  fs::Hello hello;
  hello.instance = instance;
  hello.attempt = attempt;
  hello.node_id = std::move(node_id);
  return frame(fs::FrameType::hello, encode(hello));
}

/// What a server says.
inline std::string welcome(fs::Welcome welcome = {.ping_interval_ms = 4000}) {
  return frame(fs::FrameType::welcome, encode(welcome));
}
inline std::string result_frame(const fs::ReplyResult& result) {
  return frame(fs::FrameType::reply_result, fs::encode(result));
}
inline std::string poll_end(boost::system::error_code error) {
  return frame(fs::FrameType::poll_end, fs::encode_error(error));
}

struct Frame {
  fs::FrameType type = fs::FrameType::error;
  bool last = false;
  std::string payload{};
};

/// The other end of a connection, byte by byte, in the hands of the test.
class Wire {
 public:
  Wire(Loop& loop, Socket socket) : loop_(&loop), socket_(std::move(socket)) {
    socket_.non_blocking(true);
  }

  /// Writes the bytes and lets the loop run.
  Wire& send(std::string_view bytes) {
    while (!bytes.empty()) {
      boost::system::error_code error;
      const auto size = socket_.write_some(boost::asio::buffer(bytes), error);
      if (error && error != boost::asio::error::would_block) {
        break;  // the other end has closed
      }
      bytes.remove_prefix(size);
      loop_->drain();
    }
    return *this;
  }

  /// The next frame, if there is a whole one.
  std::optional<Frame> next() {
    receive();
    if (received_.size() < fs::FrameHeader::encoded_size) {
      return std::nullopt;
    }
    std::array<unsigned char, fs::FrameHeader::encoded_size> bytes{};
    std::copy_n(received_.begin(), bytes.size(), bytes.begin());
    const auto header = fs::decode_frame_header(bytes, 64U << 20U);
    REQUIRE(header);
    if (received_.size() < bytes.size() + header->length) {
      return std::nullopt;
    }
    Frame frame{header->type, header->last, received_.substr(bytes.size(), header->length)};
    received_.erase(0, bytes.size() + header->length);
    return frame;
  }
  /// The next frame, which must be of this type.
  Frame expect(fs::FrameType type, std::source_location where = std::source_location::current()) {
    const auto frame = next();
    INFO("a frame expected at ", where.file_name(), ":", where.line());
    REQUIRE(frame.has_value());
    REQUIRE(static_cast<int>(frame->type) == static_cast<int>(type));
    return *frame;
  }
  /// The error that the next frame tells; no error when there is none such.
  boost::system::error_code told() {
    const auto frame = next();
    return frame && frame->type == fs::FrameType::error ? fs::decode_error(frame->payload)
                                                        : boost::system::error_code();
  }
  bool quiet() {
    receive();
    return received_.empty();
  }
  /// Whether the other end has closed, or shut down its sending side.
  bool ended() {
    receive();
    return ended_;
  }
  void close() {
    socket_.close();
    loop_->drain();
  }

 private:
  void receive() {
    loop_->drain();
    char bytes[65536];
    while (true) {
      boost::system::error_code error;
      const auto size = socket_.read_some(boost::asio::buffer(bytes), error);
      received_.append(bytes, size);
      if (error) {
        ended_ = ended_ || error != boost::asio::error::would_block;
        return;
      }
      loop_->drain();
    }
  }

  Loop* loop_;
  Socket socket_;
  std::string received_;
  bool ended_ = false;
};

/// A connection error as the owner of a server sees it.
struct Fault {
  std::string node_id;
  boost::system::error_code error;
  friend bool operator==(const Fault&, const Fault&) = default;
  friend std::ostream& operator<<(std::ostream& out, const Fault& fault) {
    return out << fault.node_id << ": " << fault.error.message();
  }
};

/// A server on a driven loop.
class Served {
 public:
  explicit Served(fs::ServerOptions options = {}, fedagent::StoreOptions store_options = {},
                  Store::forwarder_type forwarder = {})
      : store(loop.executor(), std::move(forwarder), store_options),
        server(store, with_faults(std::move(options))) {}

  std::pair<Socket, Socket> pair() { return connected_pair(loop); }
  template <class Layer = fs::Plain>
  Wire connect(Layer layer = {}) {
    auto [ours, theirs] = pair();
    serve(std::move(theirs), std::move(layer));
    return Wire(loop, std::move(ours));
  }
  /// A connection that has been welcomed.
  Wire meet(std::string node_id, std::uint64_t instance = 1, std::uint32_t attempt = 1) {
    auto wire = connect();
    wire.send(hello(std::move(node_id), instance, attempt)).expect(fs::FrameType::welcome);
    return wire;
  }
  template <class Stream, class Layer = fs::Plain>
  void serve(Stream stream, Layer layer = {}) {
    boost::asio::co_spawn(loop.io, server.serve(std::move(stream), std::move(layer)),
                          boost::asio::detached);
  }

  Loop loop;
  std::vector<Fault> faults;
  Store store;
  Server server;

 private:
  fs::ServerOptions with_faults(fs::ServerOptions options) {
    options.on_connection_error = [this](std::string_view node_id,
                                         boost::system::error_code error) {
      faults.push_back({std::string(node_id), error});
    };
    return options;
  }
};

}  // namespace test::stream
