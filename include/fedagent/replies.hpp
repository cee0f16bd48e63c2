#pragma once

#include <boost/circular_buffer.hpp>
#include <boost/unordered/unordered_flat_map.hpp>
#include <concepts>
#include <cstddef>
#include <cstdint>
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
 * a late reply, never its delivery.
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
      : remembered_for_(remembered_for), order_({remembered, 0}) {}

  /// Opens a request. @return False when a request with this id is open.
  bool add(Record& record) {
    if (!open_.insert(&record).second) {
      return false;
    }
    ended_.erase(record.request.hash);
    return true;
  }

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
    if (order_.capacity() == 0) {
      return;
    }
    forget_older_than(now);
    if (order_.full()) {
      forget_oldest();
    }
    order_.push_back({id.hash, now});
    ended_.insert_or_assign(id.hash, Ended{further, places_++});
  }

  /// What a reply to a request that is not open is to be called.
  ReplyDisposition classify(const RequestId& id, time_point now) {
    forget_older_than(now);
    const auto found = ended_.find(id.hash);
    return found == ended_.end() ? ReplyDisposition::unexpected : found->second.further;
  }

  std::size_t open() const noexcept { return open_.size(); }
  std::size_t remembered() const noexcept { return ended_.size(); }

 private:
  struct Ended {
    ReplyDisposition further;
    std::uint64_t place;
  };
  struct Place {
    std::size_t hash;
    time_point at;
  };

  struct IdOf {
    const RequestId& operator()(const Record* record) const noexcept { return record->request; }
  };

  void forget_older_than(time_point now) {
    while (remembered_for_ > Duration::zero() && !order_.empty() &&
           now - order_.front().at >= remembered_for_) {
      forget_oldest();
    }
  }

  void forget_oldest() {
    const auto found = ended_.find(order_.front().hash);
    // The same id may have been used and ended again since.
    if (found != ended_.end() && found->second.place == places_ - order_.size()) {
      ended_.erase(found);
    }
    order_.pop_front();
  }

  Duration remembered_for_;
  detail::KeyedSet<Record*, IdOf> open_;
  boost::unordered_flat_map<std::size_t, Ended> ended_;
  boost::circular_buffer_space_optimized<Place> order_;
  /// How many places were ever given.
  std::uint64_t places_ = 0;
};

}  // namespace fedagent
