#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/system/result.hpp>
#include <chrono>
#include <string>
#include <utility>

#include "fedagent/fedbiomed/message.hpp"
#include "fedagent/fedbiomed/version.hpp"

namespace fedagent::fedbiomed {

/// The transport of the Fed-BioMed wire, for the agents.
template <class Executor = boost::asio::any_io_executor, class Clock = std::chrono::steady_clock>
struct Transport {
  using executor_type = Executor;
  using clock_type = Clock;
  using message_type = Message;
  using wire_type = std::string;

  /** @par Errors `version_mismatch`, and those of `Message::parse`. */
  static boost::system::result<message_type> decode(wire_type wire) {
    auto message = Message::parse(std::move(wire));
    if (!message) {
      return message.error();
    }
    if (const auto version = parse_version(message->protocol_version()); !version) {
      return version.error();
    }
    return message;
  }
};

}  // namespace fedagent::fedbiomed
