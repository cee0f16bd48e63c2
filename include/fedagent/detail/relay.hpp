#pragma once

#include <boost/container_hash/hash.hpp>
#include <boost/system/result.hpp>
#include <boost/unordered/unordered_flat_map.hpp>
#include <cstddef>
#include <memory>
#include <string>
#include <utility>

#include "fedagent/message.hpp"
#include "fedagent/send_options.hpp"

namespace fedagent::detail {

/// How many relayed messages are under way, for each pair of nodes.
class RelayCounts {
 public:
  /// Source and destination.
  using Pair = std::pair<std::string, std::string>;

  std::size_t of(const Pair& pair) const {
    const auto found = counts_.find(pair);
    return found == counts_.end() ? 0 : found->second;
  }
  void add(const Pair& pair) { ++counts_[pair]; }
  void remove(const Pair& pair) {
    if (const auto found = counts_.find(pair); found != counts_.end() && --found->second == 0) {
      counts_.erase(found);
    }
  }

 private:
  boost::unordered_flat_map<Pair, std::size_t, boost::hash<Pair>> counts_;
};

/// The handler of a relayed message: no reply is awaited, only its delivery.
struct RelayHandler {
  using awaits_delivery_only = void;

  template <class M>
  void operator()(const Outcome<M>& outcome) const {
    if (const auto relays = counts.lock()) {
      relays->remove(pair);
    }
    if (receipt) {
      receipt(outcome ? boost::system::result<void>() : outcome.error());
    }
  }

  std::weak_ptr<RelayCounts> counts;
  RelayCounts::Pair pair;
  Receipt receipt;
};

}  // namespace fedagent::detail
