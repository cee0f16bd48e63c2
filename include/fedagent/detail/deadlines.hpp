#pragma once

#include <boost/intrusive/set.hpp>
#include <optional>

namespace fedagent::detail {

/// What is to happen at which time, in order; equal times in the order in which they were armed.
/**
 * Entries are members or bases of what they act on: arming allocates nothing, and an entry that is
 * destroyed is out of the set. Deadlines that are armed in ascending order, as those of one timeout
 * value are, go to the end in constant time.
 */
template <class Clock>
class Deadlines {
 public:
  using time_point = typename Clock::time_point;

  class Entry : public boost::intrusive::set_base_hook<
                    boost::intrusive::link_mode<boost::intrusive::auto_unlink>,
                    boost::intrusive::optimize_size<true>> {
   public:
    bool armed() const noexcept { return this->is_linked(); }
    time_point deadline() const noexcept { return deadline_; }
    /// It is no error to disarm what is not armed.
    void disarm() noexcept {
      if (armed()) {
        this->unlink();
      }
    }

   protected:
    Entry() = default;
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;
    ~Entry() = default;

   private:
    friend Deadlines;
    virtual void on_deadline() noexcept = 0;

    time_point deadline_{};
  };

  /// Arms the entry, or moves one that is armed.
  void arm(Entry& entry, time_point at) noexcept {
    entry.disarm();
    entry.deadline_ = at;
    // Without a place before it that is later, the end is the right place, found without a search.
    if (entries_.empty() || !(at < entries_.rbegin()->deadline_)) {
      entries_.push_back(entry);
    } else {
      entries_.insert(entries_.upper_bound(at), entry);
    }
  }

  /// The earliest deadline.
  std::optional<time_point> next() const noexcept {
    return entries_.empty() ? std::nullopt : std::optional(entries_.begin()->deadline_);
  }

  /// Disarms and runs the entry that is due first.
  /** @return Whether one was due. An entry may arm, disarm and destroy any other, and itself. */
  bool run_one(time_point now) noexcept {
    if (entries_.empty() || now < entries_.begin()->deadline_) {
      return false;
    }
    Entry& due = *entries_.begin();
    due.disarm();
    due.on_deadline();
    return true;
  }

 private:
  struct ByDeadline {
    using type = time_point;
    const type& operator()(const Entry& entry) const noexcept { return entry.deadline_; }
  };

  boost::intrusive::multiset<Entry, boost::intrusive::key_of_value<ByDeadline>,
                             boost::intrusive::constant_time_size<false>>
      entries_;
};

}  // namespace fedagent::detail
