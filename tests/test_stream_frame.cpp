#include <doctest/doctest.h>
#include <boost/system/error_code.hpp>
#include <set>
#include <string>
#include <vector>

#include "fedagent/transport/stream/frame.hpp"
#include "fedagent/transport/stream/payload.hpp"
#include "support/printing.hpp"

namespace stream = fedagent::stream;
using stream::errc;
using stream::FrameHeader;
using stream::FrameType;

namespace {

constexpr std::uint32_t max_frame = 1U << 20U;

boost::system::result<FrameHeader> decoded(std::vector<int> values) {
  std::array<unsigned char, FrameHeader::encoded_size> bytes{};
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<unsigned char>(values[i]);
  }
  return stream::decode_frame_header(bytes, max_frame);
}

std::string text_of(stream::Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace

TEST_CASE("stream frame: a header is length, type, flags and two zero bytes, big-endian") {
  const stream::EncodedHead head(FrameHeader{0x00010203, FrameType::task, true});
  CHECK(text_of(head.bytes()) == std::string("\x00\x01\x02\x03\x04\x01\x00\x00", 8));
  const auto header = decoded({0, 1, 2, 3, 4, 1, 0, 0});
  REQUIRE(header);
  CHECK(header->length == 0x00010203);
  CHECK(header->type == FrameType::task);
  CHECK(header->last);
}

TEST_CASE("stream frame: each wrong header has an error of its own") {
  const auto fault = [](std::vector<int> bytes) {
    const auto header = decoded(std::move(bytes));
    return header ? boost::system::error_code() : header.error();
  };
  CHECK(fault({0, 0, 0, 0, 0, 0, 0, 0}) == errc::unknown_frame_type);
  CHECK(fault({0, 0, 0, 0, 14, 0, 0, 0}) == errc::unknown_frame_type);
  CHECK(fault({'G', 'E', 'T', ' ', '/', ' ', 'H', 'T'}) == errc::unknown_frame_type);
  CHECK(fault({0, 0, 0, 0, 3, 2, 0, 0}) == errc::reserved_bits_set);
  CHECK(fault({0, 0, 0, 0, 3, 0, 1, 0}) == errc::reserved_bits_set);
  CHECK(fault({0, 0, 0, 0, 3, 0, 0, 1}) == errc::reserved_bits_set);
  CHECK(fault({0, 0, 0, 0, 3, 1, 0, 0}) == errc::reserved_bits_set);  // a poll is no chunk
  CHECK(fault({0, 16, 0, 1, 4, 0, 0, 0}) == errc::frame_too_large);
  CHECK(fault({0, 0, 0, 1, 3, 0, 0, 0}) == errc::bad_frame_length);
  CHECK(fault({0, 0, 0, 3, 4, 0, 0, 0}) == errc::bad_frame_length);
  CHECK(fault({0, 0, 8, 1, 1, 0, 0, 0}) == errc::bad_frame_length);
  CHECK(fault({0, 16, 0, 0, 4, 0, 0, 0}) == boost::system::error_code());
  CHECK(fault({0, 0, 8, 0, 1, 0, 0, 0}) == boost::system::error_code());
}

TEST_CASE("stream frame: the first chunk has the ids' lengths, the others the index alone") {
  const stream::ChunkHead first{
      .index = 0, .total = 0x0102030405060708, .request_id = 1, .destination = 2, .source = 3};
  const stream::EncodedHead head(FrameHeader{18, FrameType::reply, false}, first);
  REQUIRE(head.bytes().size() == 26);
  const auto read = stream::decode_chunk_head(head.bytes().subspan(8));
  CHECK(read.index == 0);
  CHECK(read.total == first.total);
  CHECK(read.request_id == 1);
  CHECK(read.destination == 2);
  CHECK(read.source == 3);
  const stream::EncodedHead further(FrameHeader{4, FrameType::reply, false}, {.index = 7});
  CHECK(text_of(further.bytes().subspan(8)) == std::string("\0\0\0\x07", 4));
}

TEST_CASE("stream payload: a hello comes back as it was sent") {
  stream::Hello hello;
  hello.instance = 0x1122334455667788;
  hello.attempt = 5;
  hello.limits = {.max_frame = 8192, .max_message = 123456789012};
  hello.node_id = "hospital";
  const auto text = stream::encode(hello);
  CHECK(text.substr(0, 6) == std::string("FEDA\0\x01", 6));
  const auto read = stream::decode_hello(text);
  REQUIRE(read);
  CHECK(read->instance == hello.instance);
  CHECK(read->attempt == 5);
  CHECK(read->limits.max_frame == 8192);
  CHECK(read->limits.max_message == 123456789012);
  CHECK(read->node_id == "hospital");
}

TEST_CASE("stream payload: a hello that is foreign, of another version or cut is told apart (E2)") {
  stream::Hello hello;
  hello.node_id = "n";
  const auto good = stream::encode(hello);
  auto foreign = good;
  foreign[0] = 'X';
  CHECK(stream::decode_hello(foreign).error() == errc::not_fedagent);
  auto newer = good;
  newer[5] = 2;
  CHECK(stream::decode_hello(newer).error() == errc::unsupported_version);
  newer.resize(6);  // whatever another version puts after its number
  CHECK(stream::decode_hello(newer).error() == errc::unsupported_version);
  for (std::size_t size = 6; size < 30; ++size) {
    CHECK(stream::decode_hello(good.substr(0, size)).error() == errc::malformed_payload);
  }
  hello.node_id.assign(stream::max_id_length + 1, 'n');
  CHECK(stream::decode_hello(stream::encode(hello)).error() == errc::id_too_long);
  hello.node_id = "n";
  hello.limits.max_frame = 100;
  CHECK(stream::decode_hello(stream::encode(hello)).error() == errc::malformed_payload);
}

TEST_CASE("stream payload: a welcome comes back as it was sent, and a wrong one does not") {
  const stream::Welcome welcome{.limits = {.max_frame = 4096, .max_message = 7},
                                .ping_interval_ms = 250};
  const auto text = stream::encode(welcome);
  const auto read = stream::decode_welcome(text);
  REQUIRE(read);
  CHECK(read->limits.max_frame == 4096);
  CHECK(read->limits.max_message == 7);
  CHECK(read->ping_interval_ms == 250);
  CHECK(stream::decode_welcome(text + "x").error() == errc::malformed_payload);
  CHECK(stream::decode_welcome(text.substr(0, 10)).error() == errc::malformed_payload);
  CHECK(stream::decode_welcome(stream::encode(stream::Welcome{})).error() ==
        errc::malformed_payload);
}

TEST_CASE(
    "stream payload: errors cross the wire by category and number, foreign ones as internal "
    "(E17)") {
  const auto crossed = [](boost::system::error_code error) {
    return stream::decode_error(stream::encode_error(error));
  };
  CHECK(crossed(errc::foreign_source) == errc::foreign_source);
  CHECK(crossed(make_error_code(fedagent::errc::superseded)) == fedagent::errc::superseded);
  CHECK(crossed(make_error_code(boost::system::errc::permission_denied)) == errc::internal);
  CHECK(stream::encode_error(make_error_code(boost::system::errc::permission_denied))
            .find("ermission") == std::string::npos);
  CHECK(stream::decode_error("") == errc::malformed_payload);
  CHECK(stream::decode_error(std::string("\x02\0\0", 3)) == errc::malformed_payload);
  CHECK(stream::decode_error("\x02\x7f\x7f and more") == errc::unknown_reason);
  CHECK(stream::decode_error(std::string("\x09\0\x01", 3)) == errc::unknown_reason);
}

TEST_CASE("stream payload: a reply result is a disposition or an error, nothing else") {
  using fedagent::ReplyDisposition;
  const auto crossed = [](const stream::ReplyResult& result) {
    stream::ReplyResult read = ReplyDisposition::unexpected;
    REQUIRE_FALSE(stream::decode_reply_result(stream::encode(result), read));
    return read;
  };
  CHECK(*crossed(ReplyDisposition::delivered) == ReplyDisposition::delivered);
  CHECK(*crossed(ReplyDisposition::uncorrelated) == ReplyDisposition::uncorrelated);
  CHECK(crossed(make_error_code(fedagent::errc::no_route)).error() == fedagent::errc::no_route);
  stream::ReplyResult read = ReplyDisposition::unexpected;
  CHECK(stream::decode_reply_result("", read) == errc::malformed_payload);
  CHECK(stream::decode_reply_result("\x07", read) == errc::malformed_payload);
  CHECK(stream::decode_reply_result(std::string("\0\0", 2), read) == errc::malformed_payload);
}

TEST_CASE("stream payload: a receipt has the id of its message, and nothing or an error") {
  const auto crossed = [](const stream::RelayReceipt& receipt) {
    const auto read = stream::decode_receipt(stream::encode(receipt));
    REQUIRE(read);
    CHECK(read->request_id == receipt.request_id);
    return read->result;
  };
  CHECK(crossed({"an id", {}}));
  for (const auto error : {fedagent::errc::expired, fedagent::errc::quota_exceeded}) {
    CHECK(crossed({"an id", make_error_code(error)}).error() == error);
  }
  const auto fault = [](std::string payload) { return stream::decode_receipt(payload).error(); };
  CHECK(fault("") == errc::malformed_payload);
  CHECK(fault(std::string("\0\2id", 4)) == errc::malformed_payload);
  CHECK(fault(std::string("\0\2id\1", 5)) == errc::malformed_payload);
  CHECK(fault(std::string("\0\2id\0\0", 6)) == errc::malformed_payload);
  CHECK(fault(std::string("\0\11id\0", 5)) == errc::malformed_payload);
}

TEST_CASE("stream payload: feedback keeps topic and body apart") {
  const auto read = stream::decode_feedback(stream::encode(stream::Feedback{"log", "a\0b"}));
  REQUIRE(read);
  CHECK(read->topic == "log");
  CHECK(read->body == "a");
  CHECK(stream::decode_feedback(std::string("\0\x09x", 3)).error() == errc::malformed_payload);
}

TEST_CASE("stream error: every error has a sentence of its own, and they start at one") {
  std::set<std::string> sentences;
  for (int value = 1; value <= stream::detail::last_errc; ++value) {
    sentences.insert(stream::error_category().message(value));
  }
  CHECK(sentences.size() == static_cast<std::size_t>(stream::detail::last_errc));
  CHECK(stream::error_category().name() == std::string("fedagent.stream"));
  CHECK(boost::system::error_code(errc::truncated).message() ==
        "the connection ended in the middle of a frame or a message");
  CHECK(stream::error_category().message(0) == "unknown fedagent.stream error");
}
