#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>

#include "fedagent/error.hpp"

namespace fedagent {

/// What a reply turned out to be.
enum class ReplyDisposition {
  /// The first reply to an open request: its handler has run.
  delivered,
  /// An overlay message: it was handed to its destination's agent.
  forwarded,
  /// The request has had its reply already.
  duplicate,
  /// The request ended without a reply before this one came.
  late,
  /// The request was flushed as stopped before this reply came; also a late one.
  stopped,
  /// No request with this id was sent to this node, or it is long forgotten.
  unexpected,
  /// The reply carries no request id.
  uncorrelated,
};

inline constexpr std::size_t reply_dispositions = 7;

/// What an agent, or a store over all its agents, has done. A plain snapshot.
/**
 * At any time `accepted == confirmed + total_dropped() + queued + leased` (conservation), and
 * `requests == replied + total_failed() + open_requests` (one outcome).
 */
struct Counters {
  /// Messages taken by a send.
  std::uint64_t accepted = 0;
  /// Sends that ended with an error.
  std::uint64_t refused = 0;
  /// Messages whose delivery a later poll or a reply has confirmed.
  std::uint64_t confirmed = 0;
  /// Leases that died, their task having gone back to the front of the queue.
  std::uint64_t redelivered = 0;
  /// Accepted messages with a request id.
  std::uint64_t requests = 0;
  /// Requests that ended with a reply.
  std::uint64_t replied = 0;
  /// Replies, by `ReplyDisposition`.
  std::array<std::uint64_t, reply_dispositions> replies{};
  /// Replies, and polls and feedback as far as the transport tells, that named another node than
  /// the one that sent them.
  std::uint64_t wrong_node = 0;
  /// Handlers that threw.
  std::uint64_t handler_errors = 0;
  /// Now: messages that wait in a queue.
  std::uint64_t queued = 0;
  /// Now: their bytes, by `message_traits::size`.
  std::uint64_t queued_bytes = 0;
  /// Now: messages that a poll has taken and nothing has confirmed.
  std::uint64_t leased = 0;
  /// Now: requests without an outcome.
  std::uint64_t open_requests = 0;
  // Behind what every request touches.
  /// Accepted messages that ended unconfirmed, by `errc` value less one.
  std::array<std::uint64_t, drop_reasons> dropped{};
  /// Requests that ended with an error, by `errc` value less one.
  std::array<std::uint64_t, drop_reasons> failed{};

  std::uint64_t total_dropped() const noexcept {
    return std::accumulate(dropped.begin(), dropped.end(), std::uint64_t{0});
  }
  std::uint64_t total_failed() const noexcept {
    return std::accumulate(failed.begin(), failed.end(), std::uint64_t{0});
  }
  std::uint64_t dropped_for(errc reason) const noexcept {
    return dropped[static_cast<std::size_t>(reason) - 1];
  }
  std::uint64_t failed_for(errc reason) const noexcept {
    return failed[static_cast<std::size_t>(reason) - 1];
  }
  std::uint64_t replies_that_were(ReplyDisposition disposition) const noexcept {
    return replies[static_cast<std::size_t>(disposition)];
  }
  /// Whether both sums hold.
  bool balanced() const noexcept {
    return accepted == confirmed + total_dropped() + queued + leased &&
           requests == replied + total_failed() + open_requests;
  }

  Counters& operator+=(const Counters& other) noexcept {
    constexpr auto add = [](auto& to, const auto& from) {
      for (std::size_t i = 0; i < to.size(); ++i) {
        to[i] += from[i];
      }
    };
    accepted += other.accepted;
    refused += other.refused;
    confirmed += other.confirmed;
    redelivered += other.redelivered;
    add(dropped, other.dropped);
    requests += other.requests;
    replied += other.replied;
    add(failed, other.failed);
    add(replies, other.replies);
    wrong_node += other.wrong_node;
    handler_errors += other.handler_errors;
    queued += other.queued;
    queued_bytes += other.queued_bytes;
    leased += other.leased;
    open_requests += other.open_requests;
    return *this;
  }
};

}  // namespace fedagent
