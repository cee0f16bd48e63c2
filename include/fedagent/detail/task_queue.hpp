#pragma once

#include <cstddef>
#include <iterator>

#include "fedagent/detail/task_record.hpp"
#include "fedagent/detail/wait_list.hpp"
#include "fedagent/options.hpp"

namespace fedagent::detail {

/// The tasks that wait for a poll, the polls that wait for a task, the senders that wait for room.
/**
 * A task stays here until the coroutine that takes it really runs: what is sent to a waiter is a
 * wake-up, never the task (asio issue 1041). Allocates nothing: tasks and waiters are links.
 */
template <class M, class Clock>
class TaskQueue {
 public:
  using Record = TaskRecord<M, Clock>;
  using Waiters = WaitList<Clock>;

  /// @param polls The polls that wait for a task; they may wait before there is a queue.
  explicit TaskQueue(Waiters& polls) noexcept : takers(polls) {}
  TaskQueue(const TaskQueue&) = delete;
  TaskQueue& operator=(const TaskQueue&) = delete;

  /// New tasks go to the end.
  void push_back(Record& record) {
    tasks_.push_back(record);
    added(record);
  }

  /// Returned tasks go to the front, in the order of their acceptance.
  void put_back(Record& record) {
    auto place = tasks_.begin();
    while (place != tasks_.end() && place->sequence < record.sequence) {
      ++place;
    }
    tasks_.insert(place, record);
    added(record);
  }

  void remove(Record& record) {
    tasks_.erase(tasks_.iterator_to(record));
    bytes_ -= message_traits<M>::size(*record.message);
    senders.wake_first(1);
  }

  /// The next task. @pre The queue is not empty.
  Record& front() noexcept { return tasks_.front(); }
  const Record& front() const noexcept { return tasks_.front(); }

  /// All of them, the next one first.
  const TaskList<M, Clock>& tasks() const noexcept { return tasks_; }
  TaskList<M, Clock>& tasks() noexcept { return tasks_; }

  /// How many tasks are before this one, which is in the queue.
  std::size_t before(const Record& record) const noexcept {
    return static_cast<std::size_t>(std::distance(tasks_.begin(), tasks_.iterator_to(record)));
  }

  bool empty() const noexcept { return tasks_.empty(); }
  std::size_t size() const noexcept { return tasks_.size(); }
  std::size_t bytes() const noexcept { return bytes_; }

  bool has_room(std::size_t bytes, const AgentOptions& limits) const noexcept {
    return (limits.max_queued_messages == 0 || size() < limits.max_queued_messages) &&
           (limits.max_queued_bytes == 0 || bytes_ + bytes <= limits.max_queued_bytes);
  }

  /// Lets as many polls look as there are tasks. Called whenever a task or a poll came or went.
  void wake_takers() noexcept { takers.wake_first(size()); }

  Waiters& takers;
  Waiters senders;

 private:
  void added(const Record& record) {
    bytes_ += message_traits<M>::size(*record.message);
    wake_takers();
  }

  TaskList<M, Clock> tasks_;
  std::size_t bytes_ = 0;
};

}  // namespace fedagent::detail
