#pragma once

#include <algorithm>
#include <boost/asio/error.hpp>
#include <boost/intrusive/list.hpp>
#include <boost/system/error_code.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>

#include "fedagent/detail/keyed_set.hpp"
#include "fedagent/detail/wait_list.hpp"
#include "fedagent/transport.hpp"
#include "fedagent/transport/stream/context.hpp"
#include "fedagent/transport/stream/options.hpp"

namespace fedagent::stream {

/// What a server has done. A plain snapshot.
struct ServerCounters {
  /// Connections that were made, refused ones too.
  std::uint64_t connections = 0;
  /// Connections whose hello was accepted.
  std::uint64_t welcomed = 0;
  /// Connections that ended with a fault.
  std::uint64_t faults = 0;
  /// Errors of accepting, such as "too many open files".
  std::uint64_t accept_errors = 0;
  /// Now: open connections.
  std::uint64_t open = 0;
  /// Now: bytes taken by half-received messages.
  std::uint64_t incoming_bytes = 0;
};

namespace detail {

/// A connection as its server sees it.
template <class Agent>
class ServerPeer : public boost::intrusive::list_base_hook<> {
 public:
  virtual void end(boost::system::error_code why) noexcept = 0;
  virtual void send_receipt(RelayReceipt receipt) noexcept = 0;

  /// Empty before its hello was accepted.
  std::string_view node_id() const noexcept { return agent ? agent->id() : std::string_view(); }

  /// That of its node; it may have been removed since.
  std::optional<Agent> agent{};
  SessionId session = 0;
  std::uint64_t instance = 0;
  std::uint32_t attempt = 0;

 protected:
  ServerPeer() = default;
  ServerPeer(const ServerPeer&) = delete;
  ServerPeer& operator=(const ServerPeer&) = delete;
  ~ServerPeer() = default;
};

/// What the connections of a server share. It lives as long as the last of them.
template <class Store>
class ServerState final
    : public Context<typename Store::executor_type, typename Store::clock_type> {
  using Base = Context<typename Store::executor_type, typename Store::clock_type>;
  using error_code = boost::system::error_code;

 public:
  using Peer = ServerPeer<typename Store::agent_type>;
  using Waiters = fedagent::detail::WaitList<typename Store::clock_type>;

  ServerState(Store& the_store, const ServerOptions& the_options)
      : Base(the_store.get_executor(), (check(the_options), the_options.connection),
             the_options.max_incoming_bytes),
        store(&the_store),
        options(the_options) {}

  void add(Peer& peer) {
    peer.session = ++last_session_;
    peers_.push_back(peer);
    ++counters_.connections;
    refusal = {};
    if (stopped) {
      refusal = make_error_code(fedagent::errc::stopped);
    } else if (peers_.size() > options.max_connections) {
      refusal = errc::too_many_connections;
    }
  }
  void remove(Peer& peer) noexcept {
    peers_.erase(peers_.iterator_to(peer));
    forget_node(peer);
    changed.wake_all();
  }
  std::size_t open() const noexcept { return peers_.size(); }

  /// Accepts a node, or says why not. An older connection of the same node ends.
  error_code register_node(Peer& peer, const Hello& hello) {
    if (store == nullptr) {
      return make_error_code(fedagent::errc::stopped);
    }
    const auto known = by_node_.find(std::string_view(hello.node_id));
    if (known != by_node_.end()) {
      auto& other = **known;
      const bool same = other.instance == hello.instance;
      if (same && hello.attempt < other.attempt) {
        return errc::stale_connection;
      }
      by_node_.erase(known);
      // What connects anew has given the older connection up; and what another client of that name
      // holds is taken over, as the agents' policy has it.
      if (same || store->context()->options.polls == PollPolicy::newest_wins) {
        other.end(make_error_code(fedagent::errc::superseded));
      }
      if (store == nullptr) {
        return make_error_code(fedagent::errc::stopped);  // by an observer of the end of its poll
      }
    }
    const auto agent = store->retrieve(hello.node_id);
    if (!agent || store == nullptr) {
      return agent ? make_error_code(fedagent::errc::stopped) : agent.error();  // by the admission
    }
    peer.agent = *agent;
    peer.instance = hello.instance;
    peer.attempt = hello.attempt;
    by_node_.insert(&peer);
    agent->touch();
    ++counters_.welcomed;
    return {};
  }

  /// The node has been heard of.
  void alive(const Peer& peer) {
    if (store != nullptr) {
      peer.agent->touch();
    }
  }

  /// Tells the node what became of a message that it had relayed, if it is still there.
  void send_receipt(std::string_view node_id, RelayReceipt receipt) noexcept {
    if (const auto peer = by_node_.find(node_id); peer != by_node_.end()) {
      (*peer)->send_receipt(std::move(receipt));
    }
  }

  Welcome welcome() const {
    using std::chrono::milliseconds;
    auto interval = options.ping_interval;
    if (store != nullptr) {
      interval = std::min(interval, store->context()->options.disconnect_timeout / 3);
    }
    const auto ms = std::max(std::chrono::duration_cast<milliseconds>(interval), milliseconds{1});
    return {.limits = options.connection.limits,
            .ping_interval_ms = static_cast<std::uint32_t>(ms.count())};
  }

  /// A connection has ended; `eof` is no fault.
  void report(const Peer& peer, error_code why) noexcept {
    if (why == boost::asio::error::eof || why == fedagent::errc::stopped) {
      return;
    }
    ++counters_.faults;
    if (!stopped && options.on_connection_error) {
      options.on_connection_error(peer.node_id(), why);
    }
  }
  void count_accept_error() noexcept { ++counters_.accept_errors; }

  ServerCounters counters() const noexcept {
    ServerCounters now = counters_;
    now.open = peers_.size();
    now.incoming_bytes = this->incoming.used;
    return now;
  }

  /// Ends all connections; neither the store nor the owner's hook is called any more.
  void stop() noexcept {
    if (stopped) {
      return;
    }
    stopped = true;
    store = nullptr;
    // To end one removes none: a connection lives as long as its coroutine.
    for (auto& peer : peers_) {
      peer.end(make_error_code(fedagent::errc::stopped));
    }
    changed.wake_all();
  }

  /// Null when the server has stopped.
  Store* store;
  ServerOptions options;
  /// Why the connection that was added last is refused; no error when it is not.
  error_code refusal;
  /// Those who wait for the number of connections to fall, or for the stop.
  Waiters changed;
  bool stopped = false;

 private:
  struct NodeOf {
    std::string_view operator()(const Peer* peer) const noexcept { return peer->node_id(); }
  };

  void forget_node(const Peer& peer) noexcept {
    const auto found = by_node_.find(peer.node_id());
    if (found != by_node_.end() && *found == &peer) {
      by_node_.erase(found);
    }
  }

  boost::intrusive::list<Peer> peers_;
  fedagent::detail::KeyedSet<Peer*, NodeOf> by_node_;
  ServerCounters counters_;
  SessionId last_session_ = 0;
};

}  // namespace detail
}  // namespace fedagent::stream
