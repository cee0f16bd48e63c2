// What happened to the nodes and when: kept for the timeline picture.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "fedagent/node_status.hpp"
#include "svg.hpp"

namespace federated {

class Journal {
 public:
  using Clock = std::chrono::steady_clock;

  explicit Journal(Clock::time_point start) : start_(start) {}

  /// The node has this status from now on. Its band begins with the first call.
  void status(std::string_view node, fedagent::NodeActiveStatus status, Clock::time_point now);
  /// Something happened to a node that is worth a sign in the picture.
  void mark(std::string_view node, std::string text, Clock::time_point now);
  void round_began(Clock::time_point now);
  /// As `mark`, so long after the begin of a round, from 1. Does nothing when there was none.
  void mark_in_round(std::string_view node, std::string text, std::size_t round,
                     Clock::duration after);

  /// The run as far as `now`, the nodes by name.
  Timeline timeline(Clock::time_point now) const;

 private:
  struct Change {
    double time;
    fedagent::NodeActiveStatus status;
  };
  struct Mark {
    double time;
    std::string text;
  };
  struct Node {
    std::string name;
    std::vector<Change> changes;
    std::vector<Mark> marks;
  };

  double seconds(Clock::time_point time) const {
    return std::chrono::duration<double>(time - start_).count();
  }
  Node& node(std::string_view name);

  Clock::time_point start_;
  std::vector<double> rounds_;
  std::vector<Node> nodes_;  // sorted by name
};

}  // namespace federated
