#include <doctest/doctest.h>
#include <set>
#include <string>
#include <type_traits>
#include <variant>

#include "fedagent/fedbiomed/replies.hpp"
#include "fedbiomed/examples.hpp"
#include "fedbiomed/support.hpp"

namespace fedbiomed = fedagent::fedbiomed;
using fedbiomed::decode_reply;
using fedbiomed::encode;
using fedbiomed::errc;
using fedbiomed::Head;
using fedbiomed::Json;
using fedbiomed::Message;
using fedbiomed::Version;
using support::error_of;
using support::vector_of;

namespace {

const Head head{"R", "q1", Version::v7};

}  // namespace

TEST_CASE("fedbiomed replies: c.8 the reply to a ping") {
  const auto message = Message::parse(vector_of("PingReply"));
  const auto reply = fedbiomed::decode<fedbiomed::PingReply>(*message);
  REQUIRE(reply);
  CHECK(reply->node_id == "N");
  CHECK(reply->node_name == "nn");
  CHECK(encode(head, *reply)->bytes() == vector_of("PingReply"));
}

TEST_CASE("fedbiomed replies: c.8 an overlay message") {
  const auto message = Message::parse(vector_of("OverlayMessage"));
  const auto overlay = fedbiomed::decode<fedbiomed::OverlayMessage>(*message);
  REQUIRE(overlay);
  CHECK(overlay->node_id == "A");
  CHECK(overlay->dest_node_id == "B");
  CHECK(overlay->overlay == fedbiomed::Bytes{1, 2});
  CHECK_FALSE(overlay->setup);
  CHECK(overlay->salt == fedbiomed::Bytes{'s'});
  CHECK(overlay->nonce == fedbiomed::Bytes{'n'});
  CHECK(encode(head, *overlay)->bytes() == vector_of("OverlayMessage"));
}

TEST_CASE("fedbiomed replies: a reply is read as the class that it names") {
  int replies = 0;
  examples::for_each([&]<class Class>(const Class& body) {
    CAPTURE(Class::message_class);
    const auto reply = decode_reply(*encode(head, body));
    if constexpr (std::is_constructible_v<fedbiomed::Reply, Class>) {
      REQUIRE(reply);
      CHECK(std::holds_alternative<Class>(*reply));
      ++replies;
    } else {
      CHECK(error_of(reply) == errc::unknown_class);  // a request, or an overlay message
    }
  });
  CHECK(replies == 24);
}

TEST_CASE("fedbiomed replies: a fault in a reply is told, with the field") {
  auto map = Json::from_msgpack(vector_of("PingReply"));
  map["node_name"] = 1;
  std::string bytes;
  Json::to_msgpack(map, bytes);
  const auto message = Message::parse(bytes);
  std::string_view fault;
  CHECK(error_of(decode_reply(*message, &fault)) == errc::bad_field);
  CHECK(fault == "node_name");
}

TEST_CASE("fedbiomed replies: a class that is not known is told to be so") {
  auto map = Json::from_msgpack(vector_of("PingReply"));
  map["__type_message__"]["class"] = "Wish";
  std::string bytes;
  Json::to_msgpack(map, bytes);
  CHECK(error_of(decode_reply(*Message::parse(bytes))) == errc::unknown_class);
}

TEST_CASE("fedbiomed replies: the parameters of a training come back with their types") {
  fedbiomed::TrainReply body;
  body.params = {{"w", examples::tensor()}};
  body.sample_size = 100;
  const auto reply = fedbiomed::decode<fedbiomed::TrainReply>(*encode(head, body));
  REQUIRE(reply);
  CHECK(reply->sample_size == 100);
  const auto tensor = fedbiomed::tensor_from_json(reply->params["w"]);
  REQUIRE(tensor);
  CHECK(tensor->dtype == "float32");
  CHECK(tensor->data == fedbiomed::Bytes(4, 7));
}

TEST_CASE("fedbiomed error: every error has a text of its own, in its own category") {
  std::set<std::string> texts;
  for (int value = 1; value <= fedbiomed::detail::last_errc; ++value) {
    const auto error = make_error_code(static_cast<errc>(value));
    texts.insert(error.message());
    CHECK(error.message() != "unknown fedagent.fedbiomed error");
    CHECK(std::string(error.category().name()) == "fedagent.fedbiomed");
  }
  CHECK(static_cast<int>(texts.size()) == fedbiomed::detail::last_errc);
  CHECK(fedbiomed::error_category().message(0) == "unknown fedagent.fedbiomed error");
}
