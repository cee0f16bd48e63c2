#pragma once

#include <array>
#include <boost/system/result.hpp>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>

#include "fedagent/fedbiomed/error.hpp"
#include "fedagent/fedbiomed/field_values.hpp"
#include "fedagent/fedbiomed/fields.hpp"
#include "fedagent/fedbiomed/message.hpp"
#include "fedagent/fedbiomed/msgpack.hpp"
#include "fedagent/fedbiomed/msgpack_writer.hpp"
#include "fedagent/fedbiomed/utf8.hpp"
#include "fedagent/fedbiomed/version.hpp"

namespace fedagent::fedbiomed {

/// What every message has besides the fields of its class.
struct Head {
  /// The O of the server's certificate: a node takes no task with another one (c.3).
  std::string researcher_id{};
  /// Empty: nil.
  std::string request_id{};
  Version version = Version::v7;
};

namespace detail {

template <class Class>
inline constexpr bool has_request_id = !requires { Class::without_request_id; };

template <class Class>
constexpr Version first_version() {
  if constexpr (requires { Class::first_version; }) {
    return Class::first_version;
  } else {
    return Version::v5;
  }
}

template <class Class>
bool is_consistent(const Class& body) {
  if constexpr (requires { body.is_consistent(); }) {
    return body.is_consistent();
  } else {
    return true;
  }
}

inline void put_type(MsgpackWriter& writer, std::string_view message_class) {
  writer.string(type_field).map(2);
  writer.string("module").string("fedbiomed.common.message");
  writer.string("class").string(message_class);
}

/// Whether all strings of a well-formed value are UTF-8.
inline bool all_utf8(std::string_view bytes) {
  MsgpackReader reader(bytes);
  while (!reader.at_end()) {
    const auto value = reader.next();
    if (!value || (value->kind == MsgpackKind::string && !is_utf8(value->bytes))) {
      return false;
    }
  }
  return true;
}

/// Reads the fields of a class, one after another, from a message whose top level is well-formed.
template <class Class>
class Decoder {
 public:
  Decoder(const Message& message, Version version, std::string_view* fault) noexcept
      : reader_(message.bytes()), version_(version), fault_(fault) {}

  boost::system::result<Class> run() {
    const auto map = reader_.next();
    for (std::uint64_t i = 0; i < map->children; i += 2) {
      const auto key = reader_.next()->bytes;
      if (const auto taken = take_any(key, Indices{}); !taken) {
        name_fault(key);
        return taken.error();
      }
    }
    if (!base_seen_[0] || !base_seen_[1]) {
      name_fault(base_names[base_seen_[0] ? 1 : 0]);
      return make_error_code(errc::missing_field);
    }
    if (!complete(Indices{})) {
      return make_error_code(errc::missing_field);
    }
    if (!is_consistent(body_)) {
      return make_error_code(errc::inconsistent_fields);
    }
    return std::move(body_);
  }

 private:
  using Table = decltype(Class::fields());
  using Indices = std::make_index_sequence<std::tuple_size_v<Table>>;
  static constexpr std::array<std::string_view, 4> base_names{"protocol_version", "researcher_id",
                                                              type_field, "request_id"};

  void name_fault(std::string_view name) noexcept {
    if (fault_ != nullptr) {
      *fault_ = name;
    }
  }

  template <std::size_t... I>
  boost::system::result<void> take_any(std::string_view key, std::index_sequence<I...>) {
    for (std::size_t i = 0; i < base_names.size() - (has_request_id<Class> ? 0 : 1); ++i) {
      if (key == base_names[i]) {
        base_seen_[i] = true;
        return reader_.skip();
      }
    }
    boost::system::result<void> taken = make_error_code(errc::extra_field);
    static_cast<void>((take_one<I>(key, taken) || ...));
    return taken;
  }

  template <std::size_t I>
  bool take_one(std::string_view key, boost::system::result<void>& taken) {
    constexpr auto field = std::get<I>(Class::fields());
    if (key != field.name || !field.is_in(version_)) {
      return false;
    }
    seen_[I] = true;
    taken = take_field(reader_, field, body_, version_);
    return true;
  }

  template <std::size_t... I>
  bool complete(std::index_sequence<I...>) {
    return (complete_one<I>() && ...);
  }
  template <std::size_t I>
  bool complete_one() {
    constexpr auto field = std::get<I>(Class::fields());
    if (seen_[I] || !field.is_in(version_) || field.may_be_missing(version_)) {
      return true;
    }
    name_fault(field.name);
    return false;
  }

  MsgpackReader reader_;
  Version version_;
  std::string_view* fault_;
  Class body_{};
  std::array<bool, std::tuple_size_v<Table>> seen_{};
  std::array<bool, base_names.size()> base_seen_{};
};

}  // namespace detail

/// Makes the bytes of a message. Fields that its version does not have are left out.
/**
 * @tparam Class A struct of `requests.hpp` or `replies.hpp`.
 * @par Errors
 * `not_in_version` for the class; `bad_field` for a Json that is not what the field may be, or a
 * nil where the version wants a value; `inconsistent_fields`; `bad_utf8`.
 * @par Source
 * c.5, c.7.
 */
template <class Class>
boost::system::result<Message> encode(const Head& head, const Class& body) {
  if (head.version < detail::first_version<Class>()) {
    return make_error_code(errc::not_in_version);
  }
  if (!detail::is_consistent(body)) {
    return make_error_code(errc::inconsistent_fields);
  }
  MsgpackWriter writer;
  const auto count = std::apply(
      [&](const auto&... field) { return (std::size_t{0} + ... + field.is_in(head.version)); },
      Class::fields());
  writer.map(count + 3 + (detail::has_request_id<Class> ? 1 : 0));
  writer.string("protocol_version").string(to_string(head.version));
  if constexpr (detail::has_request_id<Class>) {
    writer.string("request_id");
    if (head.request_id.empty()) {
      writer.nil();
    } else {
      writer.string(head.request_id);
    }
  }
  writer.string("researcher_id").string(head.researcher_id);
  const bool all_well = std::apply(
      [&](const auto&... field) {
        return (detail::put_field(writer, field, body, head.version) && ...);
      },
      Class::fields());
  if (!all_well) {
    return make_error_code(errc::bad_field);
  }
  detail::put_type(writer, Class::message_class);
  if (!detail::all_utf8(writer.bytes())) {
    return make_error_code(errc::bad_utf8);
  }
  return Message::parse(writer.take());
}

/// Reads a message of this class, as strictly as a node does (c.5).
/**
 * A field in which maps or arrays are nested deeper than `max_nesting` is `too_deep`; see
 * `read_json`.
 *
 * @param fault When not null: set to the name of the field that is at fault, if it is one. A view
 * into the message, or of static text.
 * @par Errors
 * `unexpected_class`, `version_mismatch` when the version is not one of `Version`,
 * `not_in_version`, `missing_field`, `extra_field`, `bad_field`, `inconsistent_fields`, and for
 * what is inside a field `bad_utf8`, `bad_key`, `too_deep`.
 * @par Source
 * c.5, c.7.
 */
template <class Class>
boost::system::result<Class> decode(const Message& message, std::string_view* fault = nullptr) {
  if (message.type() != Class::message_class) {
    return make_error_code(errc::unexpected_class);
  }
  const auto version = parse_version(message.protocol_version());
  if (!version) {
    return version.error();
  }
  if (*version < detail::first_version<Class>()) {
    return make_error_code(errc::not_in_version);
  }
  return detail::Decoder<Class>(message, *version, fault).run();
}

}  // namespace fedagent::fedbiomed
