#pragma once

#include <boost/system/result.hpp>
#include <concepts>
#include <cstddef>
#include <memory>
#include <string_view>
#include <type_traits>
#include <utility>

namespace fedagent {

namespace detail {

/// Whether a function of this result gives a view of what is kept elsewhere, and no string of its
/// own.
template <class T>
inline constexpr bool is_view = std::is_reference_v<T> || std::is_pointer_v<T> ||
                                std::is_same_v<std::remove_cv_t<T>, std::string_view>;

}  // namespace detail

/// What the library must know of a message. Specialise it for a type that you cannot change.
/**
 * The primary template reads members (data or functions without arguments) of the names below.
 * Only `request_id` is required.
 *
 * - `request_id`: the id that a reply carries back; empty when no reply is expected. That of an
 *   overlay message is its sender's: here it opens no request.
 * - `destination`: the node that an overlay message is to be relayed to; empty for any other
 * message.
 * - `source`: the node that the message says it comes from; empty when it does not say.
 * - `size`: what the message counts for in limits, in bytes. Without it: `sizeof(M)`.
 * - `is_error`: whether a reply tells of an error, for rounds. Without it: no reply does.
 *
 * @par Lifetimes
 * The views must stay valid and unchanged as long as the message lives: the reply table is keyed by
 * them.
 */
template <class M>
struct message_traits {
  static constexpr std::string_view request_id(const M& message)
    requires requires { std::string_view(message.request_id()); } ||
             requires { std::string_view(message.request_id); }
  {
    if constexpr (requires { message.request_id(); }) {
      static_assert(detail::is_view<decltype(message.request_id())>,
                    "fedagent: request_id() must return a view of a string that the message keeps");
      return message.request_id();
    } else {
      return message.request_id;
    }
  }

  static constexpr std::string_view destination(const M& message) {
    if constexpr (requires { std::string_view(message.destination()); }) {
      static_assert(
          detail::is_view<decltype(message.destination())>,
          "fedagent: destination() must return a view of a string that the message keeps");
      return message.destination();
    } else if constexpr (requires { std::string_view(message.destination); }) {
      return message.destination;
    } else {
      return {};
    }
  }

  static constexpr std::string_view source(const M& message) {
    if constexpr (requires { std::string_view(message.source()); }) {
      static_assert(detail::is_view<decltype(message.source())>,
                    "fedagent: source() must return a view of a string that the message keeps");
      return message.source();
    } else if constexpr (requires { std::string_view(message.source); }) {
      return message.source;
    } else {
      return {};
    }
  }

  static constexpr std::size_t size(const M& message) {
    if constexpr (requires { static_cast<std::size_t>(message.size()); }) {
      return static_cast<std::size_t>(message.size());
    } else {
      return sizeof(M);
    }
  }

  static constexpr bool is_error(const M& message) {
    if constexpr (requires { static_cast<bool>(message.is_error()); }) {
      return message.is_error();
    } else if constexpr (requires { static_cast<bool>(message.is_error); }) {
      return message.is_error;
    } else {
      return false;
    }
  }
};

/// A type whose `message_traits` tell the request id.
template <class M>
concept HasRequestId = requires(const M& message) {
  { message_traits<M>::request_id(message) } -> std::convertible_to<std::string_view>;
};

/// A type whose `message_traits` tell the destination, the source and the size.
template <class M>
concept HasMessageTraits = requires(const M& message) {
  { message_traits<M>::destination(message) } -> std::convertible_to<std::string_view>;
  { message_traits<M>::source(message) } -> std::convertible_to<std::string_view>;
  { message_traits<M>::size(message) } -> std::convertible_to<std::size_t>;
};

/// A type that agents can carry: movable, with `message_traits`.
template <class M>
concept Message = std::movable<M> && HasRequestId<M> && HasMessageTraits<M>;

namespace detail {

/// The id under which the reply to a message is awaited; empty: none is. That of an overlay message
/// is its sender's, and means nothing to the node it is relayed to (C5).
template <Message M>
constexpr std::string_view awaited_id(const M& message) {
  return std::string_view(message_traits<M>::destination(message)).empty()
             ? std::string_view(message_traits<M>::request_id(message))
             : std::string_view();
}

template <class M>
inline constexpr bool keeps_its_strings =
    is_view<decltype(message_traits<M>::request_id(std::declval<const M&>()))> &&
    is_view<decltype(message_traits<M>::destination(std::declval<const M&>()))> &&
    is_view<decltype(message_traits<M>::source(std::declval<const M&>()))>;

/// Whether a reply tells of an error; a specialisation of the traits need not say.
template <Message M>
constexpr bool is_error_reply(const M& message) {
  if constexpr (requires { static_cast<bool>(message_traits<M>::is_error(message)); }) {
    return message_traits<M>::is_error(message);
  } else {
    return false;
  }
}

}  // namespace detail

/// A message as it travels: shared and immutable, so that a broadcast holds one copy.
template <class M>
using MessagePtr = std::shared_ptr<const M>;

/// How a request ended: the reply, or the reason why there is none.
template <class M>
using Outcome = boost::system::result<MessagePtr<M>>;

}  // namespace fedagent
