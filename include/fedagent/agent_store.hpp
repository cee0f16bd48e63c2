#pragma once

#include <algorithm>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/post.hpp>
#include <boost/system/result.hpp>
#include <boost/unordered/unordered_flat_map.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fedagent/detail/store_state.hpp"
#include "fedagent/node_agent.hpp"
#include "fedagent/status_events.hpp"

namespace fedagent {

/// All agents of a server, one for each node id.
/**
 * @par Lifetimes
 * The destructor stops every agent, as `stop` does, and waits for nothing.
 * @par Thread safety
 * Unsafe, all calls on the executor; `send` may be called from any thread.
 */
template <class Transport_, class Message_ = typename detail::message_of<Transport_>::type,
          class Observer_ = NoObserver>
class AgentStore {
  using Checked = typename detail::check_parameters<Transport_, Message_>::type;
  using State = detail::StoreState<Transport_, Message_, Observer_>;
  using Core = typename State::Core;

 public:
  using agent_type = NodeAgent<Transport_, Message_, Observer_>;
  using transport_type = Transport_;
  using message_type = Message_;
  using executor_type = typename agent_type::executor_type;
  using clock_type = typename agent_type::clock_type;
  using time_point = typename agent_type::time_point;
  using message_ptr = typename agent_type::message_ptr;
  using outcome_type = typename agent_type::outcome_type;
  using send_options = typename agent_type::send_options;
  using sendable = typename agent_type::sendable;
  using received = typename agent_type::received;
  using forwarder_type = typename agent_type::forwarder_type;
  using status_events_type = StatusEvents<clock_type, executor_type>;
  using agent_map = boost::unordered_flat_map<std::string, agent_type, std::hash<std::string>>;
  template <class T>
  using awaitable = boost::asio::awaitable<T, executor_type>;
  template <class T>
  using result = boost::system::result<T>;

  /// Makes an empty store.
  /**
   * @param on_forward Hands overlay messages on; empty: the store relays them to the agent of their
   * destination.
   * @par Errors
   * `std::invalid_argument` when an option is out of range.
   */
  explicit AgentStore(const executor_type& executor, const StoreOptions& options = {},
                      Observer_ observer = {}, forwarder_type on_forward = {})
      : state_(std::make_shared<State>(executor, options, std::move(on_forward),
                                       std::move(observer))) {}
  AgentStore(const executor_type& executor, forwarder_type on_forward,
             const StoreOptions& options = {}, Observer_ observer = {})
      : AgentStore(executor, options, std::move(observer), std::move(on_forward)) {}
  AgentStore(const AgentStore&) = delete;
  AgentStore& operator=(const AgentStore&) = delete;
  ~AgentStore() { stop(); }

  executor_type get_executor() const noexcept { return state_->executor; }

  // ---- agents

  /// The agent of this node, if there is one (A1).
  std::optional<agent_type> get(std::string_view node_id) const {
    auto core = state_->find(node_id);
    return core ? std::optional<agent_type>(std::move(core)) : std::nullopt;
  }

  /// The agent of this node, made when there is none (A2, A3).
  /** @par Errors `bad_node_id`, `not_admitted`, `too_many_agents`, `stopped`; nothing is made (A8).
   */
  result<agent_type> retrieve(std::string_view node_id) {
    if (auto core = state_->find(node_id)) {
      return agent_type(std::move(core));
    }
    if (const auto refusal = state_->refusal_of(node_id)) {
      auto core = state_->find(node_id);  // the admission may have had it made
      return core ? result<agent_type>(agent_type(std::move(core))) : refusal;
    }
    return agent_type(state_->add(node_id, state_));
  }

  /// All agents by id, whatever their status. The map is a copy (A4, A5).
  agent_map get_all() const {
    agent_map all;
    all.reserve(state_->agents.size());
    for (auto& core : state_->in_order) {
      all.emplace(std::string(core.id), agent_type(typename Core::Ptr(core)));
    }
    return all;
  }

  /// Calls `function(agent)` for each agent, the eldest first.
  /** It may send, and add agents, whose turn comes too; it must not remove any. */
  template <class Function>
  void for_each(Function function) const {
    for (auto& core : state_->in_order) {
      function(agent_type(typename Core::Ptr(core)));
    }
  }

  std::size_t size() const noexcept { return state_->agents.size(); }

  /// Removes an agent: what it has open ends with `removed` (A7). @return Whether there was one.
  bool erase(std::string_view node_id) { return state_->remove(node_id, errc::removed); }

  // ---- messages

  /// Sends to a node that is known; see `NodeAgent::try_send`. @par Errors Also `unknown_node`.
  template <class Handler = NoHandler>
  result<void> try_send(std::string_view node_id, sendable message, Handler on_reply = {},
                        const send_options& options = {}) const {
    const auto agent = get(node_id);
    if (!agent) {
      return state_->no_agent();
    }
    return agent->try_send(std::move(message), std::move(on_reply), options);
  }

  /// As `try_send`, from any thread; a refusal goes to the handler too.
  template <class Handler = NoHandler>
  void send(std::string node_id, sendable message, Handler on_reply = {},
            send_options options = {}) const {
    boost::asio::post(state_->executor, [state = state_, node_id = std::move(node_id),
                                         message = std::move(message).share(),
                                         on_reply = std::move(on_reply), options]() mutable {
      if (const auto core = state->find(node_id)) {
        Core::send_or_tell(core, message, on_reply, options);
      } else {
        state->tell_no_agent(node_id, on_reply);
      }
    });
  }

  /// Sends one shared message to every agent. @return How many accepted it.
  std::size_t broadcast(sendable message) const {
    const auto shared = std::move(message).share();
    std::size_t accepted = 0;
    const auto send = [&](const agent_type& agent) {
      accepted += agent.try_send(shared) ? 1U : 0U;
    };
    if (state_->options.overflow == OverflowPolicy::drop_oldest) {
      // The handlers of what is displaced may add and remove agents.
      std::vector<agent_type> agents;
      agents.reserve(size());
      for_each([&](const agent_type& agent) { agents.push_back(agent); });
      std::ranges::for_each(agents, send);
    } else {
      for_each(send);
    }
    return accepted;
  }

  // ---- state

  /// The sum over all agents, removed ones included.
  /** A handler that runs because its agent ends sees the sum without that agent. */
  Counters counters() const {
    Counters sum = state_->removed;
    for (const auto& core : state_->in_order) {
      sum += core.counters();
    }
    return sum;
  }

  /// A stream of the status changes from now on; at most `capacity` of them, and at least one,
  /// wait to be read.
  status_events_type status_events(std::size_t capacity = 1024) const {
    auto queue = std::make_shared<typename status_events_type::Queue>(state_->executor, capacity);
    queue->closed = state_->stopped;
    if (!state_->stopped) {
      state_->status_feed.add(*queue);
    }
    return status_events_type(std::move(queue));
  }

  /// Waits until `count` nodes have polled and are not DISCONNECTED (E22).
  /** @par Errors `deadline_passed`, `stopped`. */
  awaitable<result<void>> wait_for_nodes(std::size_t count,
                                         time_point deadline = time_point::max()) const {
    return State::nodes_present(state_, count, deadline);
  }

  /// Stops every agent; their waits and requests end with `stopped`. Nothing new is made.
  void stop() noexcept {
    const auto state = state_;  // a handler may destroy the store
    state->stop();
  }

  Observer_& observer() noexcept { return state_->hooks.observer(); }

  /// For `service.hpp` and `round.hpp`: what the agents share.
  const std::shared_ptr<State>& context() const noexcept { return state_; }

 private:
  std::shared_ptr<State> state_;
};

}  // namespace fedagent
