#include <doctest/doctest.h>
#include <cstdint>
#include <string>

#include "fedagent/fedbiomed/msgpack.hpp"
#include "fedagent/fedbiomed/msgpack_writer.hpp"
#include "fedbiomed/support.hpp"

namespace fedbiomed = fedagent::fedbiomed;
using fedbiomed::errc;
using fedbiomed::MsgpackKind;
using fedbiomed::MsgpackReader;
using fedbiomed::MsgpackValue;
using fedbiomed::MsgpackWriter;
using Json = nlohmann::json;
using support::error_of;
using support::from_hex;

namespace {

MsgpackValue only(const std::string& bytes) {
  MsgpackReader reader(bytes);
  const auto value = reader.next();
  REQUIRE(value);
  CHECK(reader.at_end());
  auto copy = *value;
  copy.bytes = {};  // the bytes go away
  return copy;
}

boost::system::error_code skip(const std::string& bytes) {
  MsgpackReader reader(bytes);
  const auto skipped = reader.skip();
  if (skipped) {
    CHECK(reader.at_end());
  }
  return error_of(skipped);
}

std::string encoded(const Json& value) {
  std::string bytes;
  Json::to_msgpack(value, bytes);
  return bytes;
}

}  // namespace

TEST_CASE(
    "fedbiomed msgpack: integers of every size are read, and written as short as they can be") {
  const std::int64_t edges[] = {
      0,  1,   127, 128,  255,  256,    65535,  65536,         4294967295,    4294967296, INT64_MAX,
      -1, -32, -33, -128, -129, -32768, -32769, -2147483648LL, -2147483649LL, INT64_MIN};
  for (const auto edge : edges) {
    CAPTURE(edge);
    const auto bytes = MsgpackWriter().integer(edge).take();
    CHECK(bytes == encoded(edge));
    const auto value = only(bytes);
    CHECK(value.kind == MsgpackKind::integer);
    CHECK(static_cast<std::int64_t>(value.integer) == edge);
    CHECK(value.negative == (edge < 0));
  }
  CHECK(only(from_hex("cfffffffffffffffff")).integer == UINT64_MAX);
  CHECK_FALSE(only(from_hex("cfffffffffffffffff")).negative);
}

TEST_CASE("fedbiomed msgpack: integers may be longer than need be") {
  for (const auto* hex : {"05", "cc05", "cd0005", "ce00000005", "cf0000000000000005", "d005",
                          "d10005", "d200000005", "d30000000000000005"}) {
    CAPTURE(hex);
    CHECK(only(from_hex(hex)).integer == 5);
    CHECK_FALSE(only(from_hex(hex)).negative);
  }
}

TEST_CASE("fedbiomed msgpack: nil, booleans and floating point numbers are read") {
  CHECK(only(from_hex("c0")).kind == MsgpackKind::nil);
  CHECK(only(from_hex("c2")).kind == MsgpackKind::boolean);
  CHECK_FALSE(only(from_hex("c2")).truth);
  CHECK(only(from_hex("c3")).truth);
  CHECK(only(from_hex("ca3fc00000")).floating == 1.5);
  CHECK(only(from_hex("cb3ff8000000000000")).floating == 1.5);
  CHECK(only(from_hex("ca3fc00000")).kind == MsgpackKind::floating);
  CHECK(MsgpackWriter().nil().boolean(true).boolean(false).take() == from_hex("c0c3c2"));
}

TEST_CASE(
    "fedbiomed msgpack: strings, binaries, arrays and maps have the shortest form at every size") {
  for (const std::size_t size : {0U, 1U, 15U, 16U, 31U, 32U, 255U, 256U, 65535U, 65536U}) {
    CAPTURE(size);
    const std::string text(size, 'x');
    const auto string = MsgpackWriter().string(text).take();
    CHECK(string == encoded(text));
    MsgpackReader reader(string);
    CHECK(reader.next()->bytes == text);
    CHECK(reader.at_end());
    const auto binary = MsgpackWriter().binary(text).take();
    CHECK(binary == encoded(Json::binary({text.begin(), text.end()})));
    MsgpackReader binary_reader(binary);
    const auto value = *binary_reader.next();
    CHECK(value.kind == MsgpackKind::binary);
    CHECK(value.bytes == text);

    MsgpackWriter array;
    array.array(size);
    MsgpackWriter map;
    map.map(size);
    auto array_json = Json::array();
    auto map_json = Json::object();
    for (std::size_t i = 0; i < size; ++i) {
      array.nil();
      array_json.push_back(nullptr);
      const auto key = "k" + std::string(5 - std::to_string(i).size(), '0') + std::to_string(i);
      map.string(key).nil();
      map_json[key] = nullptr;
    }
    const auto array_bytes = array.take();
    const auto map_bytes = map.take();
    CHECK(array_bytes == encoded(array_json));
    CHECK(map_bytes == encoded(map_json));
    CHECK(MsgpackReader(array_bytes).next()->children == size);
    CHECK(MsgpackReader(map_bytes).next()->children == 2 * size);
    CHECK_FALSE(skip(array_bytes));
    CHECK_FALSE(skip(map_bytes));
  }
}

TEST_CASE("fedbiomed msgpack: extensions of every form are stepped over") {
  for (const auto* hex : {"d40102", "d5010203", "d60102030405", "d7010203040506070809",
                          "d80102030405060708090a0b0c0d0e0f1011", "c70001", "c7020102ff",
                          "c8000201ffff", "c90000000201ffff"}) {
    CAPTURE(hex);
    const auto bytes = from_hex(hex);
    CHECK_FALSE(skip(bytes));
    CHECK(MsgpackReader(bytes).next()->kind == MsgpackKind::extension);
    CHECK(MsgpackReader(bytes).next()->bytes.back() == bytes.back());
  }
}

TEST_CASE("fedbiomed msgpack: a value that ends early is truncated at every byte of it") {
  const std::string values[] = {
      MsgpackWriter().string(std::string(300, 'x')).take(),
      MsgpackWriter().binary(std::string(70000, 'x')).take(),
      MsgpackWriter().integer(INT64_MIN).take(),
      from_hex("ca3fc00000"),
      from_hex("cb3ff8000000000000"),
      from_hex("d80102030405060708090a0b0c0d0e0f1011"),
      from_hex("c90000000201ffff"),
      from_hex("82a16193010203a16281a16390"),
      from_hex("dc0002c0dd00000001de0001a0df00000000"),
  };
  for (const auto& value : values) {
    CHECK_FALSE(skip(value));
    for (std::size_t size = 0; size < value.size(); ++size) {
      CAPTURE(size);
      CHECK(skip(value.substr(0, size)) == errc::truncated);
    }
  }
}

TEST_CASE("fedbiomed msgpack: the byte that begins nothing is refused, on any level") {
  CHECK(skip("\xc1") == errc::bad_msgpack);
  CHECK(skip(from_hex("93c091c1c0")) == errc::bad_msgpack);
}

TEST_CASE("fedbiomed msgpack: sizes that cannot be are truncated, and cost nothing") {
  for (const auto* hex : {"dbffffffff", "c6ffffffff", "c9ffffffff", "ddffffffff", "dfffffffff",
                          "ddffffffffddffffffff", "dc0003ddffffffffc0c0c0"}) {
    CAPTURE(hex);
    CHECK(skip(from_hex(hex)) == errc::truncated);
  }
}

TEST_CASE("fedbiomed msgpack: an array or a map that cannot be whole is truncated by its head") {
  for (const auto* hex :
       {"91", "92c0", "81c0", "dc0003c0c0", "de0001c0", "ddffffffff", "dfffffffff"}) {
    CAPTURE(hex);
    CHECK(error_of(MsgpackReader(from_hex(hex)).next()) == errc::truncated);
  }
}

TEST_CASE("fedbiomed msgpack: a million levels are stepped over without a stack") {
  constexpr std::size_t levels = 1'000'000;
  CHECK_FALSE(skip(std::string(levels, '\x91') + '\xc0'));
  std::string maps;
  for (std::size_t i = 0; i < levels; ++i) {
    maps += "\x81\xa0";
  }
  CHECK_FALSE(skip(maps + '\xc0'));
  CHECK(skip(std::string(levels, '\x91')) == errc::truncated);
  CHECK(skip(std::string(levels, '\xdd')) == errc::truncated);
}
