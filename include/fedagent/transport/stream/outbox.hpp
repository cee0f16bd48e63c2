#pragma once

#include <algorithm>
#include <cstddef>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "fedagent/transport/stream/error.hpp"
#include "fedagent/transport/stream/frame.hpp"
#include "fedagent/transport/stream/message.hpp"
#include "fedagent/transport/stream/payload.hpp"

namespace fedagent::stream::detail {

/// What a client has to tell the server, in order, each entry until the server has answered it.
/**
 * The server answers in the order in which it is told. When the connection is lost, replies stay
 * and are told anew on the next one: the server knows duplicates. An overlay message that may have
 * arrived ends with `connection_lost`: nobody else would know a duplicate of it.
 */
class Outbox {
 public:
  struct Entry {
    FrameType type = FrameType::reply;
    std::shared_ptr<const Message> message;
    /// Where whoever waits for the answer finds it; null when nobody does.
    std::shared_ptr<std::optional<ReplyResult>> outcome;
  };

  void add(Entry entry) { entries_.push_back(std::move(entry)); }

  /// Whether there is something to begin with on this connection.
  bool pending() const noexcept { return begun_ < entries_.size(); }
  /// Begins with the next entry. @pre `pending`.
  Entry begin_next() { return entries_[begun_++]; }
  /// The end of the one that was begun last is about to be written.
  void ends() noexcept { ++unanswered_; }
  bool awaits_result() const noexcept { return unanswered_ > 0; }
  /// The server has answered the oldest. @pre `awaits_result`.
  Entry answered() {
    Entry entry = std::move(entries_.front());
    entries_.pop_front();
    --begun_;
    --unanswered_;
    return entry;
  }

  /// The entry that was begun last cannot be sent.
  Entry withdraw() {
    const auto place = entries_.begin() + static_cast<std::ptrdiff_t>(--begun_);
    Entry entry = std::move(*place);
    entries_.erase(place);
    return entry;
  }

  /// The connection is lost.
  void lost() {
    for (std::size_t i = 0; i < begun_; ++i) {
      if (entries_[i].type == FrameType::overlay && entries_[i].outcome) {
        *entries_[i].outcome = make_error_code(errc::connection_lost);
      }
    }
    const auto gone =
        std::remove_if(entries_.begin(), entries_.begin() + static_cast<std::ptrdiff_t>(begun_),
                       [](const Entry& entry) { return entry.type == FrameType::overlay; });
    entries_.erase(gone, entries_.begin() + static_cast<std::ptrdiff_t>(begun_));
    begun_ = 0;
    unanswered_ = 0;
  }

  /// Whoever waits for an answer leaves with this error.
  void end(boost::system::error_code why) {
    for (auto& entry : entries_) {
      if (entry.outcome && !*entry.outcome) {
        *entry.outcome = why;
      }
    }
  }

  bool holds_reply(std::string_view request_id) const noexcept {
    return std::any_of(entries_.begin(), entries_.end(), [&](const Entry& entry) {
      return entry.type == FrameType::reply && entry.message->request_id == request_id;
    });
  }
  std::size_t size() const noexcept { return entries_.size(); }

 private:
  std::deque<Entry> entries_;
  std::size_t begun_ = 0;
  std::size_t unanswered_ = 0;
};

}  // namespace fedagent::stream::detail
