#pragma once

#include <boost/system/error_code.hpp>
#include <concepts>
#include <cstdint>
#include <exception>
#include <string_view>
#include <utility>

#include "fedagent/counters.hpp"
#include "fedagent/message.hpp"
#include "fedagent/node_status.hpp"

namespace fedagent {

/// Watches nothing. An observer is any type with some of the hooks below; absent hooks cost
/// nothing.
/**
 * - `on_status(node_id, from, to)`: the status of a node changed.
 * - `on_queued(node_id, message, status)`: a message was accepted; the node has this status.
 * - `on_delivered(node_id, message)`: a transport has delivered it; not confirmed yet.
 * - `on_confirmed(node_id, message)`: the next poll or a reply has confirmed the delivery.
 * - `on_requeued(node_id, message, retry_count)`: its lease died; it is back at the front.
 * - `on_dropped(node_id, message, error)`: an accepted message ended unconfirmed.
 * - `on_refused(node_id, message, error)`: a message was not accepted.
 * - `on_reply(node_id, message, disposition)`: a reply came in, `uncorrelated` ones too.
 * - `on_unknown_node(node_id, message)`: a reply came from a node without an agent.
 * - `on_handler_error(node_id, exception)`: a user's handler threw.
 * - `on_feedback(node_id, feedback)`: `serve_feedback` was called; may throw.
 *
 * Node ids are `std::string_view`, valid during the call; messages are `const MessagePtr<M>&`.
 *
 * @par Executor
 * Hooks run on the agent's executor, in the middle of what they report. They do not throw and do
 * not call the agent or its store; a hook that must do so posts it.
 */
struct NoObserver {};

namespace detail {

// Calls the hooks that an observer has. A hook that is there by name but cannot be called with its
// arguments would otherwise be left out in silence, so it is refused.
template <class Observer, class M>
class Hooks {
 public:
  explicit Hooks(Observer observer) : observer_(std::move(observer)) {}

  void status(std::string_view node, NodeActiveStatus from, NodeActiveStatus to) noexcept {
    if constexpr (requires { observer_.on_status(node, from, to); }) {
      observer_.on_status(node, from, to);
    } else {
      static_assert(
          !requires { &Observer::on_status; },
          "fedagent: Observer::on_status must take (std::string_view, NodeActiveStatus, "
          "NodeActiveStatus)");
    }
  }
  void queued(std::string_view node, const MessagePtr<M>& message,
              NodeActiveStatus status) noexcept {
    if constexpr (requires { observer_.on_queued(node, message, status); }) {
      observer_.on_queued(node, message, status);
    } else {
      static_assert(
          !requires { &Observer::on_queued; },
          "fedagent: Observer::on_queued must take (std::string_view, MessagePtr<M>, "
          "NodeActiveStatus)");
    }
  }
  void delivered(std::string_view node, const MessagePtr<M>& message) noexcept {
    if constexpr (requires { observer_.on_delivered(node, message); }) {
      observer_.on_delivered(node, message);
    } else {
      static_assert(
          !requires { &Observer::on_delivered; },
          "fedagent: Observer::on_delivered must take (std::string_view, MessagePtr<M>)");
    }
  }
  void confirmed(std::string_view node, const MessagePtr<M>& message) noexcept {
    if constexpr (requires { observer_.on_confirmed(node, message); }) {
      observer_.on_confirmed(node, message);
    } else {
      static_assert(
          !requires { &Observer::on_confirmed; },
          "fedagent: Observer::on_confirmed must take (std::string_view, MessagePtr<M>)");
    }
  }
  void requeued(std::string_view node, const MessagePtr<M>& message,
                std::uint32_t retry_count) noexcept {
    if constexpr (requires { observer_.on_requeued(node, message, retry_count); }) {
      observer_.on_requeued(node, message, retry_count);
    } else {
      static_assert(
          !requires { &Observer::on_requeued; },
          "fedagent: Observer::on_requeued must take (std::string_view, MessagePtr<M>, "
          "std::uint32_t)");
    }
  }
  void dropped(std::string_view node, const MessagePtr<M>& message,
               boost::system::error_code error) noexcept {
    if constexpr (requires { observer_.on_dropped(node, message, error); }) {
      observer_.on_dropped(node, message, error);
    } else {
      static_assert(
          !requires { &Observer::on_dropped; },
          "fedagent: Observer::on_dropped must take (std::string_view, MessagePtr<M>, "
          "boost::system::error_code)");
    }
  }
  void refused(std::string_view node, const MessagePtr<M>& message,
               boost::system::error_code error) noexcept {
    if constexpr (requires { observer_.on_refused(node, message, error); }) {
      observer_.on_refused(node, message, error);
    } else {
      static_assert(
          !requires { &Observer::on_refused; },
          "fedagent: Observer::on_refused must take (std::string_view, MessagePtr<M>, "
          "boost::system::error_code)");
    }
  }
  void reply(std::string_view node, const MessagePtr<M>& message,
             ReplyDisposition disposition) noexcept {
    if constexpr (requires { observer_.on_reply(node, message, disposition); }) {
      observer_.on_reply(node, message, disposition);
    } else {
      static_assert(
          !requires { &Observer::on_reply; },
          "fedagent: Observer::on_reply must take (std::string_view, MessagePtr<M>, "
          "ReplyDisposition)");
    }
  }
  void unknown_node(std::string_view node, const MessagePtr<M>& message) noexcept {
    if constexpr (requires { observer_.on_unknown_node(node, message); }) {
      observer_.on_unknown_node(node, message);
    } else {
      static_assert(
          !requires { &Observer::on_unknown_node; },
          "fedagent: Observer::on_unknown_node must take (std::string_view, MessagePtr<M>)");
    }
  }
  void handler_error(std::string_view node, std::exception_ptr error) noexcept {
    if constexpr (requires { observer_.on_handler_error(node, error); }) {
      observer_.on_handler_error(node, error);
    } else {
      static_assert(
          !requires { &Observer::on_handler_error; },
          "fedagent: Observer::on_handler_error must take (std::string_view, std::exception_ptr)");
    }
  }
  // Feedback is the user's own type, so the hook may be a template; it may throw.
  template <class Feedback>
  bool feedback(std::string_view node, const Feedback& value) {
    if constexpr (requires { observer_.on_feedback(node, value); }) {
      observer_.on_feedback(node, value);
      return true;
    } else {
      return false;
    }
  }

  Observer& observer() noexcept { return observer_; }

 private:
  [[no_unique_address]] Observer observer_;
};

}  // namespace detail
}  // namespace fedagent
