#include <doctest/doctest.h>
#include <algorithm>
#include <boost/system/error_code.hpp>
#include <cstring>
#include <string>
#include <string_view>

#include "fedagent/transport/stream/joiner.hpp"
#include "support/printing.hpp"

namespace stream = fedagent::stream;
using stream::Budget;
using stream::ChunkHead;
using stream::errc;
using stream::FrameHeader;
using stream::FrameType;
using stream::Joiner;

namespace {

constexpr std::uint64_t max_message = std::uint64_t{1} << 30U;

FrameHeader first_header(const ChunkHead& head, std::size_t body, bool last,
                         FrameType type = FrameType::reply) {
  return {static_cast<std::uint32_t>(ChunkHead::encoded_size + head.ids() + body), type, last};
}
FrameHeader next_header(std::size_t body, bool last, FrameType type = FrameType::reply) {
  return {static_cast<std::uint32_t>(ChunkHead::index_size + body), type, last};
}
void fill(Joiner& joiner, std::string_view body) {
  REQUIRE(joiner.space().size() == body.size());
  std::memcpy(joiner.space().data(), body.data(), body.size());
}

}  // namespace

TEST_CASE("stream joiner: E13 chunks are joined in order, with the ids of the first") {
  Budget budget;
  Joiner joiner(budget);
  const ChunkHead head{.total = 7, .request_id = 2, .destination = 0, .source = 1};
  CHECK_FALSE(joiner.begun());
  REQUIRE_FALSE(joiner.first(first_header(head, 3, false), head, max_message));
  CHECK(joiner.begun());
  joiner.message().request_id = "r1";
  joiner.message().source = "n";
  fill(joiner, "abc");
  REQUIRE_FALSE(joiner.next(next_header(3, false), 1));
  fill(joiner, "def");
  CHECK_FALSE(joiner.whole());
  REQUIRE_FALSE(joiner.next(next_header(1, true), 2));
  fill(joiner, "g");
  REQUIRE(joiner.whole());
  const auto message = joiner.take();
  CHECK(message.request_id == "r1");
  CHECK(message.source == "n");
  CHECK(message.body == "abcdefg");
}

TEST_CASE("stream joiner: an empty body is one chunk") {
  Budget budget;
  Joiner joiner(budget);
  const ChunkHead head{};
  CHECK_FALSE(joiner.first(first_header(head, 0, true), head, max_message));
  CHECK(joiner.whole());
  CHECK(joiner.take().body.empty());
}

TEST_CASE("stream joiner: E16 order, type, size and total of the chunks are checked") {
  struct Case {
    const char* what;
    ChunkHead head;
    std::size_t first_body;
    bool first_last;
    FrameHeader next;
    std::uint32_t index;
    errc expected;
  };
  const ChunkHead ten{.total = 10};
  const Case cases[] = {
      {"skipped", ten, 4, false, next_header(6, true), 2, errc::chunk_out_of_order},
      {"again", ten, 4, false, next_header(6, true), 0, errc::chunk_out_of_order},
      {"another type", ten, 4, false, next_header(6, true, FrameType::overlay), 1,
       errc::message_interrupted},
      {"too long", ten, 4, false, next_header(7, false), 1, errc::body_too_long},
      {"too long at the end", ten, 4, false, next_header(7, true), 1, errc::body_too_long},
      {"too short", ten, 4, false, next_header(5, true), 1, errc::body_too_short},
      {"empty", ten, 4, false, next_header(0, false), 1, errc::empty_chunk},
      {"complete, but goes on", ten, 10, false, next_header(0, true), 1, errc::empty_chunk},
  };
  for (const auto& each : cases) {
    CAPTURE(each.what);
    Budget budget;
    Joiner joiner(budget);
    REQUIRE_FALSE(joiner.first(first_header(each.head, each.first_body, each.first_last), each.head,
                               max_message));
    CHECK(joiner.next(each.next, each.index) == each.expected);
  }
}

TEST_CASE("stream joiner: E15 E16 a first chunk is checked by itself") {
  const auto first = [](ChunkHead head, FrameHeader header) {
    Budget budget;
    Joiner joiner(budget);
    return joiner.first(header, head, 100);
  };
  CHECK(first({.index = 1}, {18, FrameType::task, true}) == errc::chunk_out_of_order);
  CHECK(first({.total = 101}, {18 + 50, FrameType::task, false}) == errc::message_too_large);
  CHECK(first({.total = 5, .request_id = 1025}, {18 + 1030, FrameType::task, true}) ==
        errc::id_too_long);
  CHECK(first({.total = 0, .request_id = 9}, {18 + 8, FrameType::task, true}) ==
        errc::malformed_payload);
  CHECK(first({.total = 5}, {17, FrameType::task, true}) == errc::malformed_payload);
  CHECK(first({.total = 5}, {18 + 6, FrameType::task, true}) == errc::body_too_long);
  CHECK(first({.total = 5}, {18 + 4, FrameType::task, true}) == errc::body_too_short);
  CHECK(first({.total = 5}, {18, FrameType::task, false}) == errc::empty_chunk);
  CHECK(first({.total = 100}, {18 + 100, FrameType::task, true}) == boost::system::error_code());
}

TEST_CASE("stream joiner: memory follows what has arrived, not what was announced") {
  Budget budget;
  {
    Joiner joiner(budget);
    const ChunkHead head{.total = max_message};
    REQUIRE_FALSE(joiner.first(first_header(head, 1000, false), head, max_message));
    CHECK(budget.used == Joiner::least_room);
    std::uint64_t arrived = 1000;
    std::uint32_t index = 1;
    std::size_t rooms = 1;
    for (; arrived < (std::uint64_t{8} << 20U); arrived += 50'000) {
      const auto before = budget.used;
      REQUIRE_FALSE(joiner.next(next_header(50'000, false), index++));
      CHECK(budget.used < 8 * std::max(arrived + 50'000, Joiner::least_room));
      rooms += budget.used != before ? 1U : 0U;
    }
    CHECK(rooms == 4);  // 32 KiB, then eight times as much each
  }
  CHECK(budget.used == 0);
}

TEST_CASE("stream joiner: what all joiners take together is limited, and given back") {
  Budget budget{.limit = 200'000};
  Joiner one(budget);
  const ChunkHead head{.total = 150'000};
  REQUIRE_FALSE(one.first(first_header(head, 70'000, false), head, max_message));
  REQUIRE_FALSE(one.next(next_header(80'000, true), 1));
  CHECK(budget.used == 150'000);
  {
    Joiner two(budget);
    CHECK(two.first(first_header(head, 50'001, false), head, max_message) ==
          errc::too_much_incoming);
    CHECK(budget.used == 150'000);
    const ChunkHead small{.total = 50'000};
    Joiner three(budget);
    CHECK_FALSE(three.first(first_header(small, 50'000, true), small, max_message));
    CHECK(budget.used == 200'000);
  }
  CHECK(budget.used == 150'000);
}
