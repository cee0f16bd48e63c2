// Message::parse sees what nlohmann's codec sees: it takes a message when, and only when, that
// codec takes it and what it makes of it has what a message must have; and the fields are the same.
// read_json makes the same value of it. What `decode` takes, `encode` gives back.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "fedagent/fedbiomed/message.hpp"
#include "fedagent/fedbiomed/replies.hpp"
#include "fuzz/support.hpp"

namespace fedbiomed = fedagent::fedbiomed;
using fedbiomed::errc;
using fedbiomed::Json;
using fedbiomed::Message;
using fuzz::require;

namespace {

// nlohmann's codec takes stack for each level.
constexpr std::size_t max_size = 2000;

bool is_text(const Json& value) {
  if (!value.is_string()) {
    return false;
  }
  try {
    static_cast<void>(value.dump());
    return true;
  } catch (const Json::exception&) {
    return false;  // not UTF-8
  }
}

std::optional<std::string> text_in(const Json& map, const char* name) {
  const auto at = map.find(name);
  return at != map.end() && at->is_string() ? std::optional(at->get<std::string>()) : std::nullopt;
}

/// Whether the map is a message, by what c.5 says.
bool is_message(const Json& map) {
  if (!map.is_object() || map.size() > fedbiomed::max_fields) {
    return false;
  }
  for (const auto* name : {"protocol_version", "researcher_id", "node_id", "dest_node_id"}) {
    if (map.contains(name) && !is_text(map[name])) {
      return false;
    }
  }
  if (map.contains("request_id") && !map["request_id"].is_null() && !is_text(map["request_id"])) {
    return false;
  }
  const auto type = map.find("__type_message__");
  if (type == map.end() || !type->is_object() || !type->contains("class") ||
      !is_text((*type)["class"]) || (*type)["class"] == "") {
    return false;
  }
  if (text_in(map, "protocol_version").value_or("").empty()) {
    return false;
  }
  return (*type)["class"] != "OverlayMessage" || !text_in(map, "dest_node_id").value_or("").empty();
}

void compare(const Message& message, const Json& map) {
  const auto type = map["__type_message__"]["class"].get<std::string>();
  require(message.type() == type, "the class is the same");
  const auto same = [&](std::string_view seen, const char* name) {
    require(seen == text_in(map, name).value_or(""), name);
    require(fuzz::lies_within(seen, message.bytes()), "a field lies within the message");
  };
  same(message.request_id(), "request_id");
  same(message.source(), "node_id");
  same(message.protocol_version(), "protocol_version");
  same(message.researcher_id(), "researcher_id");
  if (type == "OverlayMessage") {
    same(message.destination(), "dest_node_id");
  } else {
    require(message.destination().empty(), "only an overlay message has a destination");
  }
  const auto success = map.find("success");
  const bool failed = success != map.end() && *success == false;
  require(message.is_error() == (failed || type == "ErrorMessage"), "an error is told as one");
}

std::string encoded(const Json& value) {
  std::string bytes;
  Json::to_msgpack(value, bytes);
  return bytes;
}

void compare_json(std::string_view input, const Json& theirs) {
  fedbiomed::MsgpackReader reader(input);
  const auto ours = fedbiomed::read_json(reader);
  if (theirs.is_discarded()) {
    require(!ours || !reader.at_end(), "what nlohmann refuses is refused");
  } else if (ours) {
    require(reader.at_end(), "the value is read to its end");
    // By their bytes, as a NaN is not the same as itself.
    require(encoded(*ours) == encoded(theirs), "the value is the same");
  } else {
    const auto error = ours.error();
    require(error == errc::bad_utf8 || error == errc::too_deep, "only these are refused besides");
  }
}

/// Whether a field that was decoded and encoded is what it was.
bool is_same(const Json& was, const Json& is) {
  // A bool is taken for an int; an empty request id becomes nil.
  const bool as_int = was.is_boolean() && is.is_number() && is == (was.get<bool>() ? 1 : 0);
  return as_int || (was == "" && is.is_null()) || encoded(was) == encoded(is);
}

template <class Class>
void encode_again(const Message& message, const Json& map, const Class& body) {
  const auto version = fedbiomed::parse_version(message.protocol_version());
  const fedbiomed::Head head{std::string(message.researcher_id()),
                             std::string(message.request_id()), *version};
  const auto again = encode(head, body);
  require(again.has_value(), "what was decoded can be encoded");
  const auto fields = Json::from_msgpack(again->bytes());
  for (const auto& [name, value] : fields.items()) {
    if (name != "__type_message__" && map.contains(name)) {
      require(is_same(map[name], value), "each field is what it was");
    }
  }
  const auto back = fedbiomed::decode<Class>(*again);
  require(back.has_value(), "and decoded");
  require(encode(head, *back)->bytes() == again->bytes(), "and is the same");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size > max_size) {
    return -1;
  }
  const auto input = fuzz::text_of(data, size);
  const auto map = Json::from_msgpack(input, true, false);
  const auto message = Message::parse(std::string(input));
  compare_json(input, map);
  if (map.is_discarded()) {
    if (message) {
      // In a part that `parse` steps over a key may be anything, and so may a text. What comes
      // after the first of them read_json does not see.
      fedbiomed::MsgpackReader reader(input);
      const auto error = fedbiomed::read_json(reader).error();
      require(error == errc::bad_key || error == errc::bad_utf8 || error == errc::too_deep,
              "it is well-formed MessagePack");
    }
    return 0;
  }
  if (message) {
    require(is_message(map), "only a message is taken");
    compare(*message, map);
    if (const auto reply = fedbiomed::decode_reply(*message)) {
      std::visit([&](const auto& body) { encode_again(*message, map, body); }, *reply);
    }
  } else if (message.error() != errc::duplicate_field) {  // which is lost on nlohmann
    require(!is_message(map), "a message is taken");
  }
  return 0;
}
