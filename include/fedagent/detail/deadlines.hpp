#pragma once

#include <boost/intrusive/set.hpp>

namespace fedagent::detail {

/// What is to happen at which time, in order; equal times in the order in which they were armed,
/// what was moved away to them behind that.
/**
 * Entries are members or bases of what they act on: arming allocates nothing, and an entry that is
 * destroyed is out of the set. Whoever moves a deadline further away, or disarms, leaves the entry
 * where it is: that is looked at when its place comes first. So a timer that is restarted again and
 * again costs a place in the set once in its time. Deadlines that are armed in ascending order, as
 * those of one timeout value are, go to the end in constant time.
 */
template <class Clock>
class Deadlines {
 public:
  using time_point = typename Clock::time_point;
  static constexpr time_point never = time_point::max();

  class Entry : public boost::intrusive::set_base_hook<
                    boost::intrusive::link_mode<boost::intrusive::auto_unlink>,
                    boost::intrusive::optimize_size<true>> {
   public:
    bool armed() const noexcept { return deadline_ != never; }
    /// `never` when it is not armed.
    time_point deadline() const noexcept { return deadline_; }
    /// It is no error to disarm what is not armed.
    void disarm() noexcept { deadline_ = never; }

   protected:
    Entry() = default;
    Entry(const Entry&) = delete;
    Entry& operator=(const Entry&) = delete;
    ~Entry() = default;

   private:
    friend Deadlines;
    virtual void on_deadline() noexcept = 0;

    time_point deadline_ = never;
    /// Where it is in the set; not after the deadline.
    time_point place_{};
  };

  /// Arms the entry, or moves one that is armed.
  void arm(Entry& entry, time_point at) noexcept {
    entry.deadline_ = at;
    if (!entry.is_linked() || at < entry.place_) {
      put_in_place(entry);
    }
  }

  /// The earliest deadline, or `never`.
  time_point next() noexcept {
    while (!entries_.empty()) {
      Entry& first = *entries_.begin();
      if (first.deadline_ == first.place_) {
        return first.place_;
      }
      put_in_place(first);
    }
    return never;
  }

  /// Disarms and runs the entry that is due first.
  /** @return Whether one was due. An entry may arm, disarm and destroy any other, and itself. */
  bool run_one(time_point now) noexcept {
    const auto first = next();
    if (first == never || now < first) {
      return false;
    }
    Entry& due = *entries_.begin();
    due.unlink();
    due.disarm();
    due.on_deadline();
    return true;
  }

 private:
  struct ByPlace {
    using type = time_point;
    const type& operator()(const Entry& entry) const noexcept { return entry.place_; }
  };

  void put_in_place(Entry& entry) noexcept {
    if (entry.is_linked()) {
      entry.unlink();
    }
    if (!entry.armed()) {
      return;
    }
    const auto at = entry.place_ = entry.deadline_;
    // Without a place before it that is later, the end is the right place, found without a search.
    if (entries_.empty() || !(at < entries_.rbegin()->place_)) {
      entries_.push_back(entry);
    } else {
      entries_.insert(entries_.upper_bound(at), entry);
    }
  }

  boost::intrusive::multiset<Entry, boost::intrusive::key_of_value<ByPlace>,
                             boost::intrusive::constant_time_size<false>>
      entries_;
};

}  // namespace fedagent::detail
