#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/intrusive/list.hpp>
#include <boost/system/result.hpp>
#include <cstddef>
#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "fedagent/detail/agent_core.hpp"
#include "fedagent/detail/auto_list.hpp"
#include "fedagent/detail/keyed_set.hpp"
#include "fedagent/detail/relay.hpp"

namespace fedagent::detail {

/// Whoever goes on until the store is stopped, and is told then.
class StopListener : public AutoHook {
 public:
  virtual void store_stopped() noexcept = 0;

 protected:
  ~StopListener() = default;
};

/// What is behind a store: its agents, and the context that they share.
/** Coroutines and posted sends hold it, so it may outlive the store. */
template <class T, class M, class O>
struct StoreState final : AgentContext<T, M, O> {
  using Context = AgentContext<T, M, O>;
  using Core = AgentCore<T, M, O>;
  using typename Context::executor_type;
  using typename Context::Forwarder;
  using typename Context::time_point;
  template <class R>
  using result = boost::system::result<R>;

  struct IdOf {
    std::string_view operator()(const AgentPtr<Core>& agent) const noexcept { return agent->id; }
  };

  using Context::Context;
  using Context::store_options;

  /// The agent of this node, or null.
  AgentPtr<Core> find(std::string_view node_id) const {
    const auto found = agents.find(node_id);
    return found == agents.end() ? AgentPtr<Core>() : *found;
  }

  /// Why `find` found none.
  boost::system::error_code no_agent() const noexcept {
    return make_error_code(stopped ? errc::stopped : errc::unknown_node);
  }

  /// Why no agent is made for this node.
  boost::system::error_code refusal_of(std::string_view node_id) const {
    if (stopped) {
      return errc::stopped;
    }
    if (node_id.empty() || node_id.size() > store_options.max_node_id_length) {
      return errc::bad_node_id;
    }
    if (store_options.admit && !store_options.admit(node_id)) {
      return errc::not_admitted;
    }
    if (stopped) {  // by the admission
      return errc::stopped;
    }
    if (store_options.max_agents > 0 && agents.size() >= store_options.max_agents) {
      return errc::too_many_agents;
    }
    return {};
  }

  /// A reply of a node that has no agent.
  boost::system::error_code unknown_node(std::string_view node_id, const Received<T, M>& reply) {
    if (!reply.message()) {
      return reply.message().error();
    }
    this->hooks(hook::unknown_node, node_id, *reply.message());
    return errc::unknown_node;
  }
  boost::system::error_code wrong_node(std::string_view node_id, std::string_view claim) {
    if (const auto core = find(node_id)) {
      return core->wrong_node(claim);
    }
    ++removed.wrong_node;
    this->hooks(hook::wrong_node, node_id, claim);
    return errc::wrong_node;
  }

  /// Makes the agent of this node, unless the admission has had it made.
  AgentPtr<Core> add(std::string_view node_id, std::shared_ptr<Context> context) {
    const auto [core, is_new] = agents.insert(Core::make(node_id, std::move(context)));
    if (is_new) {
      in_order.push_back(**core);
    }
    return *core;
  }

  bool remove(std::string_view node_id, errc reason) {
    const auto core = find(node_id);
    if (!core) {
      return false;
    }
    agents.erase(agents.find(node_id));
    in_order.erase(in_order.iterator_to(*core));
    core->end(reason);
    removed += core->counters();
    return true;
  }

  void stop() noexcept {
    stopped = true;
    while (!stop_listeners.empty()) {
      auto& listener = stop_listeners.front();
      stop_listeners.pop_front();
      listener.store_stopped();
    }
    // Handlers that run here find no agents.
    const auto all = std::exchange(agents, {});
    while (!in_order.empty()) {
      auto& core = in_order.front();
      in_order.pop_front();
      core.end(errc::stopped);
      removed += core.counters();
    }
    this->status_feed.close();
    this->present_changed.dismiss(make_error_code(errc::stopped));
  }

  result<void> route(std::string_view source, MessagePtr<M> message, Receipt receipt) override {
    const auto core = find(message_traits<M>::destination(*message));
    if (!core) {
      return make_error_code(errc::unknown_node);
    }
    RelayHandler handler{relays, {std::string(source), std::string(core->id)}, std::move(receipt)};
    const auto pair = handler.pair;
    if (store_options.relay_quota > 0 && relays->of(pair) >= store_options.relay_quota) {
      return make_error_code(errc::quota_exceeded);
    }
    const SendOptions<typename Core::clock_type>
        plainly{};  // GCC 12 warns of a temporary's members
    const auto sent = core->try_send(message, handler, plainly);
    if (sent) {
      relays->add(pair);
    }
    return sent;
  }

  void expire(std::string_view node_id) override { remove(node_id, errc::removed); }

  template <class Handler>
  void tell_no_agent(std::string_view node_id, Handler& on_reply) noexcept {
    try {
      std::move(on_reply)(Outcome<M>(no_agent()));
    } catch (...) {
      this->hooks(hook::handler_error, node_id, std::current_exception());
    }
  }

  static boost::asio::awaitable<result<void>, executor_type> nodes_present(
      std::weak_ptr<StoreState> store, std::size_t count, time_point deadline) {
    auto state = store.lock();
    if (!state || state->stopped) {
      co_return make_error_code(errc::stopped);
    }
    Waiter<typename Core::clock_type, executor_type> waiter(state->executor);
    while (!waiter.verdict() && state->present() < count) {
      if (state->present_changed.push_back(waiter)) {
        state->watchdog.arm(waiter, deadline);
      }
      state.reset();
      co_await waiter.wait();
      state = store.lock();
    }
    co_return waiter.verdict() ? result<void>(waiter.verdict()) : result<void>();
  }

  KeyedSet<AgentPtr<Core>, IdOf> agents;
  /// The eldest first: made one after the other, they are near each other in memory.
  boost::intrusive::list<Core, boost::intrusive::constant_time_size<false>> in_order;
  /// What is not counted at an agent that is there.
  Counters removed;
  std::shared_ptr<RelayCounts> relays = std::make_shared<RelayCounts>();
  AutoList<StopListener> stop_listeners;
  bool stopped = false;
};

}  // namespace fedagent::detail
