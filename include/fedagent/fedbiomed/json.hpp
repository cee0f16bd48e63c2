#pragma once

#include <boost/system/result.hpp>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fedagent/fedbiomed/error.hpp"
#include "fedagent/fedbiomed/msgpack.hpp"
#include "fedagent/fedbiomed/utf8.hpp"

namespace fedagent::fedbiomed {

/// What a value inside a message is to a program.
using Json = nlohmann::json;

/// How deeply arrays and maps may be nested. msgpack's packer for Python makes none deeper.
inline constexpr std::size_t max_nesting = 511;

namespace detail {

inline Json to_json(const MsgpackValue& value) {
  switch (value.kind) {
    case MsgpackKind::nil:
      return nullptr;
    case MsgpackKind::boolean:
      return value.truth;
    case MsgpackKind::integer:
      return value.negative ? Json(static_cast<std::int64_t>(value.integer)) : Json(value.integer);
    case MsgpackKind::floating:
      return value.floating;
    case MsgpackKind::string:
      return std::string(value.bytes);
    case MsgpackKind::binary:
      return Json::binary({value.bytes.begin(), value.bytes.end()});
    case MsgpackKind::extension:
      return Json::binary({value.bytes.begin() + 1, value.bytes.end()},
                          static_cast<std::uint8_t>(value.bytes.front()));
    case MsgpackKind::array:
      return Json::array();
    case MsgpackKind::map:
      return Json::object();
  }
  return nullptr;
}

}  // namespace detail

/// Reads a value. Of a map's entries with one key the last one counts, as in Python.
/**
 * The codec of nlohmann::json takes stack for each level and bytes one by one; this does neither.
 * What is nested deeper than `max_nesting` is `too_deep`, and not followed any further. Nothing is
 * set aside for what a map or an array says it has: memory grows with the bytes that are there.
 *
 * @par Errors
 * `truncated`, `bad_msgpack`, `too_deep`, `bad_key`, `bad_utf8`.
 */
inline boost::system::result<Json> read_json(MsgpackReader& reader) {
  struct Open {
    Json* container;
    std::uint64_t left;
  };
  Json root;
  std::vector<Open> open;
  Json* slot = &root;
  for (;;) {
    const auto value = reader.next();
    if (!value) {
      return value.error();
    }
    if (value->kind == MsgpackKind::string && !is_utf8(value->bytes)) {
      return make_error_code(errc::bad_utf8);
    }
    if (slot == nullptr) {  // a key
      if (value->kind != MsgpackKind::string) {
        return make_error_code(errc::bad_key);
      }
      slot = &(*open.back().container)[std::string(value->bytes)];
    } else {
      *slot = detail::to_json(*value);
      if (value->kind == MsgpackKind::array || value->kind == MsgpackKind::map) {
        if (open.size() == max_nesting) {
          return make_error_code(errc::too_deep);
        }
        open.push_back({slot, value->children});
      }
      while (!open.empty() && open.back().left == 0) {
        open.pop_back();
      }
    }
    if (open.empty()) {
      return root;
    }
    auto& [container, left] = open.back();
    --left;
    if (container->is_array()) {
      slot = &container->emplace_back();
    } else if (left % 2 == 1) {
      slot = nullptr;
    }
  }
}

}  // namespace fedagent::fedbiomed
