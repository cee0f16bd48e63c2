#pragma once

#include <boost/intrusive/list.hpp>
#include <cstddef>
#include <iterator>

#include "fedagent/detail/task_record.hpp"

namespace fedagent::detail {

/// The tasks that polls have taken and nothing has confirmed, the oldest first.
template <class M, class Clock>
class Leases {
 public:
  using Record = TaskRecord<M, Clock>;

  void push_back(Record& record) noexcept {
    tasks_.push_back(record);
    ++size_;
  }
  void remove(Record& record) noexcept {
    tasks_.erase(tasks_.iterator_to(record));
    --size_;
  }

  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }
  /// The oldest. @pre There is one.
  Record& front() noexcept { return tasks_.front(); }

  /// The oldest whose delivery is not reported yet, or null.
  Record* oldest_in_hand() noexcept {
    for (auto& record : tasks_) {
      if (record.in_hand()) {
        return &record;
      }
    }
    return nullptr;
  }

  /// Shows every lease to `settle(record)`, which says whether it has removed it.
  /** What it did may have run a handler that did anything, so the list is begun anew after it. */
  template <class Settle>
  void settle_all(Settle settle) {
    for (auto record = tasks_.begin(); record != tasks_.end();) {
      record = settle(*record) ? tasks_.begin() : std::next(record);
    }
  }

 private:
  boost::intrusive::list<Record, boost::intrusive::constant_time_size<false>> tasks_;
  std::size_t size_ = 0;
};

}  // namespace fedagent::detail
