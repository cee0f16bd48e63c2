#include <doctest/doctest.h>
#include <string>
#include <utility>
#include <vector>

#include "fedagent/fedbiomed/message.hpp"
#include "fedagent/fedbiomed/msgpack_writer.hpp"
#include "fedagent/message.hpp"
#include "fedbiomed/support.hpp"

namespace fedbiomed = fedagent::fedbiomed;
using fedbiomed::errc;
using fedbiomed::Message;
using fedbiomed::MsgpackWriter;
using support::error_of;
using support::from_hex;
using support::vector_of;
using Traits = fedagent::message_traits<Message>;

static_assert(fedagent::Message<Message>);

namespace {

/// A message of these fields, each encoded already, after `protocol_version` and the class.
std::string bytes_of(std::vector<std::pair<std::string, std::string>> fields,
                     std::string_view message_class = "PingReply") {
  MsgpackWriter writer;
  writer.map(fields.size() + 2).string("protocol_version").string("7");
  for (const auto& [name, value] : fields) {
    writer.string(name).raw(value);
  }
  writer.string("__type_message__").map(2).string("module").string("m");
  writer.string("class").string(message_class);
  return writer.take();
}

std::string text(std::string_view value) { return MsgpackWriter().string(value).take(); }

const std::string nil = "\xc0";
const std::string yes = "\xc3";
const std::string no = "\xc2";

boost::system::error_code parse_error(std::string bytes) {
  return error_of(Message::parse(std::move(bytes)));
}

}  // namespace

TEST_CASE("fedbiomed message: c.8 the top level of a request, a reply and an overlay message") {
  const auto request = Message::parse(vector_of("PingRequest"));
  REQUIRE(request);
  CHECK(request->type() == "PingRequest");
  CHECK(request->request_id() == "q1");
  CHECK(request->researcher_id() == "R");
  CHECK(request->protocol_version() == "7");
  CHECK(request->source().empty());
  CHECK(request->destination().empty());
  CHECK_FALSE(request->is_error());
  CHECK(request->bytes() == vector_of("PingRequest"));
  CHECK(request->size() == vector_of("PingRequest").size());

  const auto reply = Message::parse(vector_of("PingReply"));
  REQUIRE(reply);
  CHECK(reply->type() == "PingReply");
  CHECK(reply->request_id() == "q1");
  CHECK(reply->source() == "N");
  CHECK(reply->destination().empty());

  const auto overlay = Message::parse(vector_of("OverlayMessage"));
  REQUIRE(overlay);
  CHECK(overlay->type() == "OverlayMessage");
  CHECK(overlay->request_id().empty());
  CHECK(overlay->source() == "A");
  CHECK(overlay->destination() == "B");
}

TEST_CASE("fedbiomed message: message_traits see the ids, the ends, the size and errors") {
  const auto overlay = *Message::parse(vector_of("OverlayMessage"));
  CHECK(Traits::request_id(overlay).empty());
  CHECK(Traits::source(overlay) == "A");
  CHECK(Traits::destination(overlay) == "B");
  CHECK(Traits::size(overlay) == vector_of("OverlayMessage").size());
  CHECK_FALSE(Traits::is_error(overlay));
  const auto reply = *Message::parse(vector_of("PingReply"));
  CHECK(Traits::request_id(reply) == "q1");
  CHECK(Traits::source(reply) == "N");
  CHECK(Traits::destination(reply).empty());
  CHECK(Traits::is_error(*Message::parse(bytes_of({{"success", no}}, "TrainReply"))));
}

TEST_CASE("fedbiomed message: H22 a request id that is nil, empty or not there is an empty one") {
  for (const auto& fields : std::vector<std::vector<std::pair<std::string, std::string>>>{
           {{"request_id", nil}}, {{"request_id", text("")}}, {}}) {
    const auto message = Message::parse(bytes_of(fields, "ErrorMessage"));
    REQUIRE(message);
    CHECK(message->request_id().empty());
    CHECK(message->is_error());
  }
}

TEST_CASE("fedbiomed message: an error is an ErrorMessage, or a reply without success") {
  CHECK_FALSE(Message::parse(bytes_of({}))->is_error());
  CHECK_FALSE(Message::parse(bytes_of({{"success", yes}}))->is_error());
  CHECK(Message::parse(bytes_of({{"success", no}}))->is_error());
  CHECK(Message::parse(bytes_of({{"success", yes}}, "ErrorMessage"))->is_error());
  // Whatever else `success` may be is for `decode` to refuse.
  CHECK_FALSE(Message::parse(bytes_of({{"success", nil}}))->is_error());
  CHECK_FALSE(Message::parse(bytes_of({{"success", from_hex("91c2")}}))->is_error());
}

TEST_CASE("fedbiomed message: only an overlay message has a destination, and it must have one") {
  const std::vector<std::pair<std::string, std::string>> to_b{{"node_id", text("A")},
                                                              {"dest_node_id", text("B")}};
  CHECK(Message::parse(bytes_of(to_b, "OverlayMessage"))->destination() == "B");
  CHECK(Message::parse(bytes_of(to_b, "TrainReply"))->destination().empty());
  CHECK(parse_error(bytes_of({{"node_id", text("A")}}, "OverlayMessage")) == errc::missing_field);
  CHECK(parse_error(bytes_of({{"node_id", text("A")}, {"dest_node_id", text("")}},
                             "OverlayMessage")) == errc::missing_field);
}

TEST_CASE("fedbiomed message: the order of the fields does not matter") {
  MsgpackWriter writer;
  writer.map(4).string("__type_message__").map(2).string("class").string("PingReply");
  writer.string("module").nil().string("request_id").string("q");
  writer.string("databases").array(2).map(1).string("request_id").string("inner").integer(7);
  writer.string("protocol_version").string("5");
  const auto message = Message::parse(writer.take());
  REQUIRE(message);
  CHECK(message->type() == "PingReply");
  CHECK(message->request_id() == "q");
  CHECK(message->protocol_version() == "5");
}

TEST_CASE("fedbiomed message: it can be moved and copied") {
  auto parsed = Message::parse(vector_of("PingReply"));
  REQUIRE(parsed);
  auto copy = *parsed;
  const auto moved = *std::move(parsed);
  CHECK(moved.source() == "N");
  CHECK(copy.source() == "N");
  CHECK(copy.source().data() != moved.source().data());
  copy = *Message::parse(vector_of("OverlayMessage"));
  CHECK(copy.source() == "A");
}

TEST_CASE("fedbiomed message: each fault has an error of its own") {
  CHECK(parse_error("") == errc::truncated);
  CHECK(parse_error("\xc1") == errc::bad_msgpack);
  CHECK(parse_error("\xc0") == errc::not_a_map);
  CHECK(parse_error("\x90") == errc::not_a_map);
  CHECK(parse_error("\x80") == errc::missing_field);
  CHECK(parse_error(from_hex("81c0c0")) == errc::bad_key);
  CHECK(parse_error(from_hex("8191a0c0")) == errc::bad_key);
  CHECK(parse_error(vector_of("PingReply") + "\xc0") == errc::trailing_bytes);
  CHECK(parse_error(bytes_of({{"x", nil}, {"y", nil}, {"x", nil}})) == errc::duplicate_field);
  CHECK(parse_error(bytes_of({{"request_id", nil}, {"request_id", nil}})) == errc::duplicate_field);
  CHECK(parse_error(bytes_of({{"protocol_version", text("7")}})) == errc::duplicate_field);
  CHECK(parse_error(bytes_of({{"x", "\xc1"}})) == errc::bad_msgpack);
  for (const auto* name : {"request_id", "node_id", "researcher_id", "dest_node_id"}) {
    CAPTURE(name);
    CHECK(parse_error(bytes_of({{name, "\x01"}})) == errc::bad_field);
    CHECK(parse_error(bytes_of({{name, from_hex("c40161")}})) == errc::bad_field);
    CHECK(parse_error(bytes_of({{name, from_hex("a1ff")}})) == errc::bad_utf8);
  }
  for (const auto* name : {"node_id", "researcher_id", "dest_node_id"}) {
    CHECK(parse_error(bytes_of({{name, nil}})) == errc::bad_field);
  }
}

TEST_CASE("fedbiomed message: c.5 version and class must be there, and be strings") {
  const auto message = [](const std::string& version, const std::string& type) {
    return parse_error("\x82" + text("protocol_version") + version + text("__type_message__") +
                       type);
  };
  const auto good = "\x81" + text("class") + text("PingReply");
  CHECK_FALSE(message(text("7"), good));
  CHECK(message(text(""), good) == errc::missing_field);
  CHECK(message(nil, good) == errc::bad_field);
  CHECK(message("\x07", good) == errc::bad_field);
  CHECK(message(text("7"), nil) == errc::bad_field);
  CHECK(message(text("7"), text("PingReply")) == errc::bad_field);
  CHECK(message(text("7"), "\x80") == errc::missing_field);
  CHECK(message(text("7"), "\x81" + text("class") + text("")) == errc::missing_field);
  CHECK(message(text("7"), "\x81" + text("class") + nil) == errc::bad_field);
  CHECK(message(text("7"), "\x81" + text("class") + from_hex("a1ff")) == errc::bad_utf8);
  CHECK(message(text("7"), "\x81" + nil + nil) == errc::bad_key);
  CHECK(message(text("7"), "\x82" + text("class") + text("A") + text("class") + text("B")) ==
        errc::duplicate_field);
  CHECK(parse_error("\x81" + text("__type_message__") + good) == errc::missing_field);
  CHECK(parse_error("\x81" + text("protocol_version") + text("7")) == errc::missing_field);
}

TEST_CASE("fedbiomed message: as many fields as max_fields, and no more") {
  std::vector<std::pair<std::string, std::string>> fields;
  while (fields.size() < fedbiomed::max_fields - 2) {
    fields.emplace_back("field" + std::to_string(fields.size()), nil);
  }
  CHECK_FALSE(parse_error(bytes_of(fields)));
  fields.emplace_back("one more", nil);
  CHECK(parse_error(bytes_of(fields)) == errc::too_many_fields);
}

TEST_CASE("fedbiomed message: it is refused when it ends early, at every byte") {
  for (const auto* name : {"PingRequest", "PingReply", "OverlayMessage"}) {
    const auto bytes = vector_of(name);
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      CAPTURE(size);
      CHECK(parse_error(bytes.substr(0, size)) == errc::truncated);
    }
  }
}

TEST_CASE("fedbiomed message: what it does not know may be nested a million deep") {
  const std::string deep = std::string(1'000'000, '\x91') + "\xc0";
  const auto message = Message::parse(bytes_of({{"params", deep}, {"request_id", text("q")}}));
  REQUIRE(message);
  CHECK(message->request_id() == "q");
  CHECK(parse_error(bytes_of({{"success", deep}})) == boost::system::error_code());
  CHECK(parse_error(bytes_of({{"node_id", deep}})) == errc::bad_field);
  CHECK(parse_error(std::string(1'000'000, '\x81')) == errc::bad_key);
}
