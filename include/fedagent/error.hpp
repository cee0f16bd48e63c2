#pragma once

#include <array>
#include <boost/system/error_category.hpp>
#include <boost/system/error_code.hpp>
#include <cstddef>
#include <type_traits>

#include "fedagent/detail/error_category.hpp"

namespace fedagent {

/// Why a message, a request, a poll or a reply ended otherwise than well.
enum class errc {
  // How an accepted message can end without its delivery being confirmed. `drop_reasons` counts
  // these.

  /// The node is DISCONNECTED and the policy is to refuse or to drop.
  disconnected = 1,
  /// The message was still undelivered `max_age` after its first send.
  expired,
  /// As many deliveries as `max_retries` allows have died unconfirmed.
  retries_exhausted,
  /// `flush` withdrew the request.
  flushed,
  /// The agent was erased, or expired after a long disconnection.
  removed,
  /// The agent or its store has been stopped.
  stopped,
  /// The request's own deadline has passed.
  deadline_passed,
  /// A newer message took its place in a full queue (`OverflowPolicy::drop_oldest`).
  displaced,
  /// The transport cannot encode the message; another attempt would end the same way.
  not_encodable,
  /// The coroutine that awaited the request was cancelled or destroyed.
  cancelled,

  // Why a message is not accepted.

  /// The queue has no room for the message.
  queue_full,
  /// The message alone is larger than the queue's limit in bytes.
  message_too_large,
  /// A request with this id is still open at this agent.
  duplicate_request_id,
  /// A reply handler was given with a message that has no request id.
  request_id_missing,

  // What can be wrong with a node or its id.

  /// The store has no agent for this node.
  unknown_node,
  /// The node id is empty or longer than `max_node_id_length`.
  bad_node_id,
  /// The store's admission check refused the node id.
  not_admitted,
  /// The store holds `max_agents` agents already.
  too_many_agents,
  /// The message names another node than the one that sent it.
  wrong_node,
  /// An overlay message came in and nothing forwards it.
  no_route,

  // How a poll can end without a task.

  /// A newer poll of the node took over.
  superseded,
  /// Another poll of the node is open and the policy keeps that one.
  poll_refused,
  /// The poll's time is over; the node is expected to poll again.
  poll_ended,

  // The rest.

  /// `task_done` without a taken task.
  no_task_taken,
  /// The user's handler threw.
  handler_failed,

  // How a node of a round can be left without an answer, besides the reasons above.

  /// The round ended first.
  round_ended,
  /// No message was made for the node.
  no_message,

  /// The source has `relay_quota` messages under way to this destination already.
  quota_exceeded,
};

/// The number of reasons an accepted message can be dropped for: the values from 1 to this one.
inline constexpr std::size_t drop_reasons = static_cast<std::size_t>(errc::cancelled);

namespace detail {

inline constexpr auto sentences = std::to_array<ErrorSentence<errc>>({
    {errc::disconnected, "the node is disconnected"},
    {errc::expired, "the message was not delivered within its maximum age"},
    {errc::retries_exhausted, "the message was not confirmed in any of its delivery attempts"},
    {errc::flushed, "the request was flushed"},
    {errc::removed, "the agent of the node was removed"},
    {errc::stopped, "the agent or its store was stopped"},
    {errc::deadline_passed, "the deadline of the request has passed"},
    {errc::displaced, "a newer message took the place of this one in a full queue"},
    {errc::not_encodable, "the transport cannot encode the message"},
    {errc::cancelled, "the wait for the outcome was cancelled"},
    {errc::queue_full, "the queue of the node is full"},
    {errc::message_too_large, "the message is larger than the queue limit in bytes"},
    {errc::duplicate_request_id, "a request with the same id is still open"},
    {errc::request_id_missing, "a reply handler needs a message with a request id"},
    {errc::unknown_node, "no agent is known for the node"},
    {errc::bad_node_id, "the node id is empty or too long"},
    {errc::not_admitted, "the admission check refused the node id"},
    {errc::too_many_agents, "the store holds its maximum number of agents"},
    {errc::wrong_node, "the message names another node than the one that sent it"},
    {errc::no_route, "nothing forwards overlay messages"},
    {errc::superseded, "a newer poll of the node took over"},
    {errc::poll_refused, "another poll of the node is open"},
    {errc::poll_ended, "the time of the poll is over"},
    {errc::no_task_taken, "task_done was called without a taken task"},
    {errc::handler_failed, "the handler threw an exception"},
    {errc::round_ended, "the round ended first"},
    {errc::no_message, "no message was made for the node"},
    {errc::quota_exceeded, "the source has as many messages under way to this node as it may"},
});
static_assert(all_have_sentences<errc>(sentences, errc::quota_exceeded));

inline constexpr ErrorCategory<errc> error_category_instance(0x6b0c1f5e9d8a4e27U, "fedagent",
                                                             sentences);

}  // namespace detail

/// The category of every `errc`; its name is "fedagent".
inline const boost::system::error_category& error_category() noexcept {
  return detail::error_category_instance;
}

inline boost::system::error_code make_error_code(errc error) noexcept {
  return {static_cast<int>(error), error_category()};
}

}  // namespace fedagent

template <>
struct boost::system::is_error_code_enum<fedagent::errc> : std::true_type {};
