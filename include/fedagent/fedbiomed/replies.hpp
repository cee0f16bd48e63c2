#pragma once

#include <boost/system/result.hpp>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <variant>

#include "fedagent/fedbiomed/codec.hpp"
#include "fedagent/fedbiomed/error.hpp"
#include "fedagent/fedbiomed/fields.hpp"
#include "fedagent/fedbiomed/message.hpp"
#include "fedagent/fedbiomed/reply_classes.hpp"

/// @file
/// What comes from a node, whatever it is.

namespace fedagent::fedbiomed {

/// The node could not do what it was asked, or could not read it: then without a request id (H22).
struct ErrorMessage {
  static constexpr std::string_view message_class = "ErrorMessage";
  std::string node_id{};
  std::string node_name{};
  std::string extra_msg{};
  /// A name, "FB300" for one.
  std::optional<std::string> errnum{};

  static constexpr auto fields() {
    using T = ErrorMessage;
    using detail::field;
    return std::tuple(detail::node_id_field<T>(), detail::node_name_field<T>(),
                      field("extra_msg", &T::extra_msg), field("errnum", &T::errnum));
  }
};

/// From node to node; what is inside is encrypted.
struct OverlayMessage {
  static constexpr std::string_view message_class = "OverlayMessage";
  static constexpr bool without_request_id = true;
  /// The source.
  std::string node_id{};
  std::string dest_node_id{};
  Bytes overlay{};
  bool setup = false;
  Bytes salt{};
  Bytes nonce{};

  static constexpr auto fields() {
    using T = OverlayMessage;
    using detail::field;
    return std::tuple(detail::node_id_field<T>(), field("dest_node_id", &T::dest_node_id),
                      field("overlay", &T::overlay), field("setup", &T::setup),
                      field("salt", &T::salt), field("nonce", &T::nonce));
  }
};

/// Any reply to a request.
using Reply = std::variant<PingReply, SearchReply, ListReply, ApprovalReply,
                           TrainingPlanStatusReply, TrainReply, FAReply, PreprocReply, SecaggReply,
                           AdditiveSSSetupReply, SecaggDeleteReply, ErrorMessage>;

namespace detail {

template <std::size_t I = 0>
boost::system::result<Reply> decode_reply_from(const Message& message, std::string_view* fault) {
  if constexpr (I == std::variant_size_v<Reply>) {
    return make_error_code(errc::unknown_class);
  } else {
    using Class = std::variant_alternative_t<I, Reply>;
    if (message.type() != Class::message_class) {
      return decode_reply_from<I + 1>(message, fault);
    }
    auto body = decode<Class>(message, fault);
    if (!body) {
      return body.error();
    }
    return Reply(*std::move(body));
  }
}

}  // namespace detail

/// Reads a reply of whatever class it is.
/** @par Errors `unknown_class` when it is none of `Reply`, and those of `decode`. */
inline boost::system::result<Reply> decode_reply(const Message& message,
                                                 std::string_view* fault = nullptr) {
  return detail::decode_reply_from(message, fault);
}

}  // namespace fedagent::fedbiomed
