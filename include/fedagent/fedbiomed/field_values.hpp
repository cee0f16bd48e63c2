#pragma once

#include <algorithm>
#include <array>
#include <boost/system/result.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "fedagent/fedbiomed/error.hpp"
#include "fedagent/fedbiomed/fields.hpp"
#include "fedagent/fedbiomed/json.hpp"
#include "fedagent/fedbiomed/msgpack.hpp"
#include "fedagent/fedbiomed/msgpack_writer.hpp"
#include "fedagent/fedbiomed/utf8.hpp"
#include "fedagent/fedbiomed/version.hpp"

/// @file
/// How the value of one field is written and read, by the type of its member.

namespace fedagent::fedbiomed::detail {

/// What a map is to a node: one of the extra types (c.6), or a map.
inline unsigned kind_of_map(const Json& map) {
  const auto name = map.find("__type__");
  if (name == map.end() || !name->is_string()) {
    return json_map;
  }
  const auto& type = name->get_ref<const std::string&>();
  if (type == "int") {
    return json_integer;
  }
  if (type == "tuple") {
    return json_tuple;
  }
  constexpr std::array<std::string_view, 8> others{"set",         "np.ndarray",     "torch.Tensor",
                                                   "Vector",      "np.generic",     "VectorSpec",
                                                   "MetricTypes", "EncryptedAuxVar"};
  const bool known = std::find(others.begin(), others.end(), type) != others.end();
  return known || type.starts_with("AuxVar") ? 0U : json_map;
}

inline bool has_kind(const Json& value, unsigned kinds) {
  if (value.is_object()) {
    return (kinds & kind_of_map(value)) != 0;
  }
  if (value.is_array()) {
    return (kinds & json_array) != 0;
  }
  // To Python a bool is an int.
  return (value.is_number_integer() || value.is_boolean()) && (kinds & json_integer) != 0;
}

inline bool put(MsgpackWriter& writer, const std::string& text, unsigned) {
  writer.string(text);
  return true;
}
inline bool put(MsgpackWriter& writer, bool value, unsigned) {
  writer.boolean(value);
  return true;
}
inline bool put(MsgpackWriter& writer, std::int64_t value, unsigned) {
  writer.integer(value);
  return true;
}
inline bool put(MsgpackWriter& writer, const Bytes& bytes, unsigned) {
  writer.binary({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  return true;
}
inline bool put(MsgpackWriter& writer, const std::vector<std::string>& texts, unsigned) {
  writer.array(texts.size());
  for (const auto& text : texts) {
    writer.string(text);
  }
  return true;
}
inline bool put(MsgpackWriter& writer, const Json& value, unsigned kinds) {
  if (!has_kind(value, kinds)) {
    return false;
  }
  Json::to_msgpack(value, writer.bytes());
  return true;
}

inline boost::system::result<void> take(MsgpackReader& reader, Json& into, unsigned kinds) {
  auto value = read_json(reader);
  if (!value) {
    return value.error();
  }
  if (!has_kind(*value, kinds)) {
    return make_error_code(errc::bad_field);
  }
  into = *std::move(value);
  return {};
}

inline bool assign(const MsgpackValue& value, std::string& into) {
  into = value.bytes;
  return value.kind == MsgpackKind::string;
}
inline bool assign(const MsgpackValue& value, Bytes& into) {
  into.assign(value.bytes.begin(), value.bytes.end());
  return value.kind == MsgpackKind::binary;
}
inline bool assign(const MsgpackValue& value, bool& into) {
  into = value.truth;
  return value.kind == MsgpackKind::boolean;
}
inline bool assign(const MsgpackValue& value, std::int64_t& into) {
  if (value.kind == MsgpackKind::boolean) {
    into = value.truth ? 1 : 0;
    return true;
  }
  into = static_cast<std::int64_t>(value.integer);
  return value.kind == MsgpackKind::integer && (value.negative || into >= 0);
}

template <class T>
boost::system::result<void> take(MsgpackReader& reader, T& into, unsigned) {
  const auto value = reader.next();
  if (!value) {
    return value.error();
  }
  if (!assign(*value, into)) {
    return make_error_code(errc::bad_field);
  }
  if (value->kind == MsgpackKind::string && !is_utf8(value->bytes)) {
    return make_error_code(errc::bad_utf8);
  }
  return {};
}

inline boost::system::result<void> take(MsgpackReader& reader, std::vector<std::string>& into,
                                        unsigned) {
  const auto array = reader.next();
  if (!array) {
    return array.error();
  }
  if (array->kind != MsgpackKind::array) {
    return make_error_code(errc::bad_field);
  }
  for (std::uint64_t i = 0; i < array->children; ++i) {
    if (const auto taken = take(reader, into.emplace_back(), 0U); !taken) {
      return taken.error();
    }
  }
  return {};
}

template <class T>
bool is_nil(const T& member) {
  if constexpr (is_optional<T>) {
    return !member.has_value();
  } else if constexpr (std::is_same_v<T, Json>) {
    return member.is_null();
  } else {
    return false;
  }
}

template <class T>
const auto& value_of(const T& member) {
  if constexpr (is_optional<T>) {
    return *member;
  } else {
    return member;
  }
}

template <class Class, class T>
bool put_field(MsgpackWriter& writer, const Field<Class, T>& field, const Class& from,
               Version version) {
  if (!field.is_in(version)) {
    return true;
  }
  writer.string(field.name);
  if (is_nil(from.*field.member)) {
    writer.nil();
    return field.may_be_nil(version);
  }
  return put(writer, value_of(from.*field.member), field.kinds);
}

template <class Class, class T>
boost::system::result<void> take_field(MsgpackReader& reader, const Field<Class, T>& field,
                                       Class& into, Version version) {
  if (field.may_be_nil(version)) {
    auto ahead = reader;
    const auto value = ahead.next();
    if (value && value->kind == MsgpackKind::nil) {
      reader = ahead;
      return {};
    }
  }
  if constexpr (is_optional<T>) {
    return take(reader, (into.*field.member).emplace(), field.kinds);
  } else {
    return take(reader, into.*field.member, field.kinds);
  }
}

}  // namespace fedagent::fedbiomed::detail
