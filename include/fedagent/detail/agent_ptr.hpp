#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

namespace fedagent::detail {

/// What an agent is counted by: who uses it, and who only keeps its memory.
/**
 * `std::shared_ptr` and `std::weak_ptr` in 8 bytes, without a second allocation for the agent's id.
 * The last user ends the agent, by `unused`; the memory stays as long as there is an `AgentRef`.
 *
 * @par Thread safety
 * Counting is safe from any thread.
 */
class AgentCounts {
 protected:
  AgentCounts() = default;
  AgentCounts(const AgentCounts&) = delete;
  AgentCounts& operator=(const AgentCounts&) = delete;
  ~AgentCounts() = default;

 private:
  template <class Core>
  friend class AgentPtr;
  template <class Core>
  friend class AgentRef;

  std::atomic<std::uint32_t> users_{0};
  /// All users together are one of them.
  std::atomic<std::uint32_t> refs_{1};
};

/// Keeps the memory of an agent, and tells whether it still has users.
template <class Core>
class AgentRef {
 public:
  AgentRef() noexcept = default;
  explicit AgentRef(Core* core) noexcept : core_(core) {
    if (core_ != nullptr) {
      core_->refs_.fetch_add(1, std::memory_order_relaxed);
    }
  }
  AgentRef(const AgentRef& other) noexcept : AgentRef(other.core_) {}
  AgentRef(AgentRef&& other) noexcept : core_(std::exchange(other.core_, nullptr)) {}
  AgentRef& operator=(AgentRef other) noexcept {
    std::swap(core_, other.core_);
    return *this;
  }
  ~AgentRef() {
    if (core_ != nullptr) {
      drop(*core_);
    }
  }

  static void drop(Core& core) noexcept {
    if (core.refs_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      delete &core;
    }
  }

 private:
  template <class>
  friend class AgentPtr;

  Core* core_ = nullptr;
};

/// A user of an agent, or null.
template <class Core>
class AgentPtr {
 public:
  AgentPtr() noexcept = default;
  /// @pre The agent is new, or has a user.
  explicit AgentPtr(Core& core) noexcept : core_(&core) {
    core_->users_.fetch_add(1, std::memory_order_relaxed);
  }
  AgentPtr(const AgentPtr& other) noexcept : core_(other.core_) {
    if (core_ != nullptr) {
      core_->users_.fetch_add(1, std::memory_order_relaxed);
    }
  }
  AgentPtr(AgentPtr&& other) noexcept : core_(std::exchange(other.core_, nullptr)) {}
  AgentPtr& operator=(AgentPtr other) noexcept {
    std::swap(core_, other.core_);
    return *this;
  }
  ~AgentPtr() { reset(); }

  /// The agent, if it still has a user.
  static AgentPtr lock(Core* core) noexcept {
    AgentPtr locked;
    if (core != nullptr) {
      auto users = core->users_.load(std::memory_order_relaxed);
      while (users > 0 && !core->users_.compare_exchange_weak(users, users + 1)) {
      }
      locked.core_ = users > 0 ? core : nullptr;
    }
    return locked;
  }
  static AgentPtr lock(const AgentRef<Core>& ref) noexcept { return lock(ref.core_); }

  void reset() noexcept {
    if (Core* const core = std::exchange(core_, nullptr);
        core != nullptr && core->users_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      core->unused();
      AgentRef<Core>::drop(*core);
    }
  }

  AgentRef<Core> ref() const noexcept { return AgentRef<Core>(core_); }
  Core* get() const noexcept { return core_; }
  Core& operator*() const noexcept { return *core_; }
  Core* operator->() const noexcept { return core_; }
  explicit operator bool() const noexcept { return core_ != nullptr; }
  friend bool operator==(const AgentPtr&, const AgentPtr&) noexcept = default;

 private:
  Core* core_ = nullptr;
};

}  // namespace fedagent::detail
