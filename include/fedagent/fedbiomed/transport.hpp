#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/system/result.hpp>
#include <chrono>
#include <utility>

#include "fedagent/fedbiomed/message.hpp"
#include "fedagent/fedbiomed/version.hpp"

namespace fedagent::fedbiomed {

/// The transport of the Fed-BioMed wire, for the agents.
/**
 * A reply comes as a message that has been read already: who sent it is told in it.
 */
template <class Executor = boost::asio::any_io_executor, class Clock = std::chrono::steady_clock>
struct Transport {
  using executor_type = Executor;
  using clock_type = Clock;
  using message_type = Message;
  using wire_type = Message;

  /** @par Errors `version_mismatch`. */
  static boost::system::result<message_type> decode(wire_type wire) {
    if (const auto version = parse_version(wire.protocol_version()); !version) {
      return version.error();
    }
    return wire;
  }
};

}  // namespace fedagent::fedbiomed
