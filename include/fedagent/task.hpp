#pragma once

#include <algorithm>
#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <cstdint>
#include <utility>

#include "fedagent/detail/task_record.hpp"

namespace fedagent {

/// A message that a poll has taken from the queue, on lease.
/**
 * Call `delivered()` when the transport has handed it over. A task that is destroyed before goes
 * back to the front of the queue, as another attempt when its message was looked at, and as if it
 * had never been taken when not.
 *
 * @par Lifetimes
 * It may outlive the agent; then it does nothing.
 * @par Thread safety
 * Unsafe: use and destroy it on the agent's executor.
 */
template <class M, class Clock>
class Task {
 public:
  /// No task; for containers and for Asio's operators, which make results before they are there.
  Task() noexcept = default;
  explicit Task(boost::intrusive_ptr<detail::TaskRecord<M, Clock>> record) noexcept
      : record_(std::move(record)), lease_(record_->lease) {}
  Task(Task&&) noexcept = default;
  Task& operator=(Task&& other) noexcept {
    Task old(std::move(*this));
    record_ = std::move(other.record_);
    lease_ = other.lease_;
    return *this;
  }
  ~Task() {
    if (live()) {
      record_->owner->lease_died(*record_);
    }
  }

  /// The message to deliver.
  const MessagePtr<M>& message() const noexcept {
    using detail::Seen;
    record_->seen = live() ? Seen::in_this_lease : std::max(record_->seen, Seen::before);
    return record_->message;
  }
  /// How many deliveries of this message have failed before.
  std::uint32_t retry_count() const noexcept { return record_->retry_count; }
  /// When the message was sent first; redelivery does not change it.
  typename Clock::time_point first_send_time() const noexcept { return record_->first_send_time; }

  /// The transport has handed the message over. The node's next poll or its reply will confirm it.
  void delivered() noexcept {
    if (live()) {
      record_->owner->delivered(*record_);
    }
  }

  /// Ends the message as `not_encodable`: another attempt would fail in the same way.
  void not_encodable() noexcept {
    if (live()) {
      record_->owner->end_unconfirmed(*record_, errc::not_encodable);
    }
  }

 private:
  // Another poll may have taken the task over, or a reply may have ended it.
  bool live() const noexcept {
    return record_ && record_->owner != nullptr && record_->in_hand() && record_->lease == lease_;
  }

  boost::intrusive_ptr<detail::TaskRecord<M, Clock>> record_{};
  std::uint32_t lease_ = 0;
};

}  // namespace fedagent
