#include <doctest/doctest.h>
#include <cmath>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "fedagent/fedbiomed/json.hpp"
#include "fedbiomed/support.hpp"

namespace fedbiomed = fedagent::fedbiomed;
using fedbiomed::errc;
using fedbiomed::Json;
using fedbiomed::MsgpackReader;
using support::error_of;
using support::from_hex;

namespace {

boost::system::result<Json> read(const std::string& bytes) {
  MsgpackReader reader(bytes);
  auto value = fedbiomed::read_json(reader);
  if (value) {
    CHECK(reader.at_end());
  }
  return value;
}

std::string encoded(const Json& value) {
  std::string bytes;
  Json::to_msgpack(value, bytes);
  return bytes;
}

Json random_value(std::mt19937& random, unsigned depth) {
  switch (random() % (depth == 0 ? 8 : 10)) {
    case 0:
      return nullptr;
    case 1:
      return random() % 2 == 0;
    case 2:
      return random() >> (random() % 32);
    case 3:
      return -static_cast<std::int64_t>(random() >> (random() % 32));
    case 4:
      return std::ldexp(static_cast<double>(random()), static_cast<int>(random() % 80) - 40);
    case 5:
      return std::string(random() % 40, 'x');
    case 6:
      return Json::binary(std::vector<std::uint8_t>(random() % 300, 7));
    case 7:
      return Json::binary(std::vector<std::uint8_t>(random() % 20, 7), random() % 128);
    case 8: {
      auto array = Json::array();
      for (auto count = random() % 20; count > 0; --count) {
        array.push_back(random_value(random, depth - 1));
      }
      return array;
    }
    default: {
      auto map = Json::object();
      for (auto count = random() % 20; count > 0; --count) {
        map["k" + std::to_string(random() % 100)] = random_value(random, depth - 1);
      }
      return map;
    }
  }
}

}  // namespace

TEST_CASE("fedbiomed json: values of every kind are what nlohmann's codec makes of them") {
  std::mt19937 random(11);
  for (int round = 0; round < 500; ++round) {
    const auto value = random_value(random, 4);
    const auto bytes = encoded(value);
    const auto back = read(bytes);
    REQUIRE(back);
    CHECK(*back == value);
    CHECK(*back == Json::from_msgpack(bytes));
    CHECK(encoded(*back) == bytes);
  }
}

TEST_CASE("fedbiomed json: 64 bits of either sign") {
  CHECK(read(from_hex("cfffffffffffffffff"))->get<std::uint64_t>() == UINT64_MAX);
  CHECK(read(from_hex("d38000000000000000"))->get<std::int64_t>() == INT64_MIN);
  CHECK(read(from_hex("cfffffffffffffffff"))->is_number_unsigned());
  CHECK(*read(from_hex("d4ff07")) == Json::from_msgpack(from_hex("d4ff07")));
}

TEST_CASE("fedbiomed json: of two entries with one key the last one counts") {
  CHECK(*read(from_hex("83a16101a16202a16103")) == Json{{"a", 3}, {"b", 2}});
}

TEST_CASE("fedbiomed json: it reads one value and no further") {
  const auto bytes = from_hex("9301020304");
  MsgpackReader reader(bytes);
  CHECK(*fedbiomed::read_json(reader) == Json{1, 2, 3});
  CHECK(reader.position() == 4);
}

TEST_CASE("fedbiomed json: each fault has an error of its own") {
  CHECK(error_of(read("")) == errc::truncated);
  CHECK(error_of(read(from_hex("9201"))) == errc::truncated);
  CHECK(error_of(read(from_hex("81a161"))) == errc::truncated);
  CHECK(error_of(read(from_hex("91c1"))) == errc::bad_msgpack);
  CHECK(error_of(read(from_hex("810102"))) == errc::bad_key);
  CHECK(error_of(read(from_hex("818002"))) == errc::bad_key);
  CHECK(error_of(read(from_hex("a1ff"))) == errc::bad_utf8);
  CHECK(error_of(read(from_hex("9181a1ff01"))) == errc::bad_utf8);
  CHECK(error_of(read(from_hex("ddffffffff"))) == errc::truncated);
}

TEST_CASE("fedbiomed json: nesting is read to max_nesting levels, and refused beyond") {
  const auto nested = [](std::size_t levels, const std::string& level) {
    std::string bytes;
    for (std::size_t i = 0; i < levels; ++i) {
      bytes += level;
    }
    return bytes + "\xc0";
  };
  for (const std::string level : {"\x91", "\x81\xa0"}) {
    CHECK(read(nested(fedbiomed::max_nesting, level)));
    CHECK(error_of(read(nested(fedbiomed::max_nesting + 1, level))) == errc::too_deep);
    CHECK(error_of(read(nested(1'000'000, level))) == errc::too_deep);
  }
  // Width is no depth.
  CHECK(read("\xdc\x03\xe8" + std::string(1000, '\x90')));
}
