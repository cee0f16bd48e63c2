#pragma once

#include <algorithm>
#include <random>

#include "fedagent/options.hpp"

namespace fedagent::stream::detail {

/// How long to pause before the next attempt: doubling up to a limit, a part of it left to chance.
class BackOff {
 public:
  BackOff(Duration least, Duration longest, double jitter) noexcept
      : least_(least), longest_(longest), jitter_(jitter), next_(least) {}

  /// The pause after an attempt that failed.
  template <class Random>
  Duration next(Random& random) {
    const double part = 1.0 - std::uniform_real_distribution<>(0.0, jitter_)(random);
    const auto pause = static_cast<Duration::rep>(static_cast<double>(next_.count()) * part);
    next_ = std::min(longest_, next_ > longest_ / 2 ? longest_ : 2 * next_);
    return std::max(Duration(pause), Duration{1});
  }
  /// An attempt succeeded.
  void reset() noexcept { next_ = least_; }

 private:
  Duration least_;
  Duration longest_;
  double jitter_;
  Duration next_;
};

}  // namespace fedagent::stream::detail
