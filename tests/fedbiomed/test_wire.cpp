#include <doctest/doctest.h>
#include <cstdint>
#include <string>

#include "fedagent/fedbiomed/wire.hpp"
#include "fedbiomed/support.hpp"

namespace fedbiomed = fedagent::fedbiomed;
using fedbiomed::Chunk;
using fedbiomed::errc;
using fedbiomed::FeedbackMessage;
using fedbiomed::Log;
using fedbiomed::Scalar;
using fedbiomed::TaskRequest;
using support::error_of;
using support::from_hex;
using support::vector_of;

namespace {

Scalar full_scalar() {
  return {.node_id = "N",
          .experiment_id = "E",
          .train = true,
          .test = true,
          .test_on_local_updates = true,
          .test_on_global_updates = true,
          .metric = {{"", 0.F}, {"Loss", 0.25F}, {"Ö", -1.5F}},
          .epoch = 0,
          .total_samples = 1,
          .batch_samples = 300,
          .num_batches = -1,
          .num_samples_trained = INT32_MAX,
          .iteration = INT32_MIN,
          .node_name = "name"};
}

void check_same(const Scalar& a, const Scalar& b) {
  CHECK(a.node_id == b.node_id);
  CHECK(a.experiment_id == b.experiment_id);
  CHECK(a.train == b.train);
  CHECK(a.test == b.test);
  CHECK(a.test_on_local_updates == b.test_on_local_updates);
  CHECK(a.test_on_global_updates == b.test_on_global_updates);
  CHECK(a.metric == b.metric);
  CHECK(a.epoch == b.epoch);
  CHECK(a.total_samples == b.total_samples);
  CHECK(a.batch_samples == b.batch_samples);
  CHECK(a.num_batches == b.num_batches);
  CHECK(a.num_samples_trained == b.num_samples_trained);
  CHECK(a.iteration == b.iteration);
  CHECK(a.node_name == b.node_name);
}

}  // namespace

TEST_CASE("fedbiomed wire: c.8 the poll of node N in version 7") {
  CHECK(encode(TaskRequest{"N", "7"}) == vector_of("TaskRequest"));
  const auto request = fedbiomed::decode_task_request(vector_of("TaskRequest"));
  REQUIRE(request);
  CHECK(request->node == "N");
  CHECK(request->protocol_version == "7");
}

TEST_CASE("fedbiomed wire: c.8 a chunk; its bytes are not copied") {
  const auto bytes = vector_of("TaskResponse");
  CHECK(encode(Chunk{1, 1, "ab"}) == bytes);
  const auto chunk = fedbiomed::decode_chunk(bytes);
  REQUIRE(chunk);
  CHECK(chunk->size == 1);
  CHECK(chunk->iteration == 1);
  CHECK(chunk->bytes == "ab");
  CHECK(chunk->bytes.data() == bytes.data() + 6);
}

TEST_CASE("fedbiomed wire: c.8 a log line") {
  const FeedbackMessage message{"7", "R", Log{"N", "INFO", "{}"}};
  CHECK(encode(message) == vector_of("FeedbackMessage"));
  const auto decoded = fedbiomed::decode_feedback(vector_of("FeedbackMessage"));
  REQUIRE(decoded);
  CHECK(decoded->protocol_version == "7");
  CHECK(decoded->researcher_id == "R");
  const auto* log = std::get_if<Log>(&decoded->feedback);
  REQUIRE(log != nullptr);
  CHECK(log->node_id == "N");
  CHECK(log->level == "INFO");
  CHECK(log->msg == "{}");
}

TEST_CASE("fedbiomed wire: c.2 a scalar comes back as it was, with all its fields and with none") {
  for (const auto& scalar : {full_scalar(), Scalar{}}) {
    const auto decoded = fedbiomed::decode_feedback(encode(FeedbackMessage{"7", {}, scalar}));
    REQUIRE(decoded);
    CHECK_FALSE(decoded->researcher_id.has_value());
    const auto* back = std::get_if<Scalar>(&decoded->feedback);
    REQUIRE(back != nullptr);
    check_same(*back, scalar);
  }
}

TEST_CASE("fedbiomed wire: c.2 the field numbers are those of the service") {
  // test_node.py holds this vector against protobuf itself.
  CHECK(encode(FeedbackMessage{"7", {}, full_scalar()}) == vector_of("Scalar"));
}

TEST_CASE("fedbiomed wire: what is absent has its default, and an empty feedback is none") {
  const auto request = fedbiomed::decode_task_request("");
  REQUIRE(request);
  CHECK(request->node.empty());
  const auto chunk = fedbiomed::decode_chunk("");
  REQUIRE(chunk);
  CHECK(chunk->size == 0);
  CHECK(chunk->iteration == 0);
  CHECK(chunk->bytes.empty());
  const auto feedback = fedbiomed::decode_feedback("");
  REQUIRE(feedback);
  CHECK(feedback->feedback.index() == 0);
  CHECK(encode(FeedbackMessage{}).empty());
}

TEST_CASE("fedbiomed wire: the head of a chunk is what comes before its bytes") {
  const std::string body(200, 'x');
  const Chunk extremes[] = {
      {INT32_MAX, INT32_MAX, body}, {-1, INT32_MIN, body}, {0, 0, body}, {1, 1, ""}};
  for (const auto& chunk : extremes) {
    const fedbiomed::ChunkHead head(chunk);
    const auto whole = std::string(head.bytes()).append(chunk.bytes);
    CHECK(whole == encode(chunk));
    const auto decoded = fedbiomed::decode_chunk(whole);
    REQUIRE(decoded);
    CHECK(decoded->size == chunk.size);
    CHECK(decoded->iteration == chunk.iteration);
    CHECK(decoded->bytes == chunk.bytes);
  }
}

TEST_CASE(
    "fedbiomed wire: the last of several values counts, and members of a oneof replace each "
    "other") {
  const auto request =
      fedbiomed::decode_task_request(encode(TaskRequest{"A", "5"}) + encode(TaskRequest{"B", "7"}));
  REQUIRE(request);
  CHECK(request->node == "B");
  CHECK(request->protocol_version == "7");
  const auto log = encode(FeedbackMessage{"7", {}, Log{"N", "INFO", ""}});
  const auto more = encode(FeedbackMessage{"", {}, Log{"", "", "{}"}});
  const auto scalar = encode(FeedbackMessage{"", {}, Scalar{.node_id = "M"}});
  const auto merged = fedbiomed::decode_feedback(log + more);
  REQUIRE(merged);
  CHECK(std::get<Log>(merged->feedback).level == "INFO");
  CHECK(std::get<Log>(merged->feedback).msg == "{}");
  const auto replaced = fedbiomed::decode_feedback(log + scalar + more);
  REQUIRE(replaced);
  CHECK(std::get<Log>(replaced->feedback).level.empty());
}

TEST_CASE("fedbiomed wire: unknown fields are skipped, whatever they are") {
  const char* unknown[] = {
      "7a026162",                            // 15: bytes
      "78ffffffffffffffffff01",              // 15: varint
      "7d01020304",                          // 15: fixed32
      "790102030405060708",                  // 15: fixed64
      "7b7c",                                // 15: an empty group
      "7b0801120161830183018401840178017c",  // a group with fields and groups in it
      "fa80808010026162",                    // 15, in a tag of more than 32 bits
      "0801",                                // 1, but a varint
      "9a0100",                              // 19: bytes
  };
  for (const auto* hex : unknown) {
    CAPTURE(hex);
    const auto request =
        fedbiomed::decode_task_request(from_hex(hex) + vector_of("TaskRequest") + from_hex(hex));
    REQUIRE(request);
    CHECK(request->node == "N");
  }
}

TEST_CASE("fedbiomed wire: bytes that are no protobuf message are refused") {
  const char* bad[] = {
      "0a",
      "0a02",
      "0a0261",
      "08",
      "08ff",
      "0d010203",
      "0901020304050607",
      "0a80",                      // a size that does not end
      "0affffffff0f61",            // a size beyond the end
      "8a8080808000026162",        // a tag of six bytes
      "0a81808080800061",          // a size of six bytes
      "0affffffffffffffffff0161",  // a size of 2^64 - 1
      "08ffffffffffffffffffff01",  // a varint of eleven bytes
      "00",
      "0001",
      "0201",  // the field number zero
      "0e",
      "0f",  // wire types that are none
      "0c",  // a group that ends without a beginning
      "0b",
      "0b14",
      "0b0b0c",
      "0b13140c0c",  // groups that do not end as they begin
  };
  for (const auto* hex : bad) {
    CAPTURE(hex);
    CHECK(error_of(fedbiomed::decode_task_request(from_hex(hex))) == errc::bad_protobuf);
    CHECK(error_of(fedbiomed::decode_chunk(from_hex(hex))) == errc::bad_protobuf);
    CHECK(error_of(fedbiomed::decode_feedback(from_hex(hex))) == errc::bad_protobuf);
    const auto bytes = from_hex(hex);
    const auto in_log = std::string("\x22") + static_cast<char>(bytes.size()) + bytes;
    CHECK(error_of(fedbiomed::decode_feedback(in_log)) == errc::bad_protobuf);
  }
  CHECK(error_of(fedbiomed::decode_chunk(std::string(1'000'000, '\x0b'))) == errc::bad_protobuf);
}

TEST_CASE("fedbiomed wire: a message that ends early is refused, or is one with fewer fields") {
  for (const auto* name : {"TaskRequest", "TaskResponse", "FeedbackMessage", "Scalar"}) {
    const auto bytes = vector_of(name);
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      CAPTURE(name);
      CAPTURE(size);
      const auto part = bytes.substr(0, size);
      const auto feedback = fedbiomed::decode_feedback(part);
      if (feedback) {
        CHECK(encode(*feedback).size() <= size);
      } else {
        CHECK(feedback.error() == errc::bad_protobuf);
      }
    }
  }
}

TEST_CASE("fedbiomed wire: strings that are not UTF-8 are refused") {
  for (const std::string bad :
       {"\xff", "a\x80", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80",
        "\xf0\x80\x80\x80", "\xc3", "\xe2\x82", "\xf0\x9f\x92", "\xf5\x80\x80\x80"}) {
    CAPTURE(support::to_hex(bad));
    CHECK(error_of(fedbiomed::decode_task_request(encode(TaskRequest{bad, "7"}))) ==
          errc::bad_utf8);
    CHECK(error_of(fedbiomed::decode_task_request(encode(TaskRequest{"N", bad}))) ==
          errc::bad_utf8);
    CHECK(error_of(fedbiomed::decode_feedback(encode(FeedbackMessage{"7", bad, {}}))) ==
          errc::bad_utf8);
    CHECK(error_of(fedbiomed::decode_feedback(
              encode(FeedbackMessage{"7", {}, Log{"N", bad, ""}}))) == errc::bad_utf8);
    CHECK(error_of(fedbiomed::decode_feedback(
              encode(FeedbackMessage{"7", {}, Scalar{.metric = {{bad, 1.F}}}}))) == errc::bad_utf8);
    CHECK(fedbiomed::decode_chunk(encode(Chunk{1, 1, bad})));  // bytes may be anything
  }
  for (const std::string good :
       {"", "a", "\x7f", "é", "€", "💉", "\xed\x9f\xbf", "\xee\x80\x80", "\xf4\x8f\xbf\xbf",
        "\xc2\x80", "\xe0\xa0\x80", "\xf0\x90\x80\x80"}) {
    CAPTURE(support::to_hex(good));
    CHECK(fedbiomed::decode_task_request(encode(TaskRequest{good, good})));
  }
}
