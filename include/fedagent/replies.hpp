#pragma once

#include <algorithm>
#include <boost/circular_buffer.hpp>
#include <concepts>
#include <cstddef>
#include <functional>
#include <string_view>

#include "fedagent/counters.hpp"
#include "fedagent/detail/keyed_set.hpp"
#include "fedagent/options.hpp"

namespace fedagent {

/// The id of a request with its hash, which is computed once.
struct RequestId {
  RequestId() = default;
  /// Implicit: any string is an id.
  template <class String>
    requires std::convertible_to<const String&, std::string_view>
  RequestId(const String& id) noexcept
      : text(id), hash(text.empty() ? 0 : std::hash<std::string_view>()(text)) {}

  friend bool operator==(const RequestId& a, const RequestId& b) noexcept {
    return a.hash == b.hash && a.text == b.text;
  }

  std::string_view text{};
  std::size_t hash = 0;
};

}  // namespace fedagent

template <>
struct std::hash<fedagent::RequestId> {
  std::size_t operator()(const fedagent::RequestId& id) const noexcept { return id.hash; }
};

namespace fedagent {

/// The reply table of an agent: which requests are open, and how the latest ones ended.
/**
 * An open request is kept by reference under its id. Of an ended one only a hash of the id and what
 * a further reply to it would be are remembered, bounded by count and age. So the memory does not
 * grow with the requests (D18, H17); two ids with the same hash can at worst confuse the *name* of
 * a late reply, never its delivery. To end a request costs the same however many are remembered; to
 * tell what a further reply is looks at one after the other, the latest end first.
 *
 * @tparam Record What an open request is, with its id as the member `request`; the table does not
 * own it.
 * @par Lifetimes
 * A record and its id must stay valid until `finish` of the same id.
 * @par Thread safety
 * Unsafe.
 */
template <class Record, class Clock>
class Replies {
 public:
  using time_point = typename Clock::time_point;

  Replies(std::size_t remembered, Duration remembered_for)
      : remembered_for_(remembered_for), ended_({remembered, 0}) {}

  /// Opens a request. @return False when a request with this id is open.
  bool add(Record& record) { return open_.insert(&record).second; }

  /// The open request with this id, or null.
  Record* find(const RequestId& id) const noexcept {
    const auto found = open_.find(id);
    return found == open_.end() ? nullptr : *found;
  }

  /// Some open request, or null when there is none.
  Record* any() const noexcept { return open_.empty() ? nullptr : *open_.begin(); }

  template <class Function>
  void for_each(Function function) const {
    for (const auto* const record : open_) {
      function(*record);
    }
  }

  /// Closes a request and remembers what a further reply to it is to be called.
  void finish(const RequestId& id, ReplyDisposition further, time_point now) {
    const auto found = open_.find(id);
    if (found == open_.end()) {
      return;
    }
    open_.erase(found);
    forget_older_than(now);
    ended_.push_back({id.hash, now, further});  // when it is full, instead of the oldest
  }

  /// What a reply to a request that is not open is to be called.
  ReplyDisposition classify(const RequestId& id, time_point now) {
    forget_older_than(now);
    // The same id may have been used and ended again since.
    const auto latest = std::find_if(ended_.rbegin(), ended_.rend(),
                                     [&](const Ended& ended) { return ended.hash == id.hash; });
    return latest == ended_.rend() ? ReplyDisposition::unexpected : latest->further;
  }

  std::size_t open() const noexcept { return open_.size(); }
  std::size_t remembered() const noexcept { return ended_.size(); }

 private:
  struct Ended {
    std::size_t hash;
    time_point at;
    ReplyDisposition further;
  };

  struct IdOf {
    const RequestId& operator()(const Record* record) const noexcept { return record->request; }
  };

  void forget_older_than(time_point now) {
    while (remembered_for_ > Duration::zero() && !ended_.empty() &&
           now - ended_.front().at >= remembered_for_) {
      ended_.pop_front();
    }
  }

  Duration remembered_for_;
  detail::KeyedSet<Record*, IdOf> open_;
  /// The oldest first.
  boost::circular_buffer_space_optimized<Ended> ended_;
};

}  // namespace fedagent
