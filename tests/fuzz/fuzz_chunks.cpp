// ChunkJoiner takes a chunk when, and only when, a plain model of it does, and gives what the model
// has joined, without more memory than it says. What is cut in whatever way is joined again.

#include <fuzzer/FuzzedDataProvider.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fedagent/fedbiomed/chunks.hpp"
#include "fuzz/support.hpp"

namespace fedbiomed = fedagent::fedbiomed;
using fedbiomed::ChunkJoiner;
using fuzz::require;

namespace {

/// What has arrived of a message, and how many chunks it has.
struct Model {
  std::vector<std::string> pieces;
  std::int32_t count = 0;

  std::string joined() const {
    std::string all;
    for (const auto& piece : pieces) {
      all += piece;
    }
    return all;
  }
  bool takes(std::int32_t size, std::int32_t iteration, std::size_t bytes,
             std::size_t max_message) const {
    const auto next = static_cast<std::int64_t>(pieces.size()) + 1;
    return size > 0 && (pieces.empty() || size == count) && iteration == next &&
           iteration <= size && bytes > 0 && joined().size() + bytes <= max_message;
  }
};

void any_chunks(FuzzedDataProvider& input) {
  // With a large limit what the first chunk claims must not make it take memory.
  const auto max_message = input.ConsumeBool() ? input.ConsumeIntegralInRange<std::size_t>(0, 3000)
                                               : std::size_t{1} << 40U;
  ChunkJoiner joiner(max_message);
  Model model;
  while (input.remaining_bytes() > 0) {
    // Mostly chunks that go on; else nothing would ever be whole.
    auto size =
        model.pieces.empty() ? input.ConsumeIntegralInRange<std::int32_t>(1, 8) : model.count;
    auto iteration = static_cast<std::int32_t>(model.pieces.size()) + 1;
    if (input.ConsumeIntegralInRange<int>(0, 15) == 0) {
      size = input.ConsumeIntegral<std::int32_t>();
    }
    if (input.ConsumeIntegralInRange<int>(0, 15) == 0) {
      iteration = input.ConsumeIntegral<std::int32_t>();
    }
    const auto bytes = input.ConsumeRandomLengthString(1000);
    const bool expected = model.takes(size, iteration, bytes.size(), max_message);
    const auto added = joiner.add(size, iteration, bytes);
    require(added.has_value() == expected, "the model takes what the joiner takes");
    if (!added) {
      model = {};
      require(!joiner.begun(), "after an error nothing is kept");
      continue;
    }
    model.count = size;
    model.pieces.push_back(bytes);
    const auto arrived = model.joined().size();
    require(joiner.begun(), "a message has begun");
    require(joiner.room() < std::max(4 * arrived, 4 * ChunkJoiner::least_room), "memory");
    require(*added == (iteration == size), "it is whole with its last chunk");
    if (*added) {
      require(joiner.take() == model.joined(), "it is what the chunks were");
      require(!joiner.begun(), "the next message may begin");
      model = {};
    }
  }
}

void any_split(FuzzedDataProvider& input) {
  const auto piece = input.ConsumeIntegralInRange<std::size_t>(1, 300);
  const bool even = input.ConsumeBool();
  const auto cuts = input.ConsumeRandomLengthString(64);
  const auto bytes = input.ConsumeRemainingBytesAsString();
  if (bytes.empty()) {
    return;
  }
  std::vector<std::string_view> pieces;
  if (even) {
    const fedbiomed::ChunkSplitter splitter(bytes, piece);
    for (std::int32_t i = 1; i <= splitter.count(); ++i) {
      const auto chunk = splitter.chunk(i);
      require(chunk.size == splitter.count() && chunk.iteration == i, "chunks are numbered");
      require(chunk.bytes.size() == piece || i == chunk.size, "all but the last are full");
      pieces.push_back(chunk.bytes);
    }
  } else {
    std::string_view rest = bytes;
    for (std::size_t i = 0; !rest.empty(); ++i) {
      const auto cut = i < cuts.size() ? static_cast<unsigned char>(cuts[i]) : piece;
      pieces.push_back(rest.substr(0, std::max<std::size_t>(cut, 1)));
      rest.remove_prefix(pieces.back().size());
    }
  }
  ChunkJoiner joiner(bytes.size());
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    const auto whole = joiner.add(static_cast<std::int32_t>(pieces.size()),
                                  static_cast<std::int32_t>(i + 1), pieces[i]);
    require(whole.has_value() && *whole == (i + 1 == pieces.size()), "each chunk is taken");
  }
  require(joiner.take() == bytes, "what was cut is joined again");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  FuzzedDataProvider input(data, size);
  if (input.ConsumeBool()) {
    any_chunks(input);
  } else {
    any_split(input);
  }
  return 0;
}
