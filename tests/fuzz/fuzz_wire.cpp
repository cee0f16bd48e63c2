// What is decoded from protobuf bytes, encoded and decoded again is the same; a chunk is a view
// into what it was decoded from; strings are UTF-8.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

#include "fedagent/fedbiomed/wire.hpp"
#include "fuzz/support.hpp"

namespace fedbiomed = fedagent::fedbiomed;
using fuzz::require;

namespace {

void task_request(std::string_view input) {
  if (const auto request = fedbiomed::decode_task_request(input)) {
    require(fedbiomed::is_utf8(request->node), "the id is UTF-8");
    const auto bytes = encode(*request);
    require(bytes.size() <= input.size(), "there is no shorter form");
    const auto again = fedbiomed::decode_task_request(bytes);
    require(again.has_value(), "it can be decoded again");
    require(again->node == request->node, "the node is the same");
    require(again->protocol_version == request->protocol_version, "the version is the same");
  }
}

void chunk(std::string_view input) {
  if (const auto chunk = fedbiomed::decode_chunk(input)) {
    require(fuzz::lies_within(chunk->bytes, input), "the bytes lie within the input");
    const auto bytes = encode(*chunk);
    require(bytes.ends_with(chunk->bytes), "the bytes come last");
    require(bytes.starts_with(fedbiomed::ChunkHead(*chunk).bytes()), "the head comes first");
    const auto again = fedbiomed::decode_chunk(bytes);
    require(again.has_value(), "it can be decoded again");
    require(again->size == chunk->size && again->iteration == chunk->iteration &&
                again->bytes == chunk->bytes,
            "it is the same");
  }
}

void feedback(std::string_view input) {
  if (const auto message = fedbiomed::decode_feedback(input)) {
    const auto bytes = encode(*message);
    const auto again = fedbiomed::decode_feedback(bytes);
    require(again.has_value(), "it can be decoded again");
    require(again->researcher_id == message->researcher_id, "the researcher is the same");
    require(again->feedback.index() == message->feedback.index(), "the kind is the same");
    // By its bytes, as a NaN is not the same as itself.
    require(encode(*again) == bytes, "it is the same");
    if (const auto* scalar = std::get_if<fedbiomed::Scalar>(&message->feedback)) {
      for (const auto& metric : scalar->metric) {
        require(fedbiomed::is_utf8(metric.first), "the names are UTF-8");
      }
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto input = fuzz::text_of(data, size);
  task_request(input);
  chunk(input);
  feedback(input);
  return 0;
}
