#pragma once

#include "fedagent/detail/auto_list.hpp"

namespace fedagent::detail {

/// Whoever waits for a node, and is told when it becomes DISCONNECTED and when it is back.
/** It may leave the list, and let others leave, while it is told. */
class NodeWatcher : public AutoHook {
 public:
  virtual void node_lost() noexcept = 0;
  virtual void node_back() noexcept = 0;

 protected:
  ~NodeWatcher() = default;
};

/// Those who wait for one node.
class NodeWatchers {
 public:
  void add(NodeWatcher& watcher) noexcept { watchers_.push_back(watcher); }

  /// Tells each what `lost()` says by then: whoever was told may have brought the node back.
  template <class Lost>
  void tell(Lost lost) noexcept {
    AutoList<NodeWatcher> untold;
    untold.swap(watchers_);
    while (!untold.empty()) {
      auto& watcher = untold.front();
      watchers_.splice(watchers_.end(), untold, untold.begin());
      lost() ? watcher.node_lost() : watcher.node_back();
    }
  }

 private:
  AutoList<NodeWatcher> watchers_;
};

}  // namespace fedagent::detail
