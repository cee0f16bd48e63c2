#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace fedagent {

/// Whether a node is there to take a task. The values are the seed's (B14).
enum class NodeActiveStatus : std::uint8_t {
  /// The last poll has ended and the disconnection timeout is running.
  waiting = 1,
  /// At least one poll is open, or the node has never polled.
  active = 2,
  /// The disconnection timeout has passed without a new poll.
  disconnected = 3,
};

/// The status in the seed's spelling: `WAITING`, `ACTIVE` or `DISCONNECTED`.
constexpr std::string_view to_string(NodeActiveStatus status) noexcept {
  constexpr std::array<std::string_view, 4> names{"UNKNOWN", "WAITING", "ACTIVE", "DISCONNECTED"};
  const auto value = static_cast<std::size_t>(status);
  return names[value < names.size() ? value : 0];
}

/// When a node was last heard of. None: never.
template <class Clock>
struct LastSeen {
  std::optional<typename Clock::time_point> poll{};
  std::optional<typename Clock::time_point> reply{};
  /// Any traffic, a poll or a reply too.
  std::optional<typename Clock::time_point> any{};
};

}  // namespace fedagent
