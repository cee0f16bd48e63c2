#include "journal.hpp"

#include <algorithm>
#include <utility>

namespace federated {

Journal::Node& Journal::node(std::string_view name) {
  const auto at = std::lower_bound(
      nodes_.begin(), nodes_.end(), name,
      [](const Node& node, std::string_view wanted) { return node.name < wanted; });
  if (at != nodes_.end() && at->name == name) {
    return *at;
  }
  return *nodes_.insert(at, Node{std::string(name), {}, {}});
}

void Journal::status(std::string_view name, fedagent::NodeActiveStatus status,
                     Clock::time_point now) {
  node(name).changes.push_back({seconds(now), status});
}

void Journal::mark(std::string_view name, std::string text, Clock::time_point now) {
  node(name).marks.push_back({seconds(now), std::move(text)});
}

void Journal::round_began(Clock::time_point now) { rounds_.push_back(seconds(now)); }

void Journal::mark_in_round(std::string_view name, std::string text, std::size_t round,
                            Clock::duration after) {
  if (round >= 1 && round <= rounds_.size()) {
    const double time = rounds_[round - 1] + std::chrono::duration<double>(after).count();
    node(name).marks.push_back({time, std::move(text)});
  }
}

Timeline Journal::timeline(Clock::time_point now) const {
  Timeline result;
  result.end = seconds(now);
  result.rounds = rounds_;
  for (const auto& node : nodes_) {
    Timeline::Band band{node.name, {}};
    for (std::size_t i = 0; i < node.changes.size(); ++i) {
      const double end = i + 1 < node.changes.size() ? node.changes[i + 1].time : result.end;
      band.spans.push_back({node.changes[i].time, end, node.changes[i].status});
    }
    for (const auto& mark : node.marks) {
      result.marks.push_back({result.bands.size(), mark.time, mark.text});
    }
    result.bands.push_back(std::move(band));
  }
  return result;
}

}  // namespace federated
