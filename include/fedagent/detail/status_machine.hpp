#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "fedagent/node_status.hpp"

namespace fedagent::detail {

enum class NodeEvent { poll_opened, poll_ended, sign_of_life, timeout };

/// What the caller does about the disconnection timer.
enum class TimerAction { keep, restart, cancel };

/// Decides the status of a node from its polls and the disconnection timer.
/**
 * Open polls are counted: WAITING begins when the last one ends, and DISCONNECTED is never reached
 * while one is open (B8). A timer runs whenever the status is WAITING, and only then (B9).
 */
class StatusMachine {
 public:
  TimerAction on(NodeEvent event) noexcept {
    switch (event) {
      case NodeEvent::poll_opened:
        has_polled_ = true;
        ++open_polls_;
        enter(NodeActiveStatus::active);
        return TimerAction::cancel;
      case NodeEvent::poll_ended:
        has_polled_ = true;
        if (open_polls_ > 0) {
          --open_polls_;
        }
        if (open_polls_ > 0) {
          return TimerAction::keep;
        }
        enter(NodeActiveStatus::waiting);
        return TimerAction::restart;
      case NodeEvent::sign_of_life:
        return status_ == NodeActiveStatus::waiting ? TimerAction::restart : TimerAction::keep;
      case NodeEvent::timeout:
        if (status_ == NodeActiveStatus::waiting) {
          enter(NodeActiveStatus::disconnected);
        }
        return TimerAction::keep;
    }
    return TimerAction::keep;
  }

  NodeActiveStatus status() const noexcept { return status_; }
  /// How often this status was entered: whoever looks late can tell that it came and went.
  std::uint32_t entered(NodeActiveStatus status) const noexcept { return entered_[index(status)]; }
  std::uint32_t open_polls() const noexcept { return open_polls_; }
  /// A new agent is ACTIVE for the seed's sake (B1); this tells whether its node was ever seen.
  bool has_polled() const noexcept { return has_polled_; }

 private:
  static constexpr std::size_t index(NodeActiveStatus status) noexcept {
    return static_cast<std::size_t>(status) - static_cast<std::size_t>(NodeActiveStatus::waiting);
  }
  void enter(NodeActiveStatus status) noexcept {
    entered_[index(status)] += status == status_ ? 0U : 1U;
    status_ = status;
  }

  std::array<std::uint32_t, 3> entered_{};
  std::uint32_t open_polls_ = 0;
  NodeActiveStatus status_ = NodeActiveStatus::active;
  bool has_polled_ = false;
};

}  // namespace fedagent::detail
