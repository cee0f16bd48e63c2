#pragma once

#include <boost/system/error_code.hpp>
#include <boost/system/result.hpp>
#include <cstdint>
#include <string>
#include <string_view>

#include "fedagent/counters.hpp"
#include "fedagent/error.hpp"
#include "fedagent/transport/stream/frame.hpp"
#include "fedagent/transport/stream/message.hpp"

namespace fedagent::stream {

/// The first frame of a client.
struct Hello {
  /// The first four bytes of every connection's first payload: "FEDA".
  static constexpr std::uint32_t magic = 0x46454441;

  /// Tells one client object from another that has the same node id; a random number.
  std::uint64_t instance = 0;
  /// Counts the connections of that client.
  std::uint32_t attempt = 0;
  Limits limits{};
  std::string node_id{};
};

/// The server's answer to a hello that it accepts.
struct Welcome {
  Limits limits{};
  /// How often the client is to ping, in milliseconds.
  std::uint32_t ping_interval_ms = 0;
};

/// What a reply or an overlay message turned out to be.
using ReplyResult = boost::system::result<ReplyDisposition>;

namespace detail {

inline Bytes bytes_of(std::string_view text) noexcept {
  return {reinterpret_cast<const unsigned char*>(text.data()), text.size()};
}

class TextPacker {
 public:
  template <std::unsigned_integral U>
  TextPacker& put(U value) {
    unsigned char bytes[sizeof(U)];
    Packer(bytes).put(value);
    text_.append(reinterpret_cast<const char*>(bytes), sizeof(U));
    return *this;
  }
  TextPacker& put_text(std::string_view text) {
    text_.append(text);
    return *this;
  }
  std::string take() { return std::move(text_); }

 private:
  std::string text_;
};

enum class WireCategory : std::uint8_t { other = 0, core = 1, stream = 2 };

inline constexpr int last_core_errc = static_cast<int>(fedagent::errc::quota_exceeded);

// magic and version have this place in every version, so that another one can be told.
inline boost::system::error_code check_version(Unpacker& unpacker) noexcept {
  if (unpacker.take<std::uint32_t>() != Hello::magic) {
    return errc::not_fedagent;
  }
  if (unpacker.take<std::uint16_t>() != protocol_version) {
    return errc::unsupported_version;
  }
  return {};
}

}  // namespace detail

inline std::string encode(const Hello& hello) {
  return detail::TextPacker()
      .put(Hello::magic)
      .put(protocol_version)
      .put(hello.instance)
      .put(hello.attempt)
      .put(hello.limits.max_frame)
      .put(hello.limits.max_message)
      .put_text(hello.node_id)
      .take();
}

inline boost::system::result<Hello> decode_hello(std::string_view payload) {
  detail::Unpacker unpacker(detail::bytes_of(payload));
  if (const auto error = detail::check_version(unpacker)) {
    return error;
  }
  Hello hello;
  hello.instance = unpacker.take<std::uint64_t>();
  hello.attempt = unpacker.take<std::uint32_t>();
  hello.limits.max_frame = unpacker.take<std::uint32_t>();
  hello.limits.max_message = unpacker.take<std::uint64_t>();
  if (unpacker.ran_short() || hello.limits.max_frame < 4 * max_id_length) {
    return make_error_code(errc::malformed_payload);
  }
  hello.node_id = unpacker.take_rest();
  if (hello.node_id.size() > max_id_length) {
    return make_error_code(errc::id_too_long);
  }
  return hello;
}

inline std::string encode(const Welcome& welcome) {
  return detail::TextPacker()
      .put(Hello::magic)
      .put(protocol_version)
      .put(welcome.limits.max_frame)
      .put(welcome.limits.max_message)
      .put(welcome.ping_interval_ms)
      .take();
}

inline boost::system::result<Welcome> decode_welcome(std::string_view payload) {
  detail::Unpacker unpacker(detail::bytes_of(payload));
  if (const auto error = detail::check_version(unpacker)) {
    return error;
  }
  Welcome welcome;
  welcome.limits.max_frame = unpacker.take<std::uint32_t>();
  welcome.limits.max_message = unpacker.take<std::uint64_t>();
  welcome.ping_interval_ms = unpacker.take<std::uint32_t>();
  if (!unpacker.exact() || welcome.limits.max_frame < 4 * max_id_length ||
      welcome.ping_interval_ms == 0) {
    return make_error_code(errc::malformed_payload);
  }
  return welcome;
}

/// The payload of an error or a poll_end: where the code is from, the code, and a sentence for
/// whoever reads a capture. Errors that are neither of the core nor of this transport are internal.
inline std::string encode_error(boost::system::error_code error) {
  auto category = detail::WireCategory::stream;
  if (error.category() == fedagent::error_category()) {
    category = detail::WireCategory::core;
  } else if (error.category() != error_category()) {
    error = errc::internal;
  }
  return detail::TextPacker()
      .put(static_cast<std::uint8_t>(category))
      .put(static_cast<std::uint16_t>(error.value()))
      .put_text(error.message())
      .take();
}

/// The error that the peer reports; `malformed_payload` when that cannot be read.
inline boost::system::error_code decode_error(std::string_view payload) {
  detail::Unpacker unpacker(detail::bytes_of(payload));
  const auto category = unpacker.take<std::uint8_t>();
  const int value = unpacker.take<std::uint16_t>();
  if (unpacker.ran_short() || value == 0) {
    return errc::malformed_payload;
  }
  if (category == static_cast<std::uint8_t>(detail::WireCategory::core) &&
      value <= detail::last_core_errc) {
    return static_cast<fedagent::errc>(value);
  }
  if (category == static_cast<std::uint8_t>(detail::WireCategory::stream) &&
      value <= detail::last_errc) {
    return static_cast<errc>(value);
  }
  return errc::unknown_reason;
}

/// A disposition is one byte; an error is the byte 255 and an error payload.
inline std::string encode(const ReplyResult& result) {
  detail::TextPacker packer;
  if (result) {
    return packer.put(static_cast<std::uint8_t>(*result)).take();
  }
  return packer.put(std::uint8_t{255}).put_text(encode_error(result.error())).take();
}

/// @return What is wrong with the payload; no error: `result` is what the server said.
inline boost::system::error_code decode_reply_result(std::string_view payload,
                                                     ReplyResult& result) {
  const std::size_t first = payload.empty() ? 254 : static_cast<unsigned char>(payload.front());
  if (first == 255) {
    result = decode_error(payload.substr(1));
    return {};
  }
  if (payload.size() != 1 || first >= reply_dispositions) {
    return errc::malformed_payload;
  }
  result = static_cast<ReplyDisposition>(first);
  return {};
}

/// What became of an overlay message that was relayed.
struct RelayReceipt {
  /// The message's own, by which its source knows it.
  std::string request_id{};
  boost::system::result<void> result{};
};

/// The id with its length, then the byte 0, or the byte 255 and an error payload.
inline std::string encode(const RelayReceipt& receipt) {
  detail::TextPacker packer;
  packer.put(static_cast<std::uint16_t>(receipt.request_id.size())).put_text(receipt.request_id);
  if (receipt.result) {
    return packer.put(std::uint8_t{0}).take();
  }
  return packer.put(std::uint8_t{255}).put_text(encode_error(receipt.result.error())).take();
}

inline boost::system::result<RelayReceipt> decode_receipt(std::string_view payload) {
  detail::Unpacker unpacker(detail::bytes_of(payload));
  RelayReceipt receipt;
  receipt.request_id = unpacker.take_text(unpacker.take<std::uint16_t>());
  const auto kind = unpacker.take<std::uint8_t>();
  const std::string rest(unpacker.take_rest());
  if (unpacker.ran_short() || (kind != 255 && (kind != 0 || !rest.empty()))) {
    return make_error_code(errc::malformed_payload);
  }
  if (kind == 255) {
    receipt.result = decode_error(rest);
  }
  return receipt;
}

inline std::string encode(const Feedback& feedback) {
  return detail::TextPacker()
      .put(static_cast<std::uint16_t>(feedback.topic.size()))
      .put_text(feedback.topic)
      .put_text(feedback.body)
      .take();
}

inline boost::system::result<Feedback> decode_feedback(std::string_view payload) {
  detail::Unpacker unpacker(detail::bytes_of(payload));
  Feedback feedback;
  feedback.topic = unpacker.take_text(unpacker.take<std::uint16_t>());
  feedback.body = unpacker.take_rest();
  if (unpacker.ran_short()) {
    return make_error_code(errc::malformed_payload);
  }
  return feedback;
}

}  // namespace fedagent::stream
