#pragma once

#include <algorithm>
#include <boost/system/error_code.hpp>

#include "fedagent/node_agent.hpp"

namespace fedagent {

/// One poll of a node, open as long as this object lives.
/**
 * A local variable of the coroutine that serves the poll. It opens in the constructor, by the
 * agent's `PollPolicy`; look at `error` before going on. Destroy what `get_task` returned before
 * the poll.
 *
 * @par Lifetimes
 * May outlive the agent; `get_task` then ends with `stopped`.
 * @par Thread safety
 * Unsafe: on the agent's executor.
 */
template <class Transport, class Message, class Observer>
class Poll {
  using Agent = NodeAgentAsync<Transport, Message, Observer>;

 public:
  /// @param session Which life of the node polls; zero when the transport does not know.
  explicit Poll(const Agent& agent, SessionId session = 0) : core_(agent.core_.ref()) {
    const auto core = agent.core_;  // a handler may let the agent go
    error_ = core->open_poll(state_, session);
  }
  Poll(const Poll&) = delete;
  Poll& operator=(const Poll&) = delete;
  ~Poll() {
    if (const auto core = Ptr::lock(core_); core && !error_) {
      state_.unlink();
      core->poll_ended();
    }
  }

  /// Why the poll did not open: `poll_refused`, `removed`, `stopped`; no error when it did.
  boost::system::error_code error() const noexcept { return error_; }

  /// Waits for the next task, at most for what is left of `poll_timeout`.
  /**
   * @param until When to end with `poll_ended` even so. The poll stays open, and may wait again.
   * @par Cancellation
   * Takes nothing.
   * @par Errors
   * `superseded`, `poll_ended`, `removed`, `stopped`, or that of `error`.
   */
  typename Agent::template awaitable<boost::system::result<typename Agent::task_type>> get_task(
      typename Agent::time_point until = Agent::time_point::max()) {
    return error_ ? Agent::Coroutines::refuse(error_)
                  : Agent::Coroutines::take(core_, &state_, std::min(until, state_.until));
  }

 private:
  using Ptr = typename Agent::Core::Ptr;

  detail::AgentRef<typename Agent::Core> core_;
  typename Agent::Core::Poll state_;
  boost::system::error_code error_{};
};

template <class T, class M, class O>
Poll(const NodeAgent<T, M, O>&, SessionId) -> Poll<T, M, O>;

}  // namespace fedagent
