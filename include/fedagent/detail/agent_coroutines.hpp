#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <boost/system/result.hpp>
#include <cstdint>
#include <optional>
#include <utility>

#include "fedagent/detail/agent_core.hpp"
#include "fedagent/detail/waiter.hpp"

namespace fedagent::detail {

/// What waits for something of an agent.
/**
 * While one of these is suspended it does not hold the agent: it looks for it again when it wakes,
 * and an agent that ended has told its waiters why.
 */
template <class T, class M, class O>
struct AgentCoroutines {
  using Core = AgentCore<T, M, O>;
  using Ptr = typename Core::Ptr;
  using executor_type = typename Core::executor_type;
  using clock_type = typename Core::clock_type;
  using time_point = typename Core::time_point;
  using Options = typename Core::Options;
  using Waiter = detail::Waiter<clock_type, executor_type>;
  template <class R>
  using awaitable = boost::asio::awaitable<R, executor_type>;
  template <class R>
  using result = boost::system::result<R>;

  template <class Handler>
  static awaitable<result<void>> send(AgentRef<Core> agent, MessagePtr<M> message, Handler on_reply,
                                      Options options) {
    auto core = Ptr::lock(agent);
    if (!core) {
      co_return make_error_code(errc::stopped);
    }
    constexpr bool handled = awaits_reply<Handler>;
    Waiter waiter(core->context->executor);
    while (!waiter.verdict() &&
           core->waits_for_room(*message, handled, options, waiter.in_line())) {
      if (core->ledger().queue.senders.push_back(waiter)) {
        core->context->watchdog.arm(waiter, options.deadline);
      }
      core.reset();
      co_await waiter.wait();
      core = Ptr::lock(agent);
    }
    const auto sent = waiter.verdict()
                          ? result<void>(waiter.verdict())
                          : core->try_send(message, on_reply, options, waiter.in_line());
    waiter.step_out();
    if (core) {
      core->ledger().queue.senders.wake_first(1);
    }
    co_return sent;
  }

  // A request that its coroutine awaits. Destroyed before the outcome, it withdraws the request.
  struct Awaited {
    explicit Awaited(const executor_type& executor) : waiter(executor) {}
    Awaited(const Awaited&) = delete;
    Awaited& operator=(const Awaited&) = delete;
    ~Awaited() {
      if (record && record->owner != nullptr) {
        record->owner->end_unconfirmed(*record, errc::cancelled);
      }
    }

    Waiter waiter;
    std::optional<Outcome<M>> outcome{};
    boost::intrusive_ptr<typename Core::Record> record{};
  };

  static awaitable<Outcome<M>> request(AgentRef<Core> agent, MessagePtr<M> message,
                                       time_point deadline) {
    auto core = Ptr::lock(agent);
    if (!core) {
      co_return make_error_code(errc::stopped);
    }
    Awaited awaited(core->context->executor);
    const Options options{.deadline = deadline};
    const auto request_id = awaited_id(*message);
    const auto on_outcome = [&awaited](Outcome<M> came) {
      awaited.record.reset();
      awaited.outcome = std::move(came);
      awaited.waiter.wake();
    };
    auto room = send(core.ref(), std::move(message), on_outcome, options);
    core.reset();
    auto sent = co_await std::move(room);
    if (!sent) {
      co_return sent.error();
    }
    core = Ptr::lock(agent);
    if (core && !awaited.outcome) {
      awaited.record = core->find_request(request_id);
    }
    core.reset();
    if (is_cancelled(co_await boost::asio::this_coro::cancellation_state)) {
      awaited.waiter.leave(boost::asio::error::operation_aborted);
    }
    while (!awaited.outcome && !awaited.waiter.verdict()) {
      co_await awaited.waiter.wait();
    }
    if (awaited.outcome) {
      co_return *std::move(awaited.outcome);
    }
    co_return awaited.waiter.verdict();
  }

  static awaitable<result<Task<M, clock_type>>> refuse(boost::system::error_code why) {
    co_return why;
  }
  static awaitable<result<Task<M, clock_type>>> take(AgentRef<Core> agent,
                                                     typename Core::Poll* poll, time_point until) {
    auto core = Ptr::lock(agent);
    if (!core) {
      co_return make_error_code(errc::stopped);
    }
    auto got = core->try_take(poll, nullptr, until);
    if (!got) {
      Waiter waiter(core->context->executor, errc::poll_ended);
      got = core->try_take(poll, &waiter, until);
      while (!got) {
        core.reset();
        // In this frame: polls spend their time here, and there are many of them.
        const auto cancelled = co_await boost::asio::this_coro::cancellation_state;
        if (!is_cancelled(cancelled)) {
          co_await waiter.async_wake_up();
        }
        waiter.woke_up(cancelled);
        core = Ptr::lock(agent);
        if (!core) {
          co_return waiter.verdict();
        }
        got = core->try_take(poll, &waiter, until);
      }
    }
    co_return *std::move(got);
  }

  // Also a status that came and went before the waiter ran.
  struct HasHadStatus {
    NodeActiveStatus status;
    std::optional<std::uint32_t> entered_before{};
    bool operator()(const Core& core) {
      const auto entered = core.status().entered(status);
      if (!entered_before) {
        entered_before = entered;
      }
      return core.status().status() == status || entered != *entered_before;
    }
  };

  template <class Condition>
  static awaitable<result<void>> wait_until(AgentRef<Core> agent, Condition holds) {
    auto core = Ptr::lock(agent);
    if (!core) {
      co_return make_error_code(errc::stopped);
    }
    Waiter waiter(core->context->executor);
    while (!waiter.verdict()) {
      if (core->ended()) {
        co_return core->ended();
      }
      if (holds(*core)) {
        co_return result<void>();
      }
      core->changed.push_back(waiter);
      core.reset();
      co_await waiter.wait();
      core = Ptr::lock(agent);
    }
    co_return waiter.verdict();
  }

  static awaitable<result<ReplyDisposition>> take_reply(Ptr core, Received<T, M> reply,
                                                        Receipt receipt) {
    auto taken = core->take_reply(reply, receipt);
    if (!taken.to_forward) {
      co_return taken.result;
    }
    // The forwarder is the user's coroutine; only a reference that it needs is kept meanwhile.
    auto forwarding = core->context->forward(taken.to_forward);
    const auto forwarded = co_await std::move(forwarding);
    if (forwarded && receipt) {
      core->guarded([&] { receipt(forwarded); });
    }
    co_return core->forwarded(taken.to_forward, forwarded);
  }
};

}  // namespace fedagent::detail
