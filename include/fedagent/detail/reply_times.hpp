#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>

#include "fedagent/round_policy.hpp"

namespace fedagent::detail {

/// The last reply times of a node, and the deadline that follows from them.
class ReplyTimes {
 public:
  void add(Duration took) noexcept {
    times_[next_] = took;
    next_ = (next_ + 1) % times_.size();
    count_ = std::min(count_ + 1, times_.size());
  }

  Duration deadline(const AdaptiveDeadline& rule) const noexcept {
    if (count_ < rule.min_replies) {
      return rule.cap;
    }
    auto times = times_;
    const auto middle = median(times);
    for (std::size_t i = 0; i < count_; ++i) {
      times[i] = times[i] < middle ? middle - times[i] : times[i] - middle;
    }
    const double spread = rule.k * static_cast<double>(median(times).count());
    // In floating point first: a large k must not overflow.
    if (static_cast<double>(middle.count()) + spread >= static_cast<double>(rule.cap.count())) {
      return rule.cap;
    }
    return std::max(rule.floor, middle + Duration(std::llround(spread)));
  }

 private:
  using Times = std::array<Duration, remembered_reply_times>;

  // Of an even number the mean of the two in the middle.
  Duration median(Times& times) const noexcept {
    const auto end = times.begin() + static_cast<std::ptrdiff_t>(count_);
    const auto upper = times.begin() + static_cast<std::ptrdiff_t>(count_ / 2);
    std::nth_element(times.begin(), upper, end);
    if (count_ % 2 == 1) {
      return *upper;
    }
    return (*std::max_element(times.begin(), upper) + *upper) / 2;
  }

  Times times_{};
  std::size_t next_ = 0;
  std::size_t count_ = 0;
};

}  // namespace fedagent::detail
