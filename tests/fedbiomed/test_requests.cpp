#include <doctest/doctest.h>
#include <string>
#include <vector>

#include "fedagent/fedbiomed/extra_types.hpp"
#include "fedagent/fedbiomed/requests.hpp"
#include "fedbiomed/support.hpp"

namespace fedbiomed = fedagent::fedbiomed;
using fedbiomed::encode;
using fedbiomed::Head;
using fedbiomed::Json;
using fedbiomed::Version;
using support::vector_of;

namespace {

const Head head{"R", "q1", Version::v7};

/// The names of a message's fields, in their order.
std::vector<std::string> names_in(const fedbiomed::Message& message) {
  std::vector<std::string> names;
  fedbiomed::MsgpackReader reader(message.bytes());
  for (auto left = reader.next()->children / 2; left > 0; --left) {
    names.emplace_back(reader.next()->bytes);
    REQUIRE(reader.skip());
  }
  return names;
}

}  // namespace

TEST_CASE("fedbiomed requests: c.8 a ping") {
  CHECK(encode(head, fedbiomed::PingRequest{})->bytes() == vector_of("PingRequest"));
}

TEST_CASE("fedbiomed requests: c.7 a training request has its fields, in the order of the class") {
  fedbiomed::TrainRequest request;
  request.experiment_id = "E";
  request.params = {{"w", to_json(fedbiomed::Tensor{.dtype = "float32", .shape = {0}})}};
  request.round = 3;
  const auto message = encode(head, request);
  REQUIRE(message);
  CHECK(names_in(*message) ==
        std::vector<std::string>{"protocol_version", "request_id", "researcher_id", "experiment_id",
                                 "state_id", "training_args", "dataset_id", "training",
                                 "model_args", "params", "training_plan", "training_plan_class",
                                 "round", "aggregator_args", "secagg_arguments", "optim_aux_var",
                                 "__type_message__"});
  const auto map = Json::from_msgpack(message->bytes());
  CHECK(map["round"] == 3);
  CHECK(map["training"] == true);
  CHECK(map["state_id"].is_null());
  CHECK(map["optim_aux_var"].is_null());
  CHECK(map["params"] == request.params);
  CHECK(map["training_args"] == Json::object());
  CHECK(map["__type_message__"] ==
        Json{{"module", "fedbiomed.common.message"}, {"class", "TrainRequest"}});
}

TEST_CASE("fedbiomed requests: c.5 strings are MessagePack strings and bytes are binaries") {
  const auto map = Json::from_msgpack(encode(head, fedbiomed::SearchRequest{{"#a", "é"}})->bytes());
  CHECK(map["tags"] == Json{"#a", "é"});
  fedbiomed::TrainRequest request;
  request.params = {{"w", Json::binary({1, 2})}};
  const auto params = Json::from_msgpack(encode(head, request)->bytes())["params"];
  CHECK(params["w"].is_binary());
}

TEST_CASE("fedbiomed requests: a message of 9 MB goes through") {
  fedbiomed::TrainRequest request;
  request.params = {{"w", Json::binary(fedbiomed::Bytes(9'000'000, 7))}};
  const auto message = encode(head, request);
  REQUIRE(message);
  CHECK(message->size() > 9'000'000);
  CHECK(fedbiomed::decode<fedbiomed::TrainRequest>(*message)->params == request.params);
}
