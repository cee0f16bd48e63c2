#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/post.hpp>
#include <boost/system/result.hpp>
#include <chrono>
#include <concepts>
#include <future>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "fedagent/detail/agent_coroutines.hpp"

namespace fedagent {

template <class Transport, class Message, class Observer>
class Poll;
template <class Transport, class Message, class Observer>
class ParkedPoll;

/// One node as the server sees it: a queue of tasks, leases, a reply table and a status.
/**
 * A cheap handle to shared state: copies are the same agent, and compare equal. It belongs to one
 * executor and takes no lock. `NodeAgent` adds what other threads may call.
 *
 * A node polls: `set_active`, then `get_task`, then `Task::delivered` when the transport has handed
 * the task over, then `change_node_status_after_task`. `Poll` does the same with a scope, and
 * `serve_task_call` does it all for a transport.
 *
 * @tparam Transport_ See the concept `Transport`.
 * @tparam Message_ See the concept `Message`.
 * @tparam Observer_ See `NoObserver` for the hooks.
 *
 * @par Lifetimes
 * The last handle ends the agent, as `stop` does. A coroutine that waits for something of the agent
 * does not keep it alive; it ends with `stopped`. Let the last handle go on the executor, or when
 * the executor no longer runs.
 * @par Cancellation
 * Every wait supports all types of cancellation, ends with `operation_aborted`, and has had no
 * effect.
 * @par Thread safety
 * Agents that stand alone: safe apart from each other. One agent, and the agents of one store:
 * unsafe, all calls on their executor.
 */
template <class Transport_, class Message_ = typename detail::message_of<Transport_>::type,
          class Observer_ = NoObserver>
class NodeAgentAsync {
  using Checked = typename detail::check_parameters<Transport_, Message_>::type;

 public:
  using transport_type = Transport_;
  using message_type = Message_;
  using observer_type = Observer_;
  using executor_type = typename Transport_::executor_type;
  using clock_type = transport_clock_t<Transport_>;
  using time_point = typename clock_type::time_point;
  using task_type = Task<message_type, clock_type>;
  using message_ptr = MessagePtr<message_type>;
  using outcome_type = Outcome<message_type>;
  using send_options = SendOptions<clock_type>;
  using sendable = Sendable<message_type>;
  using received = Received<Transport_, message_type>;
  template <class T>
  using awaitable = boost::asio::awaitable<T, executor_type>;
  template <class T>
  using result = boost::system::result<T>;
  /// What hands an overlay message on; without one, an agent that stands alone says `no_route`.
  using forwarder_type = typename detail::AgentContext<Transport_, Message_, Observer_>::Forwarder;

  /// Makes an agent that stands alone; a store makes its own.
  /** @par Errors `std::invalid_argument` when an option is out of range. */
  NodeAgentAsync(std::string_view id, const executor_type& executor, forwarder_type on_forward = {},
                 const AgentOptions& options = {}, Observer_ observer = {})
      : core_(Core::make(id,
                         std::make_shared<Context>(executor, StoreOptions{.agent = options},
                                                   std::move(on_forward), std::move(observer)))) {}

  /// The id of the node. The view is valid as long as a handle is.
  std::string_view id() const noexcept { return core_->id; }
  executor_type get_executor() const noexcept { return core_->context->executor; }
  friend bool operator==(const NodeAgentAsync& a, const NodeAgentAsync& b) noexcept {
    return a.core_ == b.core_;
  }

  // ---- sending

  /// Sends a message to the node, waiting for room in its queue under `OverflowPolicy::wait`.
  /**
   * @param on_reply Called with the outcome, exactly once, when the message was accepted; the
   * reply, or why there is none. It runs on the executor and may call the agent; what it throws is
   * counted and reported to `on_handler_error`.
   * @return Whether the message was accepted.
   * @par Cancellation
   * While it waits for room: nothing was sent.
   * @par Errors
   * `disconnected`, `queue_full`, `message_too_large`, `duplicate_request_id`, `request_id_missing`
   * (a handler, but no id, or an overlay message), `deadline_passed`, `expired`, `removed`,
   * `stopped`.
   * @par Source
   * C1 to C6.
   */
  template <class Handler = NoHandler>
    requires std::invocable<Handler, outcome_type>
  awaitable<result<void>> send_async(sendable message, Handler on_reply = {},
                                     send_options options = {}) const {
    return Coroutines::send(core_.ref(), std::move(message).share(), std::move(on_reply), options);
  }

  /// As `send_async`, at once: a full queue is `queue_full` under every policy but `drop_oldest`.
  template <class Handler = NoHandler>
    requires std::invocable<Handler, outcome_type>
  result<void> try_send(sendable message, Handler on_reply = {},
                        const send_options& options = {}) const {
    return core_->try_send(std::move(message).share(), on_reply, options);
  }

  /// Sends a request and waits for its outcome.
  /**
   * @return The reply; or the error with which `send_async` refused the message, or with which the
   * request ended: `deadline_passed`, `expired`, `retries_exhausted`, `disconnected`, `flushed`,
   * `displaced`, `not_encodable`, `removed`, `stopped`.
   * @par Cancellation
   * Withdraws the request, as `flush` does: a task that is still queued is not delivered, the reply
   * to one that is out will be a late one.
   */
  awaitable<outcome_type> request(sendable message, time_point deadline = time_point::max()) const {
    return Coroutines::request(core_.ref(), std::move(message).share(), deadline);
  }
  /// As above; the time runs from this call.
  awaitable<outcome_type> request(sendable message, Duration timeout) const {
    return request(std::move(message), detail::time_after(clock_type::now(), timeout));
  }

  /// Ends a request with `flushed`, and withdraws its task if that is still queued.
  /**
   * @param stopped Whether a reply that comes yet is called `stopped` instead of `late`.
   * @return Whether the request was open.
   * @par Source
   * D11 to D20.
   */
  bool flush(std::string_view request_id, bool stopped = false) const {
    return core_->flush(request_id, stopped);
  }

  /// Waits until nothing is queued and every delivery is confirmed.
  awaitable<result<void>> join() const {
    return Coroutines::wait_until(core_.ref(), [](const Core& core) { return core.drained(); });
  }

  // ---- the node's side

  /// A poll of the node has opened: the node is ACTIVE, and has what its earlier polls took.
  void set_active() const { core_->poll_opened(0); }

  /// Waits for the next task and leases it to the caller.
  /**
   * Waiters are served first come, first served.
   * @param until When to end with `poll_ended`.
   * @par Cancellation
   * Takes nothing; the task goes to the next waiter.
   * @par Errors
   * `poll_ended`, `removed`, `stopped`.
   * @par Source
   * C7 to C9.
   */
  awaitable<result<task_type>> get_task(time_point until = time_point::max()) const {
    return Coroutines::take(core_.ref(), nullptr, until);
  }

  /// The oldest task in hand was handed over by the transport; the same as its `Task::delivered`.
  /** @par Errors `no_task_taken`. @par Source C11, C12. */
  result<void> task_done() const { return core_->task_done(); }

  /// A poll of the node has ended: WAITING, unless another is open.
  void change_node_status_after_task() const { core_->poll_ended(); }

  /// The node gave a sign of life; the disconnection timeout starts again.
  void touch() const { core_->alive(); }

  /// Takes a reply of the node.
  /**
   * @param reply As it came off the wire, and decoded in this call; or a pointer to a message that
   * is decoded already.
   * @param receipt Told once what became of an overlay message that was `forwarded`; with a
   * forwarder of your own, as soon as that has returned.
   * @return What the reply was; or what `decode` or the forwarder returned, `wrong_node` when the
   * message says that it comes from another node, `unknown_node` when an overlay message has no
   * destination here, `quota_exceeded`, or why the destination's agent did not take it.
   * @par Source
   * D1 to D10.
   */
  awaitable<result<ReplyDisposition>> on_reply(received reply, Receipt receipt = {}) const {
    return Coroutines::take_reply(core_, std::move(reply), std::move(receipt));
  }
  /// As `on_reply`, at once: only a forwarder of your own waits, and to that nothing is handed.
  /** @par Errors Also `no_route`: an overlay message, and there is such a forwarder. */
  result<ReplyDisposition> try_on_reply(const received& reply, Receipt receipt = {}) const {
    return core_->take_reply(reply, receipt).result;
  }

  // ---- state

  /// The status, in the seed's form. It does not wait.
  NodeActiveStatus status_async() const noexcept { return core_->status().status(); }
  /// Whether the node has ever polled; a new agent is ACTIVE before that.
  bool has_polled() const noexcept { return core_->status().has_polled(); }
  std::size_t open_polls() const noexcept { return core_->status().open_polls(); }
  /// Waits until the node has this status, or has had it since the wait began.
  /** @par Errors `removed`, `stopped`. */
  awaitable<result<void>> wait_for(NodeActiveStatus status) const {
    return Coroutines::wait_until(core_.ref(), typename Coroutines::HasHadStatus{status});
  }
  LastSeen<clock_type> last_seen() const noexcept { return core_->last_seen(); }
  Counters counters() const { return core_->counters(); }
  /// Ended requests that are remembered to tell late replies.
  std::size_t remembered_requests() const noexcept { return core_->remembered(); }

  /// Sets this agent's own disconnection timeout; a running one starts again.
  /** @par Errors `std::invalid_argument` when out of range, see `AgentOptions`. */
  void disconnect_timeout(Duration timeout) const { core_->disconnect_timeout(timeout); }
  Duration disconnect_timeout() const noexcept { return core_->disconnect_timeout(); }

  /// Ends every request, message and wait with `stopped`. Nothing is accepted afterwards.
  void stop() const { core_->end(errc::stopped); }

 protected:
  using Context = detail::AgentContext<Transport_, Message_, Observer_>;
  using Core = detail::AgentCore<Transport_, Message_, Observer_>;
  using Coroutines = detail::AgentCoroutines<Transport_, Message_, Observer_>;
  friend class Poll<Transport_, Message_, Observer_>;
  friend class ParkedPoll<Transport_, Message_, Observer_>;

  explicit NodeAgentAsync(detail::AgentPtr<Core> core) noexcept : core_(std::move(core)) {}

  detail::AgentPtr<Core> core_;
};

/// An agent that other threads may send to and ask for its status.
/**
 * @par Thread safety
 * `send`, `flush` and `status` are safe to call from any thread while the caller has a handle, and
 * so are `id` and `get_executor`. All else as `NodeAgentAsync`.
 */
template <class Transport_, class Message_ = typename detail::message_of<Transport_>::type,
          class Observer_ = NoObserver>
class NodeAgent : public NodeAgentAsync<Transport_, Message_, Observer_> {
  using Base = NodeAgentAsync<Transport_, Message_, Observer_>;
  using Core = typename Base::Core;

 public:
  using typename Base::outcome_type;
  using typename Base::send_options;
  using typename Base::sendable;
  template <class T>
  using result = boost::system::result<T>;

  using Base::Base;
  /// For the store.
  explicit NodeAgent(detail::AgentPtr<Core> core) noexcept : Base(std::move(core)) {}

  /// As `try_send`, from any thread. Sends of one thread keep their order.
  /**
   * @param on_reply Called on the executor with the outcome, exactly once; also when the message is
   * refused.
   * @return Whether the message was accepted; may be ignored. Never wait for it on the executor.
   * @par Source
   * C16.
   */
  template <class Handler = NoHandler>
    requires std::invocable<Handler, outcome_type>
  std::future<result<void>> send(sendable message, Handler on_reply = {},
                                 send_options options = {}) const {
    std::promise<result<void>> accepted;  // a packaged_task would keep the rest for the future
    auto future = accepted.get_future();
    boost::asio::post(this->get_executor(), [agent = this->core_.ref(),
                                             message = std::move(message).share(),
                                             on_reply = std::move(on_reply), options,
                                             accepted = std::move(accepted)]() mutable {
      accepted.set_value(Core::send_or_tell(Core::Ptr::lock(agent), message, on_reply, options));
    });
    return future;
  }
  /// As `NodeAgentAsync::flush`, from any thread. @return Whether the request was open.
  std::future<bool> flush(std::string request_id, bool stopped = false) const {
    std::promise<bool> existed;
    auto future = existed.get_future();
    boost::asio::post(this->get_executor(),
                      [agent = this->core_.ref(), request_id = std::move(request_id), stopped,
                       existed = std::move(existed)]() mutable {
                        const auto core = Core::Ptr::lock(agent);
                        existed.set_value(core && core->flush(request_id, stopped));
                      });
    return future;
  }

  /// The latest status, from any thread: a snapshot that blocks nothing (B13).
  NodeActiveStatus status() const noexcept { return this->core_->status_snapshot(); }
};

}  // namespace fedagent
