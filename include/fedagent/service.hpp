#pragma once

#include <boost/asio/error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/system/result.hpp>
#include <exception>
#include <string>
#include <string_view>
#include <utility>

#include "fedagent/agent_store.hpp"
#include "fedagent/detail/waiter.hpp"
#include "fedagent/poll.hpp"

namespace fedagent {

/// Serves one task call from its start to its end: waits for a task and delivers it.
/**
 * @param call A `TaskCall`; it must outlive the operation.
 * @return Nothing when a task was delivered. Otherwise what the transport tells the node:
 * `poll_ended` (come again), `superseded`, `poll_refused`, `bad_node_id`, `not_admitted`,
 * `too_many_agents`, `removed`, `stopped`, or the error of `deliver`. A task that was not delivered
 * is back in the queue when this returns.
 * @par Lifetimes
 * The store must live when this starts; it may be stopped or destroyed while this waits.
 * @par Cancellation
 * All types, at any point: the peer is gone. Ends with `operation_aborted`, or with what `deliver`
 * returns or throws.
 * @par Source
 * E1, E7 to E12.
 */
template <class T, class M, class O, class Call>
typename AgentStore<T, M, O>::template awaitable<boost::system::result<void>> serve_task_call(
    AgentStore<T, M, O>& store, Call& call) {
  static_assert(TaskCall<Call, M>,
                "fedagent: TaskCall must provide node_id() and deliver(MessagePtr<Message>)");
  SessionId session = 0;
  if constexpr (requires { static_cast<SessionId>(call.session()); }) {
    session = call.session();
  }
  auto agent = store.retrieve(call.node_id());
  if (!agent) {
    co_return agent.error();
  }
  Poll<T, M, O> poll(*agent, session);
  if (detail::is_cancelled(co_await boost::asio::this_coro::cancellation_state)) {
    co_return boost::asio::error::operation_aborted;
  }
  auto task = co_await poll.get_task();
  if (!task) {
    co_return task.error();
  }
  if (detail::is_cancelled(co_await boost::asio::this_coro::cancellation_state)) {
    co_return boost::asio::error::operation_aborted;
  }
  boost::system::result<void> delivered = co_await call.deliver(task->message());
  if (delivered) {
    task->delivered();
  } else if (delivered.error() == errc::not_encodable) {
    task->not_encodable();
  }
  co_return delivered;
}

/// Takes a reply, or an overlay message to relay, from the node that the transport has verified.
/**
 * @param receipt Told once what became of an overlay message that was `forwarded`, so that its
 * source can learn it.
 * @return What the reply was. Or an error for the node: `unknown_node`, `wrong_node`, the errors of
 * `decode`, or, for an overlay message, why it is not relayed: `no_route`, `unknown_node`,
 * `quota_exceeded`, or why its destination's agent did not take it.
 * @par Source
 * D21, E13, E14, E20.
 */
template <class T, class M, class O>
typename AgentStore<T, M, O>::template awaitable<boost::system::result<ReplyDisposition>>
serve_reply(AgentStore<T, M, O>& store, std::string peer_id,
            typename AgentStore<T, M, O>::received reply, Receipt receipt = {}) {
  const auto agent = store.get(peer_id);
  if (!agent) {
    co_return store.context()->unknown_node(peer_id, reply);
  }
  auto taken = co_await agent->on_reply(std::move(reply), std::move(receipt));
  co_return taken;
}

/// As `serve_reply`, at once; see `NodeAgentAsync::try_on_reply`.
template <class T, class M, class O>
boost::system::result<ReplyDisposition> try_serve_reply(
    AgentStore<T, M, O>& store, std::string_view peer_id,
    const typename AgentStore<T, M, O>::received& reply, Receipt receipt = {}) {
  const auto agent = store.get(peer_id);
  return agent ? agent->try_on_reply(reply, std::move(receipt))
               : store.context()->unknown_node(peer_id, reply);
}

/// Refuses what a node sends under the id of another one: counts it, and tells the observer.
/**
 * For what the transport refuses itself; `serve_reply` does so for a message whose source is
 * another node. No agent is made, and it is no sign of life.
 *
 * @param peer_id The node that the transport has verified.
 * @param claim The one that it names.
 * @return `wrong_node`.
 * @par Source
 * D21, H19.
 */
template <class T, class M, class O>
boost::system::error_code refuse_wrong_node(AgentStore<T, M, O>& store, std::string_view peer_id,
                                            std::string_view claim) {
  return store.context()->wrong_node(peer_id, claim);
}

/// Hands feedback of a node, a log line or a metric of any type, to the observer's `on_feedback`.
/**
 * @return `unknown_node`; `no_route` when the observer does not take this type; `handler_failed`
 * when it threw.
 * @par Source
 * E18.
 */
template <class T, class M, class O, class Feedback>
boost::system::result<void> serve_feedback(AgentStore<T, M, O>& store, std::string_view peer_id,
                                           const Feedback& feedback) {
  const auto agent = store.get(peer_id);
  if (!agent) {
    return make_error_code(errc::unknown_node);
  }
  agent->touch();
  try {
    if (!store.context()->hooks.feedback(peer_id, feedback)) {
      return make_error_code(errc::no_route);
    }
  } catch (...) {
    store.context()->hooks(detail::hook::handler_error, peer_id, std::current_exception());
    return make_error_code(errc::handler_failed);
  }
  return {};
}

}  // namespace fedagent
