#include <doctest/doctest.h>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "fedagent/fedbiomed/codec.hpp"
#include "fedbiomed/examples.hpp"
#include "fedbiomed/support.hpp"

namespace fedbiomed = fedagent::fedbiomed;
using fedbiomed::decode;
using fedbiomed::encode;
using fedbiomed::errc;
using fedbiomed::Head;
using fedbiomed::Json;
using fedbiomed::Message;
using fedbiomed::Version;
using support::error_of;

namespace {

const Head head5{"R", "q1", Version::v5};
const Head head7{"R", "q1", Version::v7};

/// The message as nlohmann's codec sees it.
Json map_of(const Message& message) { return Json::from_msgpack(message.bytes()); }

/// A message of these bytes, which is well-formed as far as `parse` looks.
Message message_of(const Json& map) {
  std::string bytes;
  Json::to_msgpack(map, bytes);
  auto message = Message::parse(std::move(bytes));
  REQUIRE(message);
  return *std::move(message);
}

/// The fields of a class as a text, to compare two bodies by.
template <class Class>
std::string text_of(const Class& body) {
  const auto message = encode(head7, body);
  REQUIRE(message);
  return map_of(*message).dump();
}

/// What decoding says to a message, and which field it names.
template <class Class>
std::string verdict(const Json& map) {
  std::string_view fault;
  const auto message = message_of(map);
  const auto body = decode<Class>(message, &fault);
  return body ? "well" : body.error().message() + ": " + std::string(fault);
}

std::string said(errc error, const std::string& field) {
  return make_error_code(error).message() + ": " + field;
}

/// A reply with one data set. (Braces around one Json are not the same to all compilers.)
fedbiomed::ListReply list_of(Json database) {
  fedbiomed::ListReply reply;
  reply.databases.push_back(std::move(database));
  return reply;
}

/// A value of each type that MessagePack has.
const std::vector<Json> values_of_all_types{
    nullptr, true, 7, 1.5, "text", Json::binary({1}), Json::array(), Json::object()};

}  // namespace

TEST_CASE("fedbiomed codec: c.7 every class comes back as it was, in both versions") {
  std::set<std::string> classes;
  for (const auto& head : {head5, head7}) {
    examples::for_each([&]<class Class>(const Class& body) {
      CAPTURE(Class::message_class);
      const auto message = encode(head, body);
      if (!message) {
        const bool only_7 = fedbiomed::detail::first_version<Class>() == Version::v7;
        const bool msg_5 = std::is_same_v<Class, fedbiomed::SecaggReply>;  // no nil there
        CHECK(head.version == Version::v5);
        CHECK((only_7 || msg_5));
        CHECK(message.error() == (only_7 ? errc::not_in_version : errc::bad_field));
        return;
      }
      classes.emplace(Class::message_class);
      CHECK(message->type() == Class::message_class);
      CHECK(message->researcher_id() == "R");
      CHECK(message->protocol_version() == to_string(head.version));
      const bool overlay = Class::message_class == "OverlayMessage";
      CHECK(message->request_id() == (overlay ? "" : "q1"));
      CHECK(map_of(*message).contains("node_name") ==
            (head.version == Version::v7 && requires { body.node_name; }));
      const auto back = decode<Class>(*message);
      REQUIRE(back);
      auto expected = body;
      if constexpr (requires { expected.node_name; }) {
        if (head.version == Version::v5) {
          expected.node_name = "";
        }
      }
      CHECK(text_of(*back) == text_of(expected));
      CHECK(encode(head, *back)->bytes() == message->bytes());
    });
  }
  CHECK(classes.size() == 24);
}

TEST_CASE(
    "fedbiomed codec: c.5 a field that is missing, extra or of another type is refused, by name") {
  examples::for_each([&]<class Class>(const Class& body) {
    const auto map = map_of(*encode(head7, body));
    auto extra = map;
    extra["trace_id"] = "t";
    CHECK(verdict<Class>(extra) == said(errc::extra_field, "trace_id"));
    for (const auto& [name, value] : map.items()) {
      if (name == "__type_message__" || name == "protocol_version") {
        continue;  // without these it is no message at all
      }
      CAPTURE(Class::message_class);
      CAPTURE(name);
      auto without = map;
      without.erase(name);
      const auto is = [&](errc error) { return said(error, name); };
      if (name != "dest_node_id" && !value.is_null() && name != "request_id") {
        const auto told = verdict<Class>(without);
        // What is optional may be missing, but then two of an FAReply's fields can contradict.
        const bool fine = told == "well" || told == said(errc::inconsistent_fields, "");
        CHECK((fine || told == is(errc::missing_field)));
      }
      const bool seen_by_parse = name == "request_id" || name == "node_id" ||
                                 name == "dest_node_id" || name == "researcher_id";
      if (seen_by_parse) {
        continue;
      }
      int taken = 0;
      for (const auto& other : values_of_all_types) {
        auto changed = map;
        changed[name] = other;
        const auto told = verdict<Class>(changed);
        const bool fine = told == "well" || told == said(errc::inconsistent_fields, "");
        CHECK((fine || told == is(errc::bad_field)));
        taken += fine ? 1 : 0;
      }
      CHECK(taken >= 1);
      CHECK(taken <= 4);  // an optional int: nil, a bool, an int; or a nullable map or array
    }
  });
}

TEST_CASE("fedbiomed codec: c.5 researcher_id must be there") {
  auto map = map_of(*encode(head7, fedbiomed::PingRequest{}));
  map.erase("researcher_id");
  CHECK(verdict<fedbiomed::PingRequest>(map) == said(errc::missing_field, "researcher_id"));
}

TEST_CASE("fedbiomed codec: c.7 an overlay message has no request id, all others may have nil") {
  auto overlay = map_of(*encode(head7, fedbiomed::OverlayMessage{"A", "B", {}, {}, {}, {}}));
  CHECK_FALSE(overlay.contains("request_id"));
  overlay["request_id"] = "q";
  CHECK(verdict<fedbiomed::OverlayMessage>(overlay) == said(errc::extra_field, "request_id"));
  const auto ping = encode(Head{"R", "", Version::v7}, fedbiomed::PingRequest{});
  CHECK(map_of(*ping)["request_id"].is_null());
  auto map = map_of(*ping);
  map.erase("request_id");
  CHECK(verdict<fedbiomed::PingRequest>(map) == "well");
}

TEST_CASE("fedbiomed codec: c.7 what a version does not have is refused there, and left out") {
  auto reply = map_of(*encode(head5, fedbiomed::PingReply{"N", "name"}));
  CHECK_FALSE(reply.contains("node_name"));
  reply["node_name"] = "name";
  CHECK(verdict<fedbiomed::PingReply>(reply) == said(errc::extra_field, "node_name"));
  auto newer = map_of(*encode(head7, fedbiomed::PingReply{"N", "name"}));
  newer.erase("node_name");
  CHECK(verdict<fedbiomed::PingReply>(newer) == said(errc::missing_field, "node_name"));
  CHECK(error_of(encode(head5, fedbiomed::FARequest{})) == errc::not_in_version);
  auto fa = map_of(*encode(head7, fedbiomed::FARequest{}));
  fa["protocol_version"] = "5";
  CHECK(error_of(decode<fedbiomed::FARequest>(message_of(fa))) == errc::not_in_version);
}

TEST_CASE("fedbiomed codec: c.7 in version 5 the msg of a SecaggReply must be a string") {
  using fedbiomed::SecaggReply;
  CHECK(error_of(encode(head5, SecaggReply{})) == errc::bad_field);
  auto map = map_of(*encode(head5, SecaggReply{.msg = "m"}));
  CHECK(verdict<SecaggReply>(map) == "well");
  map["msg"] = nullptr;
  CHECK(verdict<SecaggReply>(map) == said(errc::bad_field, "msg"));
  map.erase("msg");
  CHECK(verdict<SecaggReply>(map) == said(errc::missing_field, "msg"));
  map = map_of(*encode(head7, SecaggReply{}));
  CHECK(map["msg"].is_null());
  CHECK(verdict<SecaggReply>(map) == "well");
  map.erase("msg");
  CHECK(verdict<SecaggReply>(map) == "well");
}

TEST_CASE("fedbiomed codec: c.5 another version, and another class, is refused") {
  auto map = map_of(*encode(head7, fedbiomed::PingReply{}));
  CHECK(error_of(decode<fedbiomed::PingRequest>(message_of(map))) == errc::unexpected_class);
  for (const auto* version : {"6", "8", "7.0", "07", " 7", "x"}) {
    CAPTURE(version);
    map["protocol_version"] = version;
    CHECK(error_of(decode<fedbiomed::PingReply>(message_of(map))) == errc::version_mismatch);
  }
  CHECK(*fedbiomed::parse_version("5") == Version::v5);
  CHECK(*fedbiomed::parse_version("7") == Version::v7);
  CHECK(error_of(fedbiomed::parse_version("")) == errc::version_mismatch);
}

TEST_CASE("fedbiomed codec: c.5 to Python a bool is an int, a float is none") {
  auto map = map_of(*encode(head7, fedbiomed::SearchReply{}));
  map["count"] = true;
  CHECK(decode<fedbiomed::SearchReply>(message_of(map))->count == 1);
  map["count"] = -5;
  CHECK(decode<fedbiomed::SearchReply>(message_of(map))->count == -5);
  for (const Json& other : {Json(1.0), Json(UINT64_MAX), Json("1")}) {
    map["count"] = other;
    CHECK(verdict<fedbiomed::SearchReply>(map) == said(errc::bad_field, "count"));
  }
}

TEST_CASE("fedbiomed codec: strings that are not UTF-8 are refused, also deep inside") {
  const std::string bad = "\xff";
  CHECK(error_of(encode(head7, fedbiomed::SearchRequest{{bad}})) == errc::bad_utf8);
  CHECK(error_of(encode(Head{bad, "q", Version::v7}, fedbiomed::PingRequest{})) == errc::bad_utf8);
  CHECK(error_of(encode(head7, fedbiomed::ApprovalRequest{"", bad})) == errc::bad_utf8);
  CHECK(error_of(encode(head7, list_of({{"a", bad}}))) == errc::bad_utf8);
  // Put in behind the back of `encode`.
  auto bytes = encode(head7, list_of({{"a", "???"}}))->bytes();
  bytes[bytes.find("???")] = '\xff';
  const auto message = Message::parse(bytes);
  REQUIRE(message);
  CHECK(error_of(decode<fedbiomed::ListReply>(*message)) == errc::bad_utf8);
}

TEST_CASE("fedbiomed codec: c.7 the encrypted fields of an FAReply go together") {
  using fedbiomed::FAReply;
  const auto verdict_of = [](FAReply reply) { return error_of(encode(head7, reply)); };
  FAReply reply;
  CHECK_FALSE(verdict_of(reply));
  reply.output = Json::object();
  CHECK_FALSE(verdict_of(reply));
  reply.params_encrypted = Json::array();
  CHECK(verdict_of(reply) == errc::inconsistent_fields);
  reply.output_schema = Json::array();
  CHECK(verdict_of(reply) == errc::inconsistent_fields);
  reply.encrypted = true;
  CHECK(verdict_of(reply) == errc::inconsistent_fields);
  reply.output = nullptr;
  CHECK_FALSE(verdict_of(reply));
  auto map = map_of(*encode(head7, reply));
  map["encrypted"] = false;
  CHECK(verdict<FAReply>(map) == said(errc::inconsistent_fields, ""));
}

TEST_CASE("fedbiomed codec: what is not of a field's type is not encoded") {
  fedbiomed::TrainRequest request;
  request.params = Json::array();
  CHECK(error_of(encode(head7, request)) == errc::bad_field);
  request.params = nullptr;
  CHECK(error_of(encode(head7, request)) == errc::bad_field);
  request.params = Json::object();
  request.optim_aux_var = Json("x");
  CHECK(error_of(encode(head7, request)) == errc::bad_field);
}

TEST_CASE("fedbiomed codec: a payload nested a million deep is refused, and not followed") {
  auto map = map_of(*encode(head7, fedbiomed::ListReply{}));
  std::string bytes = encode(head7, list_of("here"))->bytes();
  const auto at = bytes.find("\xa4here");
  REQUIRE(at != std::string::npos);
  bytes.replace(at, 5, std::string(1'000'000, '\x91') + "\xc0");
  const auto message = Message::parse(std::move(bytes));
  REQUIRE(message);
  CHECK(error_of(decode<fedbiomed::ListReply>(*message)) == errc::too_deep);
}
