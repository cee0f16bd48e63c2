#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <boost/system/result.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "fedagent/fedbiomed/error.hpp"
#include "fedagent/fedbiomed/fields.hpp"
#include "fedagent/fedbiomed/json.hpp"

/// @file
/// What plain MessagePack cannot hold is a map {"__type__": …, "value": …} (c.6). Nothing here is
/// done by itself: a value stays such a map until it is asked for what it stands for, and one of a
/// type that is not known here stays it for good.

namespace fedagent::fedbiomed {

inline Json make_extra(std::string_view type, Json value) {
  auto extra = Json::object();
  extra["__type__"] = type;
  extra["value"] = std::move(value);
  return extra;
}

/// What a value of this extra type holds; null when it is not one.
inline const Json* extra_value(const Json& extra, std::string_view type) {
  const auto name = extra.find("__type__");
  const auto value = extra.find("value");
  const bool is_one = name != extra.end() && value != extra.end() && *name == type;
  return is_one ? &*value : nullptr;
}

// ---- tuples and sets

/// @pre `items` is an array.
inline Json make_tuple(Json items) { return make_extra("tuple", std::move(items)); }
/// @pre `items` is an array of different values.
inline Json make_set(Json items) { return make_extra("set", std::move(items)); }

namespace detail {

inline const Json* items_of(const Json& extra, std::string_view type) {
  const auto* const items = extra_value(extra, type);
  return items != nullptr && items->is_array() ? items : nullptr;
}

}  // namespace detail

/// The items of a tuple, an array; null when the value is no tuple.
inline const Json* tuple_items(const Json& value) { return detail::items_of(value, "tuple"); }
/// The items of a set, an array; null when the value is no set.
inline const Json* set_items(const Json& value) { return detail::items_of(value, "set"); }

// ---- integers of any size

/// The most bytes that an integer may have.
inline constexpr std::size_t max_int_bytes = 4096;

/// An integer as the wire has it: a plain one where 64 bits are enough.
/**
 * @tparam Int Signed, `boost::multiprecision::cpp_int` for one. It must be able to hold `-value`.
 */
template <class Int>
Json int_to_json(const Int& value) {
  if (value >= Int(0) && value <= Int(std::numeric_limits<std::uint64_t>::max())) {
    return static_cast<std::uint64_t>(value);
  }
  if (value < Int(0) && value >= Int(std::numeric_limits<std::int64_t>::min())) {
    return static_cast<std::int64_t>(value);
  }
  // Two's complement: -n is what n - 1 is with all bits turned.
  const bool negative = value < Int(0);
  const auto turned = static_cast<std::uint8_t>(negative ? 0xff : 0);
  Int rest = negative ? Int(-(value + 1)) : value;
  std::size_t size = 1;  // one byte more than the magnitude takes, as the stock packer does
  for (Int magnitude = negative ? Int(-value) : value; magnitude > Int(0); magnitude >>= 8) {
    ++size;
  }
  Bytes bytes(size, turned);
  for (auto at = bytes.rbegin(); rest > Int(0); ++at, rest >>= 8) {
    *at = static_cast<std::uint8_t>(static_cast<unsigned>(rest & Int(0xff)) ^ turned);
  }
  return make_extra("int", Json::binary(std::move(bytes)));
}

/// Reads an integer, plain or of any size.
/**
 * @tparam Int As for `int_to_json`, and wide enough for what comes.
 * @par Errors
 * `bad_extra_type`; also for more than `max_int_bytes`.
 */
template <class Int>
boost::system::result<Int> int_from_json(const Json& value) {
  if (value.is_boolean()) {
    return Int(value.get<bool>() ? 1 : 0);
  }
  if (value.is_number_unsigned()) {
    return Int(value.get<std::uint64_t>());
  }
  if (value.is_number_integer()) {
    return Int(value.get<std::int64_t>());
  }
  const auto* const binary = extra_value(value, "int");
  if (binary == nullptr || !binary->is_binary() || binary->get_binary().size() > max_int_bytes) {
    return make_error_code(errc::bad_extra_type);
  }
  const auto& bytes = binary->get_binary();
  const bool negative = !bytes.empty() && bytes.front() >= 0x80;
  const auto turned = static_cast<std::uint8_t>(negative ? 0xff : 0);
  Int magnitude(0);
  for (const auto byte : bytes) {
    magnitude <<= 8;
    magnitude |= Int(static_cast<unsigned>(byte ^ turned));
  }
  return negative ? Int(-magnitude - 1) : magnitude;
}

// ---- arrays of numbers

/// An np.ndarray or a torch.Tensor.
struct Tensor {
  enum class Kind { numpy, torch };

  Kind kind = Kind::numpy;
  /// As numpy names it: "float32".
  std::string dtype{};
  std::vector<std::uint64_t> shape{};
  /// In C order, little-endian.
  Bytes data{};
};

namespace detail {

struct Dtype {
  std::string_view name;
  std::size_t size;
};
inline constexpr auto dtypes = std::to_array<Dtype>({{"bool", 1},
                                                     {"int8", 1},
                                                     {"uint8", 1},
                                                     {"int16", 2},
                                                     {"uint16", 2},
                                                     {"float16", 2},
                                                     {"bfloat16", 2},
                                                     {"int32", 4},
                                                     {"uint32", 4},
                                                     {"float32", 4},
                                                     {"int64", 8},
                                                     {"uint64", 8},
                                                     {"float64", 8},
                                                     {"complex64", 8},
                                                     {"complex128", 16}});

template <class T>
constexpr std::string_view dtype_of() {
  if constexpr (std::is_floating_point_v<T>) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "fedagent: no dtype for this type");
    return sizeof(T) == 4 ? "float32" : "float64";
  } else {
    static_assert(std::is_integral_v<T> && !std::is_same_v<T, bool> && sizeof(T) <= 8,
                  "fedagent: no dtype for this type");
    constexpr std::array<std::string_view, 8> names{"int8",  "int16",  "int32",  "int64",
                                                    "uint8", "uint16", "uint32", "uint64"};
    return names[(std::is_signed_v<T> ? 0U : 4U) + std::bit_width(sizeof(T)) - 1];
  }
}

/// Whether so many bytes are what the shape and the type ask for; of an unknown type they always
/// are.
inline bool has_size(std::string_view dtype, const std::vector<std::uint64_t>& shape,
                     std::size_t bytes) {
  const auto* const known =
      std::find_if(dtypes.begin(), dtypes.end(), [&](auto& d) { return d.name == dtype; });
  if (known == dtypes.end()) {
    return true;
  }
  if (std::find(shape.begin(), shape.end(), 0U) != shape.end()) {
    return bytes == 0;
  }
  std::uint64_t size = known->size;
  for (const auto extent : shape) {
    if (extent > bytes / size) {
      return false;
    }
    size *= extent;
  }
  return size == bytes;
}

/// Between the machine's order of bytes and the wire's.
inline void swap_if_big_endian(Bytes& data, std::size_t item) {
  if constexpr (std::endian::native == std::endian::big) {
    for (auto at = data.begin(); at != data.end(); at += static_cast<std::ptrdiff_t>(item)) {
      std::reverse(at, at + static_cast<std::ptrdiff_t>(item));
    }
  }
}

}  // namespace detail

inline Json to_json(Tensor tensor) {
  auto value = Json::array();
  value.push_back(Json::binary(std::move(tensor.data)));
  value.push_back(std::move(tensor.dtype));
  value.push_back(std::move(tensor.shape));
  return make_extra(tensor.kind == Tensor::Kind::numpy ? "np.ndarray" : "torch.Tensor",
                    std::move(value));
}

/// Takes the array out of a value; move the value in where the data is large.
/** @par Errors `bad_extra_type`; also when the data has not the size that its shape asks for. */
inline boost::system::result<Tensor> tensor_from_json(Json value) {
  Tensor tensor;
  const auto* parts = extra_value(value, "np.ndarray");
  if (parts == nullptr) {
    parts = extra_value(value, "torch.Tensor");
    tensor.kind = Tensor::Kind::torch;
  }
  if (parts == nullptr || !parts->is_array() || parts->size() != 3 || !(*parts)[0].is_binary() ||
      !(*parts)[1].is_string() || !(*parts)[2].is_array()) {
    return make_error_code(errc::bad_extra_type);
  }
  for (const auto& extent : (*parts)[2]) {
    if (!extent.is_number_unsigned()) {
      return make_error_code(errc::bad_extra_type);
    }
    tensor.shape.push_back(extent.get<std::uint64_t>());
  }
  auto& owned = value["value"];
  tensor.data = std::move(static_cast<Bytes&>(owned[0].get_binary()));
  tensor.dtype = std::move(owned[1].get_ref<std::string&>());
  if (!detail::has_size(tensor.dtype, tensor.shape, tensor.data.size())) {
    return make_error_code(errc::bad_extra_type);
  }
  return tensor;
}

/// @pre `values` has as many as the shape says.
template <class T>
Tensor make_tensor(std::span<const T> values, std::vector<std::uint64_t> shape,
                   Tensor::Kind kind = Tensor::Kind::numpy) {
  const auto* const bytes = reinterpret_cast<const std::uint8_t*>(values.data());
  Tensor tensor{kind, std::string(detail::dtype_of<T>()), std::move(shape),
                Bytes(bytes, bytes + values.size_bytes())};
  detail::swap_if_big_endian(tensor.data, sizeof(T));
  return tensor;
}

/// The numbers, in C order.
/** @par Errors `bad_extra_type` when they are of another type than T. */
template <class T>
boost::system::result<std::vector<T>> values_of(const Tensor& tensor) {
  if (tensor.dtype != detail::dtype_of<T>() || tensor.data.size() % sizeof(T) != 0) {
    return make_error_code(errc::bad_extra_type);
  }
  std::vector<T> values(tensor.data.size() / sizeof(T));
  if (!values.empty()) {
    auto data = tensor.data;
    detail::swap_if_big_endian(data, sizeof(T));
    std::memcpy(values.data(), data.data(), data.size());
  }
  return values;
}

}  // namespace fedagent::fedbiomed
