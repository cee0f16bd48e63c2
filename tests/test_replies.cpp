// replies.hpp decides alone: no loop.
#include "fedagent/replies.hpp"

#include <doctest/doctest.h>
#include <string>
#include <vector>

#include "support/manual_clock.hpp"
#include "support/printing.hpp"

using fedagent::ReplyDisposition;
using test::ManualClock;
using namespace std::chrono_literals;

namespace {

struct Record {
  fedagent::RequestId request;
};
using Replies = fedagent::Replies<Record, ManualClock>;

// Opens and ends one request.
void end(Replies& replies, const std::string& id,
         ReplyDisposition further = ReplyDisposition::late) {
  Record record{id};
  REQUIRE(replies.add(record));
  replies.finish(record.request, further, ManualClock::now());
}
ReplyDisposition classify(Replies& replies, std::string_view id) {
  return replies.classify(id, ManualClock::now());
}

}  // namespace

TEST_CASE("replies: an open request is found by its id, and only one can have it (C4)") {
  Replies replies(4, 1min);
  Record first{"r"};
  Record second{"r"};
  CHECK(replies.find("r") == nullptr);
  CHECK(replies.any() == nullptr);
  CHECK(replies.add(first));
  CHECK_FALSE(replies.add(second));
  CHECK(replies.find("r") == &first);
  CHECK(replies.any() == &first);
  CHECK(replies.open() == 1);
  replies.finish("r", ReplyDisposition::duplicate, ManualClock::now());
  CHECK(replies.find("r") == nullptr);
  CHECK(replies.open() == 0);
}

TEST_CASE("replies: what a further reply is called is what the end of the request said") {
  Replies replies(4, 1min);
  end(replies, "answered", ReplyDisposition::duplicate);
  end(replies, "flushed", ReplyDisposition::late);
  end(replies, "stopped", ReplyDisposition::stopped);
  CHECK(classify(replies, "answered") == ReplyDisposition::duplicate);
  CHECK(classify(replies, "flushed") == ReplyDisposition::late);
  CHECK(classify(replies, "stopped") == ReplyDisposition::stopped);
  // Telling does not forget (D12).
  CHECK(classify(replies, "stopped") == ReplyDisposition::stopped);
  CHECK(classify(replies, "never sent") == ReplyDisposition::unexpected);
  CHECK(replies.remembered() == 3);
}

TEST_CASE("replies: to end what is not open changes nothing") {
  Replies replies(4, 1min);
  replies.finish("r", ReplyDisposition::late, ManualClock::now());
  CHECK(replies.remembered() == 0);
  CHECK(classify(replies, "r") == ReplyDisposition::unexpected);
}

TEST_CASE(
    "D18: the ended requests that are remembered are bounded by count, the oldest goes first") {
  Replies replies(3, 1h);
  for (const auto* id : {"a", "b", "c"}) {
    end(replies, id);
    ManualClock::advance(1s);
  }
  CHECK(replies.remembered() == 3);
  end(replies, "d");
  CHECK(replies.remembered() == 3);
  CHECK(classify(replies, "a") == ReplyDisposition::unexpected);
  CHECK(classify(replies, "b") == ReplyDisposition::late);
  CHECK(classify(replies, "d") == ReplyDisposition::late);
  for (int i = 0; i < 1000; ++i) {
    end(replies, "x" + std::to_string(i));
  }
  CHECK(replies.remembered() == 3);
  CHECK(classify(replies, "d") == ReplyDisposition::unexpected);
  CHECK(classify(replies, "x999") == ReplyDisposition::late);
}

TEST_CASE("D12: an ended request is remembered for its time and not longer") {
  Replies replies(8, 1min);
  end(replies, "a", ReplyDisposition::stopped);
  ManualClock::advance(30s);
  end(replies, "b", ReplyDisposition::stopped);
  ManualClock::advance(30s - 1ns);
  CHECK(classify(replies, "a") == ReplyDisposition::stopped);
  ManualClock::advance(1ns);
  CHECK(classify(replies, "a") == ReplyDisposition::unexpected);
  CHECK(classify(replies, "b") == ReplyDisposition::stopped);
  CHECK(replies.remembered() == 1);
  ManualClock::advance(30s);
  CHECK(classify(replies, "b") == ReplyDisposition::unexpected);
  CHECK(replies.remembered() == 0);
}

TEST_CASE("replies: what ends also makes the old ones go, so that nobody need ask") {
  Replies replies(8, 1min);
  end(replies, "a");
  end(replies, "b");
  ManualClock::advance(1min);
  end(replies, "c");
  CHECK(replies.remembered() == 1);
}

TEST_CASE("replies: zero remembered requests, and zero as the time, are no limit and no memory") {
  Replies none(0, 1min);
  end(none, "a");
  CHECK(none.remembered() == 0);
  CHECK(classify(none, "a") == ReplyDisposition::unexpected);

  Replies always(2, 0s);
  end(always, "a");
  ManualClock::advance(366 * 24h);
  CHECK(classify(always, "a") == ReplyDisposition::late);
}

TEST_CASE("replies: an id that is used again is open, and remembered by its latest end") {
  Replies replies(2, 1min);
  end(replies, "a", ReplyDisposition::duplicate);
  ManualClock::advance(1s);
  Record again{"a"};
  CHECK(replies.add(again));
  CHECK(replies.find("a") == &again);
  CHECK(replies.remembered() == 1);
  replies.finish("a", ReplyDisposition::stopped, ManualClock::now());
  CHECK(classify(replies, "a") == ReplyDisposition::stopped);
  // The place of its first end is the oldest: that it goes does not make the second forgotten.
  ManualClock::advance(1s);
  end(replies, "b");
  CHECK(classify(replies, "a") == ReplyDisposition::stopped);
  CHECK(classify(replies, "b") == ReplyDisposition::late);
  CHECK(replies.remembered() == 2);
  // Nor does its age.
  ManualClock::advance(58s);
  CHECK(classify(replies, "a") == ReplyDisposition::stopped);
  ManualClock::advance(1s);
  CHECK(classify(replies, "a") == ReplyDisposition::unexpected);
}

TEST_CASE("replies: an id that ends twice at one point of time is remembered as long as others") {
  Replies replies(2, 1min);
  end(replies, "a", ReplyDisposition::duplicate);
  end(replies, "a", ReplyDisposition::stopped);
  end(replies, "b");
  CHECK(classify(replies, "a") == ReplyDisposition::stopped);
}
