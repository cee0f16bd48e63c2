#pragma once

#include <boost/system/error_code.hpp>
#include <chrono>
#include <cstddef>
#include <utility>

#include "fedagent/error.hpp"
#include "fedagent/options.hpp"
#include "fedagent/send_options.hpp"

namespace fedagent::detail {

/// What is to know of a message that wants to be let in.
struct Arrival {
  /// By `message_traits::size`.
  std::size_t size = 0;
  /// Whether a handler awaits the reply.
  bool handled = false;
  bool has_id = false;
  /// Whether a request with its id is open.
  bool id_is_open = false;
  bool node_is_lost = false;
  /// Whether other senders have waited for room for longer.
  bool others_wait = false;
};

/// Why a message is not let in, whatever room there is; no error: it is, when there is room.
/** `queue_full` is the last reason, so that whoever waits for room waits for room only. */
template <class Clock>
boost::system::error_code refusal_of(const Arrival& arrival, const SendOptions<Clock>& options,
                                     const AgentOptions& limits, typename Clock::time_point now) {
  const bool again = options.retry_count > 0;
  const auto age = now - options.first_send_time.value_or(now);
  const std::pair<bool, errc> reasons[] = {
      {arrival.handled && !arrival.has_id, errc::request_id_missing},
      {arrival.id_is_open, errc::duplicate_request_id},
      {now >= options.deadline, errc::deadline_passed},
      {limits.max_age > Duration::zero() && age >= limits.max_age, errc::expired},
      {!again && arrival.node_is_lost && limits.when_disconnected == DisconnectedPolicy::refuse,
       errc::disconnected},
      {!again && limits.max_queued_bytes > 0 && arrival.size > limits.max_queued_bytes,
       errc::message_too_large},
      {!again && limits.overflow == OverflowPolicy::wait && arrival.others_wait, errc::queue_full},
  };
  for (const auto& [holds, reason] : reasons) {
    if (holds) {
      return reason;
    }
  }
  return {};
}

}  // namespace fedagent::detail
