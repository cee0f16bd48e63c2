#pragma once

#include <array>
#include <boost/system/error_category.hpp>
#include <boost/system/error_code.hpp>
#include <type_traits>

#include "fedagent/detail/error_category.hpp"

namespace fedagent::fedbiomed {

/// What is wrong with bytes of the Fed-BioMed wire, or with what is to become such bytes.
enum class errc {
  // What is wrong with a protobuf message.

  /// The bytes are not a protobuf message.
  bad_protobuf = 1,
  /// A string is not UTF-8.
  bad_utf8,

  // What is wrong with a sequence of chunks.

  /// The number of chunks that a chunk tells is not positive.
  bad_chunk_count,
  /// The chunk is not the one that comes next.
  bad_chunk_order,
  /// The chunk tells another number of chunks than the first one of its message.
  chunk_size_changed,
  /// The chunk has no bytes.
  empty_chunk,
  /// The message is larger than the receiver allows.
  message_too_large,

  // What is wrong with MessagePack.

  /// The bytes end in the middle of a value.
  truncated,
  /// A byte stands where a value begins, and begins none.
  bad_msgpack,
  /// There are bytes after the message.
  trailing_bytes,
  /// Arrays and maps are nested deeper than `max_nesting`.
  too_deep,

  // What is wrong with a message.

  /// The message is not a map.
  not_a_map,
  /// A name of a field is not a string.
  bad_key,
  /// The message has more fields than `max_fields`.
  too_many_fields,
  /// A field is there twice.
  duplicate_field,
  /// A field that the class must have is not there.
  missing_field,
  /// A field is there that the class does not have in this version.
  extra_field,
  /// The value of a field is not of the type that the class has for it.
  bad_field,
  /// Two fields contradict each other.
  inconsistent_fields,
  /// No message class has this name.
  unknown_class,
  /// The message is of another class than the one that was asked for.
  unexpected_class,
  /// The class is not there in this version.
  not_in_version,
  /// The version is not the one that was expected, or not one that is known here.
  version_mismatch,

  /// The value is not the extra type that was asked for, or not a well-formed one.
  bad_extra_type,

  // What is wrong with the certificate of a server.

  /// It is not a PEM certificate.
  bad_certificate,
  /// Its subject has no organization (O), which nodes take for the id of the researcher.
  no_organization,
  /// The organization is not the researcher id that the options name.
  other_organization,
};

namespace detail {

inline constexpr auto sentences = std::to_array<fedagent::detail::ErrorSentence<errc>>({
    {errc::bad_protobuf, "the bytes are not a protobuf message"},
    {errc::bad_utf8, "a string is not UTF-8"},
    {errc::bad_chunk_count, "the number of chunks is not positive"},
    {errc::bad_chunk_order, "the chunk is not the one that comes next"},
    {errc::chunk_size_changed,
     "the chunk tells another number of chunks than the first one of its message"},
    {errc::empty_chunk, "the chunk has no bytes"},
    {errc::message_too_large, "the message is larger than the receiver allows"},
    {errc::truncated, "the bytes end in the middle of a value"},
    {errc::bad_msgpack, "a byte begins no MessagePack value"},
    {errc::trailing_bytes, "there are bytes after the message"},
    {errc::too_deep, "arrays and maps are nested too deeply"},
    {errc::not_a_map, "the message is not a map"},
    {errc::bad_key, "the name of a field is not a string"},
    {errc::too_many_fields, "the message has too many fields"},
    {errc::duplicate_field, "a field of the message is there twice"},
    {errc::missing_field, "a field of the message is missing"},
    {errc::extra_field, "the message has a field that its class does not have in this version"},
    {errc::bad_field,
     "a field of the message has a value of another type than its class has for it"},
    {errc::inconsistent_fields, "two fields of the message contradict each other"},
    {errc::unknown_class, "no message class has this name"},
    {errc::unexpected_class, "the message is of another class than the expected one"},
    {errc::not_in_version, "this version has no such message class"},
    {errc::version_mismatch, "the protocol version is not the expected one"},
    {errc::bad_extra_type, "the value is not a well-formed one of the expected extra type"},
    {errc::bad_certificate, "the certificate is not a PEM certificate"},
    {errc::no_organization,
     "the certificate has no organization (O), which must be the researcher id"},
    {errc::other_organization, "the organization (O) of the certificate is not the researcher id"},
});
inline constexpr int last_errc = static_cast<int>(errc::other_organization);
static_assert(fedagent::detail::all_have_sentences<errc>(sentences, errc::other_organization));

inline constexpr fedagent::detail::ErrorCategory<errc> error_category_instance(0x51c7e0b94d2f6a83U,
                                                                               "fedagent.fedbiomed",
                                                                               sentences);

}  // namespace detail

/// The category of every `fedbiomed::errc`; its name is "fedagent.fedbiomed".
inline const boost::system::error_category& error_category() noexcept {
  return detail::error_category_instance;
}

inline boost::system::error_code make_error_code(errc error) noexcept {
  return {static_cast<int>(error), error_category()};
}

}  // namespace fedagent::fedbiomed

template <>
struct boost::system::is_error_code_enum<fedagent::fedbiomed::errc> : std::true_type {};
