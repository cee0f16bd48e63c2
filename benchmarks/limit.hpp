#pragma once

// The limit: what a careful engineer writes by hand for this work and no other, without Asio.
//
// A ring of messages, a flat hash map of open requests, a hashed timing wheel, and direct calls.
// It leaves out what fedagent does besides: leases and redelivery (a message that was taken is
// gone), deadlines and ages of messages, limits of the queue, several polls of one node, outcomes
// other than the reply, late replies told apart, counters, hooks, cancellation, other threads, and
// ends of any kind. Message references are not counted atomically.

#include <algorithm>
#include <boost/intrusive/list.hpp>
#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <boost/unordered/unordered_flat_map.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include "workload.hpp"

namespace bench::limit {

using Clock = std::chrono::steady_clock;

/// A message that several agents may hold.
struct Shared {
  explicit Shared(const Message& of) : message(of) {}

  friend void intrusive_ptr_add_ref(Shared* shared) noexcept { ++shared->holders; }
  friend void intrusive_ptr_release(Shared* shared) noexcept {
    if (--shared->holders == 0) {
      delete shared;
    }
  }

  Message message;
  std::size_t holders = 0;
};
using SharedMessage = boost::intrusive_ptr<Shared>;

inline SharedMessage share(const Message& message) { return SharedMessage(new Shared(message)); }

/// A function and what it is called with.
struct Callback {
  void (*function)(void* context, const Message& message) = nullptr;
  void* context = nullptr;

  explicit operator bool() const noexcept { return function != nullptr; }
  void operator()(const Message& message) const { function(context, message); }
};

/// A queue in one block, which is there from the first message on.
class Ring {
 public:
  bool empty() const noexcept { return head_ == tail_; }

  void push(const SharedMessage& message) {
    if (tail_ - head_ == capacity_) {
      grow();
    }
    slots_[tail_++ & (capacity_ - 1)] = message;
  }

  SharedMessage pop() noexcept { return std::move(slots_[head_++ & (capacity_ - 1)]); }

 private:
  void grow() {
    const std::uint32_t capacity = capacity_ == 0 ? 4 : 2 * capacity_;
    auto slots = std::make_unique<SharedMessage[]>(capacity);
    const auto count = tail_ - head_;
    for (std::uint32_t i = 0; i < count; ++i) {
      slots[i] = std::move(slots_[(head_ + i) & (capacity_ - 1)]);
    }
    slots_ = std::move(slots);
    head_ = 0;
    tail_ = count;
    capacity_ = capacity;
  }

  std::unique_ptr<SharedMessage[]> slots_;
  std::uint32_t head_ = 0;
  std::uint32_t tail_ = 0;
  std::uint32_t capacity_ = 0;
};

/// Timers in the slot of their tick: arming and disarming is a link. Late by a tick at most.
class TimingWheel {
 public:
  struct Entry : boost::intrusive::list_base_hook<
                     boost::intrusive::link_mode<boost::intrusive::auto_unlink>> {
    std::uint64_t tick = 0;
  };

  void arm(Entry& entry, Clock::time_point at) noexcept {
    entry.unlink();
    entry.tick = tick_of(at);
    slots_[entry.tick % slots].push_back(entry);
  }

  /// Calls `expired(entry)` for each entry that is due.
  template <class Expired>
  void advance(Clock::time_point now, Expired expired) {
    const auto until = tick_of(now);
    for (; next_ < until; ++next_) {
      auto& slot = slots_[next_ % slots];
      for (auto entry = slot.begin(); entry != slot.end();) {
        Entry& due = *entry++;
        if (due.tick <= next_) {
          due.unlink();
          expired(due);
        }
      }
    }
  }

 private:
  static constexpr std::uint64_t slots = 1024;

  static std::uint64_t tick_of(Clock::time_point at) noexcept {
    using namespace std::chrono_literals;
    return static_cast<std::uint64_t>(at.time_since_epoch() / 100ms);
  }

  using Slot = boost::intrusive::list<Entry, boost::intrusive::constant_time_size<false>>;
  std::vector<Slot> slots_ = std::vector<Slot>(slots);
  std::uint64_t next_ = tick_of(Clock::now());
};

enum class Status : std::uint8_t { waiting, active, disconnected };

class Agent : public TimingWheel::Entry {
 public:
  /// @param id Kept by whoever makes the agent.
  explicit Agent(std::string_view id) noexcept : id_(id) {}

  std::string_view id() const noexcept { return id_; }
  Status status() const noexcept { return status_; }

  /// Sends to the poll that is parked, or to the queue. With a handler the reply is awaited.
  void send(const SharedMessage& message, Callback on_reply = {}) {
    if (on_reply) {
      if (!open_) {
        open_ = std::make_unique<OpenRequests>();
      }
      open_->emplace(message->message.request_id(), Open{message, on_reply});
    }
    if (parked_) {
      std::exchange(parked_, {})(message->message);
    } else {
      queue_.push(message);
    }
  }

  /// A poll waits; it is called once, with the next message.
  void park(Callback poll) noexcept { parked_ = poll; }
  /// The next message, or null.
  SharedMessage take() noexcept { return queue_.empty() ? SharedMessage() : queue_.pop(); }

  /// @return Whether somebody waited for this.
  bool reply(const Message& message) {
    if (!open_) {
      return false;
    }
    const auto found = open_->find(message.request_id());
    if (found == open_->end()) {
      return false;
    }
    const Open done = std::move(found->second);
    open_->erase(found);
    done.on_reply(message);
    return true;
  }

  void poll_opened() noexcept {
    status_ = Status::active;
    unlink();
  }
  void poll_ended(TimingWheel& wheel, Clock::time_point now) noexcept {
    status_ = Status::waiting;
    wheel.arm(*this, now + disconnect_timeout);
  }
  void disconnected() noexcept { status_ = Status::disconnected; }

 private:
  struct Open {
    SharedMessage message;  // keeps the id
    Callback on_reply;
  };

  using OpenRequests =
      boost::unordered_flat_map<std::string_view, Open, std::hash<std::string_view>>;

  std::string_view id_;
  Ring queue_;
  Callback parked_;
  std::unique_ptr<OpenRequests> open_;
  Status status_ = Status::active;
};

/// Texts one after the other in large blocks, for as long as this lives.
class Texts {
 public:
  std::string_view keep(std::string_view text) {
    if (text.size() > left_) {
      left_ = std::max<std::size_t>(text.size(), 64 * 1024);
      end_ = blocks_.emplace_back(std::make_unique<char[]>(left_)).get();
    }
    const std::string_view kept(end_, text.size());
    end_ = std::copy(text.begin(), text.end(), end_);
    left_ -= text.size();
    return kept;
  }

 private:
  std::vector<std::unique_ptr<char[]>> blocks_;
  char* end_ = nullptr;
  std::size_t left_ = 0;
};

/// All agents by id, one after the other in memory.
class Store {
 public:
  Agent* get(std::string_view id) noexcept {
    const auto found = by_id_.find(id);
    return found == by_id_.end() ? nullptr : found->second;
  }
  Agent& retrieve(std::string_view id) {
    if (Agent* const known = get(id)) {
      return *known;
    }
    auto& agent = agents_.emplace_back(ids_.keep(id));
    by_id_.emplace(agent.id(), &agent);
    return agent;
  }

  /// Calls `function(agent)` for each agent.
  template <class Function>
  void for_each(Function function) {
    std::for_each(agents_.begin(), agents_.end(), function);
  }

  TimingWheel wheel;

 private:
  Texts ids_;
  std::deque<Agent> agents_;
  boost::unordered_flat_map<std::string_view, Agent*, std::hash<std::string_view>> by_id_;
};

}  // namespace bench::limit
