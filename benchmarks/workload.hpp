#pragma once

// What all workloads and all peers have in common: the messages, the ids, and the report.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "allocations.hpp"

namespace bench {

/// What a user sends: a request id of 36 characters and a payload of 64 bytes.
/**
 * It owns no memory, so a peer that shares messages allocates once for each, and all else that is
 * counted is the peer's own. Reads of `alive` tell how many there are.
 */
class Message {
 public:
  Message() noexcept { ++alive_; }
  /// @param number Zero: no request id, as in a message that nobody replies to.
  explicit Message(std::uint64_t number) noexcept : Message() {
    body_.fill('w');
    if (number != 0) {
      id_size_ = id_.size();
      std::copy(pattern.begin(), pattern.end(), id_.begin());
      for (std::size_t digit = id_.size(); number != 0; number /= 16) {
        id_[--digit] = "0123456789abcdef"[number % 16];
      }
    }
  }
  Message(const Message& other) noexcept
      : id_(other.id_), body_(other.body_), id_size_(other.id_size_) {
    ++alive_;
  }
  Message& operator=(const Message&) noexcept = default;
  ~Message() { --alive_; }

  std::string_view request_id() const noexcept { return {id_.data(), id_size_}; }
  std::size_t size() const noexcept { return id_size_ + body_.size(); }

  /// What a node answers to this.
  Message reply() const noexcept {
    Message answer(*this);
    answer.body_.fill('r');
    return answer;
  }

  /// How many messages this thread has.
  static std::int64_t alive() noexcept { return alive_; }

 private:
  static constexpr std::string_view pattern = "5f0c3a52-9d41-4b7e-8a6f-000000000000";
  static_assert(pattern.size() == 36);

  std::array<char, 36> id_{};
  std::array<char, 64> body_{};
  std::size_t id_size_ = 0;
  static inline thread_local std::int64_t alive_ = 0;
};

/// From the end of a poll to DISCONNECTED; so long that no node is lost while others are measured.
inline constexpr std::chrono::hours disconnect_timeout{1};

/// 41 characters: those of the seed's node ids.
inline std::string node_id(std::size_t number) {
  auto digits = std::to_string(number);
  return "node_7d1f4c1e-2b7a-4c59-9e03-" + std::string(12 - digits.size(), '0') + digits;
}

inline std::vector<std::string> node_ids(std::size_t count) {
  std::vector<std::string> ids;
  ids.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    ids.push_back(node_id(i));
  }
  return ids;
}

/// The same shuffled order for all peers: nodes do not come in the order of their memory.
inline std::vector<std::string> shuffled_node_ids(std::size_t count) {
  std::vector<std::size_t> order(count);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::shuffle(order.begin(), order.end(), std::mt19937_64(41));
  std::vector<std::string> ids;
  ids.reserve(count);
  for (const auto number : order) {
    ids.push_back(node_id(number));
  }
  return ids;
}

inline std::size_t size_of(const benchmark::State& state) {
  return static_cast<std::size_t>(state.range(0));
}

/// Reports what the loop of a benchmark took from the heap, for each operation.
class Meter {
 public:
  explicit Meter(benchmark::State& state, std::size_t operations_each = 1)
      : state_(state), each_(operations_each) {}
  ~Meter() {
    const auto spent = Allocations::now() - before_;
    const auto operations = static_cast<double>(state_.iterations()) * static_cast<double>(each_);
    state_.counters["ops"] = static_cast<double>(each_);
    state_.counters["allocs"] = static_cast<double>(spent.count) / operations;
    state_.counters["bytes"] = static_cast<double>(spent.taken) / operations;
  }
  Meter(const Meter&) = delete;
  Meter& operator=(const Meter&) = delete;

 private:
  benchmark::State& state_;
  std::size_t each_;
  Allocations before_ = Allocations::now();
};

}  // namespace bench
