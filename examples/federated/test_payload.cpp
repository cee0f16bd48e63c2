#include "payload.hpp"

#include <doctest/doctest.h>

#include <limits>
#include <random>
#include <string>
#include <vector>

#include "test_support.hpp"

namespace {

using namespace federated;
using federated::testing::complaint_of;

std::string complaint_about(std::string_view bytes) {
  return complaint_of<PayloadError>([bytes] { decode(bytes); });
}

std::string complaint_about(Content content) {
  return complaint_about(encode({1, std::move(content)}));
}

const Scaling scaling{{1.5, -2.0}, {0.5, 4.0}};
const Model model{0.25, -0.125, 3.0};
constexpr double infinite = std::numeric_limits<double>::infinity();

std::vector<Payload> one_of_each() {
  return {{1, StatisticsTask{}},
          {2, StatisticsReply{{17, {1.0, 2.0}, {0.0, 9.0}}}},
          {0xFFFFFFFF, TrainTask{{3, 0.1, 0.001}, scaling, model}},
          {4, TrainReply{{model, 12345678901}}},
          {5, FinalTask{scaling, model}},
          {6, FinalReply{0.75}},
          {7, Refusal{"no rows today"}}};
}

}  // namespace

TEST_CASE("payload: every kind comes back as it was sent") {
  for (const auto& payload : one_of_each()) {
    const auto back = decode(encode(payload));
    CHECK(back.round == payload.round);
    CHECK(back.content.index() == payload.content.index());
    CHECK(encode(back) == encode(payload));
  }
  const auto task = std::get<TrainTask>(decode(encode(one_of_each()[2])).content);
  CHECK(task.options.epochs == 3);
  CHECK(task.options.learning_rate == 0.1);
  CHECK(task.options.l2 == 0.001);
  CHECK(task.scaling.mean == scaling.mean);
  CHECK(task.scaling.deviation == scaling.deviation);
  CHECK(task.model == model);
  CHECK(std::get<Refusal>(decode(encode(one_of_each()[6])).content).reason == "no rows today");
  CHECK(std::get<TrainReply>(decode(encode(one_of_each()[3])).content).update.rows == 12345678901);
}

TEST_CASE("payload: the bytes are the same on every machine") {
  CHECK(encode({0x04030201, FinalReply{1.0}}) ==
        std::string("FEDM\x01\x05\x01\x02\x03\x04\0\0\0\0\0\0\xF0\x3F", 18));
}

TEST_CASE("payload: foreign bytes, other versions and unknown kinds are refused") {
  CHECK(complaint_about("") == "payload: 0 bytes that do not begin with FEDM");
  CHECK(complaint_about("GET / HTTP/1.1") == "payload: 14 bytes that do not begin with FEDM");
  CHECK(complaint_about("FEDM\x01") == "payload: cut short after 5 bytes");
  CHECK(complaint_about("FEDM\x09\x01") == "payload: version 9 found, this program speaks 1");
  CHECK(complaint_about("FEDM\x01\x63") == "payload: kind 99 is unknown");
}

TEST_CASE("payload: cut short anywhere, it is refused") {
  for (const auto& payload : one_of_each()) {
    const auto bytes = encode(payload);
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      CHECK_THROWS_AS(decode(std::string_view(bytes).substr(0, size)), PayloadError);
    }
    CHECK(complaint_about(bytes + "xy").ends_with(": 2 bytes too many"));
  }
}

TEST_CASE("payload: a length that lies asks for no memory") {
  auto bytes = encode({1, TrainReply{{{1.0}, 5}}});
  const auto length_at = bytes.size() - 8 - 4;
  bytes.replace(length_at, 4, "\xFF\xFF\xFF\xFF");
  CHECK(complaint_about(bytes) ==
        "payload (train reply): cut short: the model needs 34359738360 bytes, 8 are left");
}

TEST_CASE("payload: numbers that no honest sender has are refused") {
  CHECK(complaint_about(StatisticsReply{{0, {1}, {1}}}) ==
        "payload (statistics reply): statistics of no rows");
  CHECK(complaint_about(StatisticsReply{{1, {1}, {1, 2}}}) ==
        "payload (statistics reply): 1 means but 2 squares");
  CHECK(complaint_about(StatisticsReply{{1, {1}, {-1}}}) ==
        "payload (statistics reply): a sum of squares is negative: -1");
  CHECK(complaint_about(TrainReply{{{infinite}, 1}}) ==
        "payload (train reply): the model holds a number that is not finite");
  CHECK(complaint_about(TrainReply{{{1.0}, 0}}) ==
        "payload (train reply): a model trained on no rows");
  CHECK(complaint_about(TrainTask{{}, {{1}, {1, 2}}, {1, 2}}) ==
        "payload (train task): 1 means but 2 deviations");
  CHECK(complaint_about(TrainTask{{}, scaling, {1, 2}}) ==
        "payload (train task): 2 features need a model of 3 numbers, not 2");
  CHECK(complaint_about(FinalTask{{{1}, {0}}, {1, 2}}) ==
        "payload (final task): a deviation is not positive: 0");
  CHECK(complaint_about(FinalReply{1.5}) ==
        "payload (final reply): an accuracy of 1.5 is not between 0 and 1");
}

TEST_CASE("payload: random damage is refused or read, never worse") {
  std::mt19937_64 random(1);
  const auto samples = one_of_each();
  for (int i = 0; i < 20000; ++i) {
    auto bytes = encode(samples[random() % samples.size()]);
    for (auto changes = 1 + random() % 3; changes > 0; --changes) {
      bytes[random() % bytes.size()] =
          static_cast<char>(static_cast<unsigned char>(random() % 256));
    }
    try {
      const auto payload = decode(bytes);
      CHECK(encode(payload) == bytes);  // whatever is accepted has one meaning only
    } catch (const PayloadError&) {
    }
  }
}
