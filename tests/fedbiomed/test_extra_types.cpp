#include <doctest/doctest.h>
#include <boost/multiprecision/cpp_int.hpp>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "fedagent/fedbiomed/extra_types.hpp"
#include "fedbiomed/support.hpp"

namespace fedbiomed = fedagent::fedbiomed;
using boost::multiprecision::cpp_int;
using fedbiomed::Bytes;
using fedbiomed::errc;
using fedbiomed::Json;
using fedbiomed::Tensor;
using support::error_of;
using support::vector_of;

namespace {

std::string encoded(const Json& value) {
  std::string bytes;
  Json::to_msgpack(value, bytes);
  return bytes;
}

Json decoded(const std::string& bytes) {
  fedbiomed::MsgpackReader reader(bytes);
  return *fedbiomed::read_json(reader);
}

Json int_of(Bytes bytes) { return fedbiomed::make_extra("int", Json::binary(std::move(bytes))); }

}  // namespace

TEST_CASE("fedbiomed extra types: c.8 a tuple") {
  CHECK(encoded(fedbiomed::make_tuple({1, 2})) == vector_of("tuple"));
  const auto value = decoded(vector_of("tuple"));
  REQUIRE(fedbiomed::tuple_items(value) != nullptr);
  CHECK(*fedbiomed::tuple_items(value) == Json{1, 2});
  CHECK(fedbiomed::set_items(value) == nullptr);
}

TEST_CASE("fedbiomed extra types: a set, and what is no set") {
  const auto set = fedbiomed::make_set({"a", "b"});
  CHECK(*fedbiomed::set_items(set) == Json{"a", "b"});
  CHECK(fedbiomed::tuple_items(set) == nullptr);
  for (const Json& other :
       {Json(), Json{1, 2}, Json::object(), Json{{"__type__", "set"}},
        Json{{"__type__", "set"}, {"value", 1}}, Json{{"__type__", 1}, {"value", Json::array()}}}) {
    CAPTURE(other.dump());
    CHECK(fedbiomed::set_items(other) == nullptr);
  }
}

TEST_CASE("fedbiomed extra types: c.8 an integer of more than 64 bits") {
  const cpp_int two_to_64 = cpp_int(1) << 64U;
  CHECK(encoded(fedbiomed::int_to_json(two_to_64)) == vector_of("int"));
  CHECK(*fedbiomed::int_from_json<cpp_int>(decoded(vector_of("int"))) == two_to_64);
}

TEST_CASE("fedbiomed extra types: c.6 integers of any size come back; those of 64 bits are plain") {
  std::vector<cpp_int> values{0, 1, -1, 127, 128, -128, -129};
  for (unsigned bits = 8; bits <= 300; ++bits) {
    const cpp_int power = cpp_int(1) << bits;
    for (const auto& value : {cpp_int(power - 1), power, cpp_int(power + 1)}) {
      values.push_back(value);
      values.push_back(-value);
    }
  }
  const cpp_int least = std::numeric_limits<std::int64_t>::min();
  const cpp_int most = std::numeric_limits<std::uint64_t>::max();
  for (const auto& value : values) {
    CAPTURE(value.str());
    const auto json = fedbiomed::int_to_json(value);
    CHECK(json.is_number() == (value >= least && value <= most));
    const auto back = fedbiomed::int_from_json<cpp_int>(decoded(encoded(json)));
    REQUIRE(back);
    CHECK(*back == value);
  }
}

TEST_CASE("fedbiomed extra types: c.6 an integer has one byte more than its magnitude takes") {
  const auto size = [](const cpp_int& value) {
    return fedbiomed::int_to_json(value)["value"].get_binary().size();
  };
  CHECK(size(cpp_int(1) << 64U) == 10);
  CHECK(size((cpp_int(1) << 72U) - 1) == 10);
  CHECK(size(cpp_int(1) << 72U) == 11);
  CHECK(size(-(cpp_int(1) << 63U) - 1) == 9);
  CHECK(size(-(cpp_int(1) << 64U)) == 10);
  // Made by int.to_bytes(…, "big", signed=True) in Python.
  CHECK(fedbiomed::int_to_json(cpp_int(-(cpp_int(1) << 64U) - 5)) ==
        int_of({0xff, 0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfb}));
}

TEST_CASE("fedbiomed extra types: integers are read in any length, as Python reads them") {
  const auto read = [](Bytes bytes) { return *fedbiomed::int_from_json<cpp_int>(int_of(bytes)); };
  CHECK(read({}) == 0);
  CHECK(read({0}) == 0);
  CHECK(read({5}) == 5);
  CHECK(read({0, 0, 0, 5}) == 5);
  CHECK(read({0xff}) == -1);
  CHECK(read({0xff, 0xff, 0x80}) == -128);
  CHECK(read({0x80}) == -128);
  CHECK(*fedbiomed::int_from_json<std::int64_t>(int_of({0xff, 0x7f})) == -129);
  CHECK(*fedbiomed::int_from_json<std::int64_t>(true) == 1);
}

TEST_CASE("fedbiomed extra types: what is no integer is refused, and one that is too long") {
  using fedbiomed::int_from_json;
  for (const Json& other :
       {Json(), Json(1.0), Json("1"), Json{1}, Json::binary({1}), fedbiomed::make_extra("int", "1"),
        fedbiomed::make_extra("tuple", Json::binary({1}))}) {
    CAPTURE(other.dump());
    CHECK(error_of(int_from_json<cpp_int>(other)) == errc::bad_extra_type);
  }
  CHECK(int_from_json<cpp_int>(int_of(Bytes(fedbiomed::max_int_bytes, 1))));
  CHECK(error_of(int_from_json<cpp_int>(int_of(Bytes(fedbiomed::max_int_bytes + 1, 1)))) ==
        errc::bad_extra_type);
}

TEST_CASE("fedbiomed extra types: c.8 an array of float32") {
  const std::vector<float> values{1, 2};
  CHECK(encoded(to_json(fedbiomed::make_tensor(std::span(values), {2}))) == vector_of("array"));
  const auto tensor = fedbiomed::tensor_from_json(decoded(vector_of("array")));
  REQUIRE(tensor);
  CHECK(tensor->kind == Tensor::Kind::numpy);
  CHECK(tensor->dtype == "float32");
  CHECK(tensor->shape == std::vector<std::uint64_t>{2});
  CHECK(*fedbiomed::values_of<float>(*tensor) == values);
  CHECK(error_of(fedbiomed::values_of<double>(*tensor)) == errc::bad_extra_type);
  CHECK(error_of(fedbiomed::values_of<std::int32_t>(*tensor)) == errc::bad_extra_type);
}

TEST_CASE_TEMPLATE("fedbiomed extra types: tensors of every number type come back", T, float,
                   double, std::int8_t, std::int16_t, std::int32_t, std::int64_t, std::uint8_t,
                   std::uint16_t, std::uint32_t, std::uint64_t) {
  const std::vector<T> values{
      T(0), T(1), std::numeric_limits<T>::max(), std::numeric_limits<T>::lowest(), T(5), T(6)};
  const auto made = fedbiomed::make_tensor(std::span(values), {2, 3}, Tensor::Kind::torch);
  CHECK(made.data.size() == 6 * sizeof(T));
  const auto back = fedbiomed::tensor_from_json(decoded(encoded(to_json(made))));
  REQUIRE(back);
  CHECK(back->kind == Tensor::Kind::torch);
  CHECK(back->shape == std::vector<std::uint64_t>{2, 3});
  CHECK(back->dtype == made.dtype);
  CHECK(*fedbiomed::values_of<T>(*back) == values);
}

TEST_CASE("fedbiomed extra types: the names of number types are numpy's") {
  const auto name = []<class T>(T) {
    return fedbiomed::make_tensor(std::span<const T>(), {0}).dtype;
  };
  CHECK(name(float()) == "float32");
  CHECK(name(double()) == "float64");
  CHECK(name(std::int8_t()) == "int8");
  CHECK(name(std::int16_t()) == "int16");
  CHECK(name(std::int32_t()) == "int32");
  CHECK(name(std::int64_t()) == "int64");
  CHECK(name(std::uint8_t()) == "uint8");
  CHECK(name(std::uint64_t()) == "uint64");
}

TEST_CASE("fedbiomed extra types: the data of a tensor has the size that its shape asks for") {
  const auto read = [](std::string dtype, std::vector<std::uint64_t> shape, std::size_t bytes) {
    return error_of(fedbiomed::tensor_from_json(
        to_json(Tensor{Tensor::Kind::numpy, std::move(dtype), std::move(shape), Bytes(bytes)})));
  };
  CHECK_FALSE(read("float32", {}, 4));  // a scalar
  CHECK_FALSE(read("float32", {2, 3}, 24));
  CHECK_FALSE(read("complex128", {2}, 32));
  CHECK_FALSE(read("bool", {2}, 2));
  CHECK_FALSE(read("float32", {0}, 0));
  CHECK_FALSE(read("float32", {UINT64_MAX, 0}, 0));
  CHECK_FALSE(read("float8_e5m2", {2}, 3));  // not known, not looked at
  CHECK(read("float32", {}, 0) == errc::bad_extra_type);
  CHECK(read("float32", {2, 3}, 23) == errc::bad_extra_type);
  CHECK(read("float32", {2, 3}, 25) == errc::bad_extra_type);
  CHECK(read("float32", {0}, 4) == errc::bad_extra_type);
  CHECK(read("float32", {std::uint64_t{1} << 62U}, 0) == errc::bad_extra_type);
  CHECK(read("float32", {std::uint64_t{1} << 32U, std::uint64_t{1} << 32U}, 0) ==
        errc::bad_extra_type);
}

TEST_CASE("fedbiomed extra types: what is no tensor is refused") {
  const auto data = Json::binary({0, 0, 0, 0});
  for (const Json& other : std::vector<Json>{
           Json(), Json{data, "float32", Json{1}},
           fedbiomed::make_extra("np.generic", {data, "float32", Json{1}}),
           fedbiomed::make_extra("np.ndarray", data), fedbiomed::make_extra("np.ndarray", {}),
           fedbiomed::make_extra("np.ndarray", {data, "float32"}),
           fedbiomed::make_extra("np.ndarray", {data, 32, Json{1}}),
           fedbiomed::make_extra("np.ndarray", {data, "float32", 1}),
           fedbiomed::make_extra("np.ndarray", {data, "float32", Json{-1}}),
           fedbiomed::make_extra("np.ndarray", {data, "float32", Json{1.0}}),
           fedbiomed::make_extra("np.ndarray", {"0000", "float32", Json{1}})}) {
    CAPTURE(other.dump());
    CHECK(error_of(fedbiomed::tensor_from_json(other)) == errc::bad_extra_type);
  }
}

TEST_CASE("fedbiomed extra types: a value of an unknown type stays the map that it is") {
  const Json unknown{{"__type__", "Vector"}, {"value", {{"w", Json{1}}}}};
  CHECK(decoded(encoded(unknown)) == unknown);
  CHECK(*fedbiomed::extra_value(unknown, "Vector") == Json{{"w", Json{1}}});
}
