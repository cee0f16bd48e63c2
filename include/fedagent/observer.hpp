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
 * - `on_wrong_node(node_id, claim)`: a node has named another one, the `claim`, as itself.
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

// The hooks by their names. Each can be called with an observer that has it for these arguments.
namespace hook {

inline constexpr auto status = [](auto& o, auto&... a) -> decltype(o.on_status(a...)) {
  return o.on_status(a...);
};
inline constexpr auto queued = [](auto& o, auto&... a) -> decltype(o.on_queued(a...)) {
  return o.on_queued(a...);
};
inline constexpr auto delivered = [](auto& o, auto&... a) -> decltype(o.on_delivered(a...)) {
  return o.on_delivered(a...);
};
inline constexpr auto confirmed = [](auto& o, auto&... a) -> decltype(o.on_confirmed(a...)) {
  return o.on_confirmed(a...);
};
inline constexpr auto requeued = [](auto& o, auto&... a) -> decltype(o.on_requeued(a...)) {
  return o.on_requeued(a...);
};
inline constexpr auto dropped = [](auto& o, auto&... a) -> decltype(o.on_dropped(a...)) {
  return o.on_dropped(a...);
};
inline constexpr auto refused = [](auto& o, auto&... a) -> decltype(o.on_refused(a...)) {
  return o.on_refused(a...);
};
inline constexpr auto reply = [](auto& o, auto&... a) -> decltype(o.on_reply(a...)) {
  return o.on_reply(a...);
};
inline constexpr auto unknown_node = [](auto& o, auto&... a) -> decltype(o.on_unknown_node(a...)) {
  return o.on_unknown_node(a...);
};
inline constexpr auto wrong_node = [](auto& o, auto&... a) -> decltype(o.on_wrong_node(a...)) {
  return o.on_wrong_node(a...);
};
inline constexpr auto handler_error = [](auto& o,
                                         auto&... a) -> decltype(o.on_handler_error(a...)) {
  return o.on_handler_error(a...);
};

}  // namespace hook

// A hook that is there by name but cannot be called with its arguments would be left out in
// silence, so it is refused. (But on_feedback: feedback is the user's own type.)
template <class O, class M>
struct check_observer {
  using Ptr = MessagePtr<M>;
  using error_code = boost::system::error_code;
  template <auto Hook, class... Args>
  static constexpr bool takes =
      std::invocable<decltype(Hook), O&, const std::string_view&, const Args&...>;

  static_assert(
      takes<hook::status, NodeActiveStatus, NodeActiveStatus> || !requires { &O::on_status; },
      "fedagent: Observer::on_status must take (std::string_view, NodeActiveStatus, "
      "NodeActiveStatus)");
  static_assert(
      takes<hook::queued, Ptr, NodeActiveStatus> || !requires { &O::on_queued; },
      "fedagent: Observer::on_queued must take (std::string_view, MessagePtr<M>, "
      "NodeActiveStatus)");
  static_assert(
      takes<hook::delivered, Ptr> || !requires { &O::on_delivered; },
      "fedagent: Observer::on_delivered must take (std::string_view, MessagePtr<M>)");
  static_assert(
      takes<hook::confirmed, Ptr> || !requires { &O::on_confirmed; },
      "fedagent: Observer::on_confirmed must take (std::string_view, MessagePtr<M>)");
  static_assert(
      takes<hook::requeued, Ptr, std::uint32_t> || !requires { &O::on_requeued; },
      "fedagent: Observer::on_requeued must take (std::string_view, MessagePtr<M>, std::uint32_t)");
  static_assert(
      takes<hook::dropped, Ptr, error_code> || !requires { &O::on_dropped; },
      "fedagent: Observer::on_dropped must take (std::string_view, MessagePtr<M>, "
      "boost::system::error_code)");
  static_assert(
      takes<hook::refused, Ptr, error_code> || !requires { &O::on_refused; },
      "fedagent: Observer::on_refused must take (std::string_view, MessagePtr<M>, "
      "boost::system::error_code)");
  static_assert(
      takes<hook::reply, Ptr, ReplyDisposition> || !requires { &O::on_reply; },
      "fedagent: Observer::on_reply must take (std::string_view, MessagePtr<M>, ReplyDisposition)");
  static_assert(
      takes<hook::unknown_node, Ptr> || !requires { &O::on_unknown_node; },
      "fedagent: Observer::on_unknown_node must take (std::string_view, MessagePtr<M>)");
  static_assert(
      takes<hook::wrong_node, std::string_view> || !requires { &O::on_wrong_node; },
      "fedagent: Observer::on_wrong_node must take (std::string_view, std::string_view)");
  static_assert(
      takes<hook::handler_error, std::exception_ptr> || !requires { &O::on_handler_error; },
      "fedagent: Observer::on_handler_error must take (std::string_view, std::exception_ptr)");
  using type = void;
};

/// Calls the hooks that an observer has.
template <class Observer, class M>
class Hooks {
  using Checked = typename check_observer<Observer, M>::type;

 public:
  explicit Hooks(Observer observer) : observer_(std::move(observer)) {}

  template <class Hook, class... Args>
  void operator()(Hook hook, const Args&... args) noexcept {
    if constexpr (std::invocable<Hook, Observer&, const Args&...>) {
      hook(observer_, args...);
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
