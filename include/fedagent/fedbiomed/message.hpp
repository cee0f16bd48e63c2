#pragma once

#include <algorithm>
#include <array>
#include <boost/system/result.hpp>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "fedagent/fedbiomed/error.hpp"
#include "fedagent/fedbiomed/msgpack.hpp"
#include "fedagent/fedbiomed/utf8.hpp"

namespace fedagent::fedbiomed {

/// The most fields that a message may have at its top level. No class has half as many.
inline constexpr std::size_t max_fields = 64;

/// The field that names the class of a message.
inline constexpr std::string_view type_field = "__type_message__";

/// A message as it came off the wire or goes to it: its bytes, and where the fields are that
/// matter.
/**
 * What else is in it, models above all, is stepped over and never made into objects, however
 * deeply it is nested.
 *
 * @par Lifetimes
 * The views live as long as the message, and until it is moved from or assigned to.
 * @par Source
 * c.5 to c.7 of the wire.
 */
class Message {
 public:
  /// Takes an encoded message.
  /**
   * @return The message; it has a class and a version, which need not be known ones, and the
   * fields of the other accessors are strings where they are there at all. What other fields a
   * class has is not looked at: see `decode`.
   * @par Errors
   * `truncated`, `bad_msgpack`, `trailing_bytes`, `not_a_map`, `bad_key`, `too_many_fields`,
   * `duplicate_field`, `missing_field`, `bad_field`, `bad_utf8`.
   */
  static boost::system::result<Message> parse(std::string bytes) {
    Message message(std::move(bytes));
    if (const auto read = message.read(); !read) {
      return read.error();
    }
    return message;
  }

  /// The class, "PingReply" for one.
  std::string_view type() const noexcept { return at(type_); }
  /// Empty when there is none, or when it is nil (H22).
  std::string_view request_id() const noexcept { return at(fields_[request_id_field]); }
  /// The node that says it sent this; empty for what a researcher sends.
  std::string_view source() const noexcept { return at(fields_[node_id_field]); }
  /// The node that an overlay message is for; empty for any other class.
  std::string_view destination() const noexcept {
    return is_overlay() ? at(fields_[dest_node_id_field]) : std::string_view();
  }
  std::string_view protocol_version() const noexcept { return at(fields_[protocol_version_field]); }
  std::string_view researcher_id() const noexcept { return at(fields_[researcher_id_field]); }
  /// Whether this tells of an error: an ErrorMessage, or a reply without success.
  bool is_error() const noexcept { return failed_ || type() == "ErrorMessage"; }

  const std::string& bytes() const noexcept { return bytes_; }
  std::size_t size() const noexcept { return bytes_.size(); }

 private:
  /// Offsets, not views: a short string moves its characters when it is moved.
  struct Part {
    std::size_t offset = 0;
    std::size_t size = 0;
  };
  enum Field : std::size_t {
    protocol_version_field,
    request_id_field,
    researcher_id_field,
    node_id_field,
    dest_node_id_field,
  };
  static constexpr std::array<std::string_view, 5> names{
      "protocol_version", "request_id", "researcher_id", "node_id", "dest_node_id"};

  explicit Message(std::string bytes) noexcept : bytes_(std::move(bytes)) {}

  bool is_overlay() const noexcept { return type() == "OverlayMessage"; }
  std::string_view at(Part part) const noexcept {
    return std::string_view(bytes_).substr(part.offset, part.size);
  }
  Part part_of(std::string_view view) const noexcept {
    return {static_cast<std::size_t>(view.data() - bytes_.data()), view.size()};
  }

  boost::system::result<void> read() {
    MsgpackReader reader(bytes_);
    const auto map = reader.next();
    if (!map) {
      return map.error();
    }
    if (map->kind != MsgpackKind::map) {
      return make_error_code(errc::not_a_map);
    }
    const auto count = map->children / 2;
    if (count > max_fields) {
      return make_error_code(errc::too_many_fields);
    }
    std::array<std::string_view, max_fields> keys;
    for (std::size_t i = 0; i < count; ++i) {
      const auto key = reader.next();
      if (!key) {
        return key.error();
      }
      if (key->kind != MsgpackKind::string) {
        return make_error_code(errc::bad_key);
      }
      const auto known = keys.begin() + static_cast<std::ptrdiff_t>(i);
      if (std::find(keys.begin(), known, key->bytes) != known) {
        return make_error_code(errc::duplicate_field);
      }
      *known = key->bytes;
      if (const auto taken = read_field(key->bytes, reader); !taken) {
        return taken.error();
      }
    }
    if (!reader.at_end()) {
      return make_error_code(errc::trailing_bytes);
    }
    if (type().empty() || protocol_version().empty() || (is_overlay() && destination().empty())) {
      return make_error_code(errc::missing_field);
    }
    return {};
  }

  boost::system::result<void> read_field(std::string_view name, MsgpackReader& reader) {
    if (name == type_field) {
      return read_type(reader);
    }
    if (name == "success") {
      auto ahead = reader;
      const auto value = ahead.next();
      failed_ = value && value->kind == MsgpackKind::boolean && !value->truth;
      return reader.skip();
    }
    const auto* const known = std::find(names.begin(), names.end(), name);
    if (known == names.end()) {
      return reader.skip();
    }
    const auto field = static_cast<std::size_t>(known - names.begin());
    return read_string(reader, fields_[field], field == request_id_field);
  }

  boost::system::result<void> read_string(MsgpackReader& reader, Part& part, bool nullable) {
    const auto value = reader.next();
    if (!value) {
      return value.error();
    }
    if (nullable && value->kind == MsgpackKind::nil) {
      return {};
    }
    if (value->kind != MsgpackKind::string) {
      return make_error_code(errc::bad_field);
    }
    if (!is_utf8(value->bytes)) {
      return make_error_code(errc::bad_utf8);
    }
    part = part_of(value->bytes);
    return {};
  }

  // {"module": …, "class": …}; the module is ignored, as the nodes do.
  boost::system::result<void> read_type(MsgpackReader& reader) {
    const auto map = reader.next();
    if (!map) {
      return map.error();
    }
    if (map->kind != MsgpackKind::map) {
      return make_error_code(errc::bad_field);
    }
    bool found = false;
    for (std::uint64_t i = 0; i < map->children; i += 2) {
      const auto key = reader.next();
      if (!key) {
        return key.error();
      }
      if (key->kind != MsgpackKind::string) {
        return make_error_code(errc::bad_key);
      }
      if (key->bytes != "class") {
        if (const auto skipped = reader.skip(); !skipped) {
          return skipped.error();
        }
        continue;
      }
      if (std::exchange(found, true)) {
        return make_error_code(errc::duplicate_field);
      }
      if (const auto taken = read_string(reader, type_, false); !taken) {
        return taken.error();
      }
    }
    return {};
  }

  std::string bytes_;
  std::array<Part, names.size()> fields_{};
  Part type_{};
  bool failed_ = false;
};

}  // namespace fedagent::fedbiomed
