#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/system/result.hpp>
#include <chrono>
#include <cstddef>
#include <string>

namespace fedagent::stream {

/// What travels: a body of bytes under a few names.
struct Message {
  std::string request_id{};
  std::string destination{};
  std::string source{};
  std::string body{};

  std::size_t size() const noexcept {
    return request_id.size() + destination.size() + source.size() + body.size();
  }
};

/// What a node tells besides its replies: a log line, a metric. The server's observer gets it.
struct Feedback {
  std::string topic{};
  std::string body{};
};

/// The transport of a store that a `Server` serves.
/**
 * For a message type of your own, write a class like this one with that `message_type`, a `decode`
 * that makes one from a `stream::Message`, and `static result<stream::Message> encode(const
 * message_type&)`, whose error ends a task as `not_encodable`.
 */
template <class Executor = boost::asio::any_io_executor, class Clock = std::chrono::steady_clock>
struct Transport {
  using executor_type = Executor;
  using clock_type = Clock;
  using message_type = Message;
  using wire_type = Message;

  static boost::system::result<message_type> decode(wire_type wire) { return wire; }
};

}  // namespace fedagent::stream
