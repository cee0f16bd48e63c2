#pragma once

#include <boost/system/result.hpp>
#include <concepts>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <utility>

#include "fedagent/message.hpp"

namespace fedagent {

/// The message of a send, as it is given: the message itself, or a pointer to one that is shared.
template <class M>
class Sendable {
 public:
  /// Implicit, so that a send is called with either.
  template <class Given>
    requires std::convertible_to<Given, MessagePtr<M>> || std::convertible_to<Given, M>
  Sendable(Given message) {
    if constexpr (std::convertible_to<Given, MessagePtr<M>>) {
      message_ = std::move(message);
    } else {
      message_ = std::make_shared<const M>(std::move(message));
    }
  }

  /// The message as it travels.
  MessagePtr<M> share() && noexcept { return std::move(message_); }

 private:
  MessagePtr<M> message_{};
};

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

/// Told once what became of a relayed message that was accepted.
/**
 * Nothing: its destination has it, as the next poll has confirmed; or a forwarder of your own has
 * taken it. Or why not: `expired`, `retries_exhausted`, `disconnected`, `displaced`,
 * `not_encodable`, `removed`, `stopped`.
 *
 * @par Executor
 * Runs on that of the agents, and may call them. What it throws goes to `on_handler_error`.
 */
using Receipt = std::function<void(boost::system::result<void>)>;

namespace detail {

/// Whether a handler waits for a reply, which takes a request id.
template <class Handler>
inline constexpr bool awaits_reply =
    !std::same_as<Handler, NoHandler> && !requires { typename Handler::awaits_delivery_only; };

}  // namespace detail

}  // namespace fedagent
