#pragma once

#include <boost/asio/error.hpp>
#include <boost/system/error_code.hpp>
#include <boost/system/result.hpp>
#include <optional>

#include "fedagent/node_agent.hpp"

namespace fedagent {

/// One poll of a node that waits without a coroutine.
/**
 * For a transport that has an object for each connection anyway: derived from this, it needs no
 * other memory while the node waits, and that is where nodes spend their time. `Poll` and
 * `serve_task_call` do the same with a coroutine.
 *
 * `open`, then `try_get_task` until there is an outcome: at once, and each time after `on_ready`.
 * Then deliver the task as with a `Poll`, let it go, and `close`.
 *
 * @par Lifetimes
 * May outlive the agent; it then ends with `stopped`. The destructor closes it.
 * @par Thread safety
 * Unsafe: on the agent's executor.
 */
template <class Transport, class Message, class Observer>
class ParkedPoll : private detail::Waiting<transport_clock_t<Transport>> {
  // Names that a class derived from this is not likely to use.
  using core_type = detail::AgentCore<Transport, Message, Observer>;
  using core_ptr = detail::AgentPtr<core_type>;

 public:
  using agent_type = NodeAgentAsync<Transport, Message, Observer>;
  using task_type = typename agent_type::task_type;

  ParkedPoll() noexcept : detail::Waiting<transport_clock_t<Transport>>(errc::poll_ended) {}
  ParkedPoll(const ParkedPoll&) = delete;
  ParkedPoll& operator=(const ParkedPoll&) = delete;

  /// Opens it, by the agent's `PollPolicy`. @pre It is not open.
  /**
   * @return Why it did not open: `poll_refused`, `removed`, `stopped`; `operation_aborted` when a
   * handler that ran meanwhile has closed it; no error when it did.
   */
  boost::system::error_code open(const agent_type& agent, SessionId session = 0) {
    const auto core = agent.core_;  // a handler may let the agent go
    this->begin_anew();
    const auto error = core->open_poll(state_, session);
    if (!error) {
      core_ = core.ref();
      is_open_ = true;
    }
    if (this->verdict()) {
      close();
      return this->verdict();
    }
    return error;
  }
  bool is_open() const noexcept { return is_open_; }

  /// The next task, or why the poll is to end: `superseded`, `poll_ended`, `removed`, `stopped`;
  /// `operation_aborted` when a handler that ran meanwhile has closed it.
  /** @return None: there is nothing yet, and `on_ready` will be called. @pre It is open. */
  std::optional<boost::system::result<task_type>> try_get_task() {
    this->take_wake_up();
    const auto core = core_ptr::lock(core_);
    if (!core) {
      // It may have learnt why before the agent was gone.
      return this->verdict() ? this->verdict() : make_error_code(errc::stopped);
    }
    return core->try_take(&state_, this, state_.until);
  }

  /// The poll has ended: the node is WAITING, unless another one is open.
  /** Any handler of the user may call it, in the middle of `open` and `try_get_task` too. */
  void close() noexcept {
    this->decide(boost::asio::error::operation_aborted);
    if (!is_open_) {
      return;
    }
    is_open_ = false;
    this->step_out();
    state_.unlink();
    if (const auto core = core_ptr::lock(core_)) {
      core->wake_takers();  // it may have been woken for a task
      core->poll_ended();
    }
    core_ = {};
  }

 protected:
  ~ParkedPoll() { close(); }

  /// Called once when it is time for `try_get_task`, in the middle of what the agent does.
  /** So it calls neither the agent nor its store: it posts that. */
  virtual void on_ready() noexcept = 0;

 private:
  void on_wake() noexcept override { on_ready(); }

  detail::AgentRef<core_type> core_{};
  typename core_type::Poll state_{};
  bool is_open_ = false;
};

}  // namespace fedagent
