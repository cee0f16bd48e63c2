#pragma once

#include <cstdint>
#include <optional>

namespace fedagent {

/// What a send may say besides the message.
template <class Clock>
struct SendOptions {
  /// When the request ends with `deadline_passed` whatever its state. `max()`: never.
  typename Clock::time_point deadline = Clock::time_point::max();
  /// How often the message was sent before. Above zero it is a redelivery: it passes the checks for
  /// a new message, and an open request with this id goes back to the front of the queue.
  std::uint32_t retry_count = 0;
  /// When it was sent first; none: now.
  std::optional<typename Clock::time_point> first_send_time{};
};

/// The default handler: nobody waits for the outcome.
struct NoHandler {
  template <class OutcomeType>
  void operator()(OutcomeType&& /*outcome*/) const noexcept {}
};

}  // namespace fedagent
