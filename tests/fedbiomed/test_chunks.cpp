#include <doctest/doctest.h>
#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "fedagent/fedbiomed/chunks.hpp"
#include "fedbiomed/support.hpp"

namespace fedbiomed = fedagent::fedbiomed;
using fedbiomed::ChunkJoiner;
using fedbiomed::ChunkSplitter;
using fedbiomed::errc;
using support::error_of;

namespace {

constexpr std::size_t no_limit = SIZE_MAX;

std::string noise(std::size_t size, unsigned seed) {
  std::minstd_rand random(seed);
  std::string bytes(size, '\0');
  for (auto& c : bytes) {
    c = static_cast<char>(random());
  }
  return bytes;
}

/// Joins what a splitter makes of the bytes.
std::string joined(ChunkJoiner& joiner, std::string_view bytes, std::size_t piece) {
  const ChunkSplitter splitter(bytes, piece);
  for (std::int32_t i = 1; i <= splitter.count(); ++i) {
    const auto chunk = splitter.chunk(i);
    const auto whole = joiner.add(chunk.size, chunk.iteration, chunk.bytes);
    REQUIRE(whole);
    CHECK(*whole == (i == splitter.count()));
    CHECK(joiner.begun());
  }
  return joiner.take();
}

}  // namespace

TEST_CASE(
    "fedbiomed chunks: c.3 a message is cut into pieces of 3,999,967 bytes, the last is less") {
  const auto cut = [](std::size_t size) {
    const std::string bytes(size, 'x');
    const ChunkSplitter splitter(bytes);
    std::vector<std::size_t> sizes;
    for (std::int32_t i = 1; i <= splitter.count(); ++i) {
      const auto chunk = splitter.chunk(i);
      CHECK(chunk.size == splitter.count());
      CHECK(chunk.iteration == i);
      sizes.push_back(chunk.bytes.size());
    }
    return sizes;
  };
  using Sizes = std::vector<std::size_t>;
  CHECK(fedbiomed::chunk_size == 3'999'967);
  CHECK(cut(1) == Sizes{1});
  CHECK(cut(3'999'967) == Sizes{3'999'967});
  CHECK(cut(3'999'968) == Sizes{3'999'967, 1});
  CHECK(cut(9'000'000) == Sizes{3'999'967, 3'999'967, 1'000'066});
}

TEST_CASE("fedbiomed chunks: c.3 pieces of any size are joined, message after message") {
  ChunkJoiner joiner(no_limit);
  unsigned seed = 0;
  for (const std::size_t size : {1U, 2U, 40U, 41U, 1000U, 300'000U}) {
    for (const std::size_t piece : {1U, 2U, 7U, 40U, 999U, 1'000'000U}) {
      if (size / piece <= 100'000) {
        const auto bytes = noise(size, ++seed);
        CHECK_FALSE(joiner.begun());
        CHECK(joined(joiner, bytes, piece) == bytes);
      }
    }
  }
  CHECK_FALSE(joiner.begun());
}

TEST_CASE("fedbiomed chunks: pieces of different sizes are joined too") {
  std::mt19937 random(7);
  const auto bytes = noise(500'000, 3);
  for (int round = 0; round < 20; ++round) {
    std::vector<std::string_view> pieces;
    for (std::string_view rest = bytes; !rest.empty(); rest.remove_prefix(pieces.back().size())) {
      pieces.push_back(rest.substr(0, 1 + random() % 90'000));
    }
    ChunkJoiner joiner(bytes.size());
    for (std::size_t i = 0; i < pieces.size(); ++i) {
      REQUIRE(joiner.add(static_cast<std::int32_t>(pieces.size()), static_cast<std::int32_t>(i + 1),
                         pieces[i]));
    }
    CHECK(joiner.take() == bytes);
  }
}

TEST_CASE("fedbiomed chunks: E16 order, constant size and emptiness are checked") {
  struct Case {
    const char* what;
    std::int32_t size;
    std::int32_t iteration;
    std::string_view bytes;
    errc expected;
  };
  constexpr std::int32_t least = INT32_MIN;
  const Case first[] = {
      {"no chunks", 0, 1, "x", errc::bad_chunk_count},
      {"no chunks at zero", 0, 0, "x", errc::bad_chunk_count},
      {"less than none", -1, 1, "x", errc::bad_chunk_count},
      {"far less than none", least, least, "x", errc::bad_chunk_count},
      {"counted from zero", 2, 0, "x", errc::bad_chunk_order},
      {"counted backwards", 2, -1, "x", errc::bad_chunk_order},
      {"begun in the middle", 2, 2, "x", errc::bad_chunk_order},
      {"beyond the end", 1, 2, "x", errc::bad_chunk_order},
      {"empty", 1, 1, "", errc::empty_chunk},
  };
  const Case second[] = {
      {"again", 3, 1, "x", errc::bad_chunk_order},
      {"skipped", 3, 3, "x", errc::bad_chunk_order},
      {"beyond the end", 3, 4, "x", errc::bad_chunk_order},
      {"one more", 4, 2, "x", errc::chunk_size_changed},
      {"one less", 2, 2, "x", errc::chunk_size_changed},
      {"a new message", 1, 1, "x", errc::chunk_size_changed},
      {"empty", 3, 2, "", errc::empty_chunk},
  };
  for (const auto& c : first) {
    CAPTURE(c.what);
    ChunkJoiner joiner(no_limit);
    CHECK(error_of(joiner.add(c.size, c.iteration, c.bytes)) == c.expected);
    CHECK_FALSE(joiner.begun());
  }
  for (const auto& c : second) {
    CAPTURE(c.what);
    ChunkJoiner joiner(no_limit);
    REQUIRE(joiner.add(3, 1, "x"));
    CHECK(error_of(joiner.add(c.size, c.iteration, c.bytes)) == c.expected);
    CHECK_FALSE(joiner.begun());  // it is all gone
  }
}

TEST_CASE("fedbiomed chunks: E16 a message of more than max_message bytes is refused") {
  ChunkJoiner joiner(10);
  REQUIRE(joiner.add(2, 1, "12345"));
  REQUIRE(joiner.add(2, 2, "67890"));
  CHECK(joiner.take() == "1234567890");
  CHECK(error_of(joiner.add(1, 1, "12345678901")) == errc::message_too_large);
  REQUIRE(joiner.add(3, 1, "12345"));
  REQUIRE(joiner.add(3, 2, "67890"));
  CHECK(error_of(joiner.add(3, 3, "1")) == errc::message_too_large);
  CHECK(error_of(ChunkJoiner(0).add(1, 1, "1")) == errc::message_too_large);
}

TEST_CASE("fedbiomed chunks: a whole message that nobody took is not gone on with") {
  ChunkJoiner joiner(no_limit);
  REQUIRE(joiner.add(1, 1, "x"));
  CHECK(error_of(joiner.add(1, 2, "x")) == errc::bad_chunk_order);
}

TEST_CASE("fedbiomed chunks: the bytes of a chunk may come in several pieces") {
  ChunkJoiner joiner(10);
  const std::vector<std::string_view> pieces{"", "123", "", "45"};
  const std::vector<std::string_view> nothing{"", ""};
  CHECK_FALSE(*joiner.add(2, 1, pieces));
  CHECK(*joiner.add(2, 2, pieces));
  CHECK(joiner.take() == "1234512345");
  CHECK(error_of(joiner.add(1, 1, nothing)) == errc::empty_chunk);
  CHECK(error_of(joiner.add(1, 1, std::vector<std::string_view>{})) == errc::empty_chunk);
  REQUIRE(joiner.add(3, 1, pieces));
  REQUIRE(joiner.add(3, 2, pieces));
  CHECK(error_of(joiner.add(3, 3, pieces)) == errc::message_too_large);
}

TEST_CASE("fedbiomed chunks: the memory follows what has arrived, not what is claimed") {
  for (const std::int32_t count : {INT32_MAX, 3000, 3001, 12'000}) {
    CAPTURE(count);
    ChunkJoiner joiner(no_limit);
    std::size_t arrived = 0;
    for (std::int32_t i = 1; i <= 3000; ++i) {
      REQUIRE(joiner.add(count, i, std::string(1000, 'x')));
      arrived += 1000;
      CHECK(joiner.room() >= arrived);
      CHECK(joiner.room() < std::max(4 * arrived, 4 * ChunkJoiner::least_room));
    }
    if (count == 3000) {
      CHECK(joiner.room() == arrived);  // the last step was to the whole
    }
  }
}

TEST_CASE("fedbiomed chunks: a message of one chunk has room for it and no more") {
  ChunkJoiner joiner(no_limit);
  REQUIRE(joiner.add(1, 1, std::string(1'000'000, 'x')));
  CHECK(joiner.room() == 1'000'000);
  const auto whole = joiner.take();
  CHECK(joiner.room() < 100);
}

TEST_CASE("fedbiomed chunks: later chunks may be larger than the first") {
  ChunkJoiner joiner(no_limit);
  REQUIRE(joiner.add(3, 1, "x"));
  REQUIRE(joiner.add(3, 2, std::string(1'000'000, 'y')));
  REQUIRE(joiner.add(3, 3, std::string(1'000'000, 'z')));
  CHECK(joiner.take() == "x" + std::string(1'000'000, 'y') + std::string(1'000'000, 'z'));
}
