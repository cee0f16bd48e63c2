#pragma once

#include "fedagent/round_policy.hpp"

namespace fedagent {

/// One policy with the rules of all; of two with a timeout for each node the last counts.
template <class... Policies>
RoundPolicy seed_policies(const Policies&... policies) {
  RoundPolicy joined;
  (policies.apply(joined), ...);
  return joined;
}

// The seed's request policies, each with what it was meant to do, for all nodes or for some. Times
// run from the send, that of `StopOnDisconnect` from the disconnection, and end at the tick; a
// timeout of zero is none. Each of them is a `RoundPolicy` by itself; `seed_policies` joins
// several. NOLINTBEGIN(google-explicit-constructor)

/// A node without a reply by then is left out; the round goes on with the others (F3).
struct DiscardOnTimeout {
  Duration timeout;
  NodeSelection nodes = NodeSelection::every();
  operator RoundPolicy() const { return seed_policies(*this); }
  void apply(RoundPolicy& policy) const {
    policy.per_node = timeout;
    policy.per_node_for = nodes;
  }
};

/// A node without a reply by then stops the round (F2).
struct StopOnTimeout {
  Duration timeout;
  NodeSelection nodes = NodeSelection::every();
  operator RoundPolicy() const { return seed_policies(*this); }
  void apply(RoundPolicy& policy) const {
    policy.per_node = timeout;
    policy.per_node_for = nodes;
    policy.stop_on.timeout = nodes;
  }
};

/// A node that is DISCONNECTED for so long stops the round.
struct StopOnDisconnect {
  Duration timeout = Duration::zero();
  NodeSelection nodes = NodeSelection::every();
  operator RoundPolicy() const { return seed_policies(*this); }
  void apply(RoundPolicy& policy) const {
    policy.reconnect = timeout;
    policy.stop_on.disconnect = nodes;
  }
};

/// A node that answers with an error stops the round.
struct StopOnError {
  NodeSelection nodes = NodeSelection::every();
  operator RoundPolicy() const { return seed_policies(*this); }
  void apply(RoundPolicy& policy) const { policy.stop_on.error = nodes; }
};

// NOLINTEND(google-explicit-constructor)

}  // namespace fedagent
