#pragma once

#include <boost/system/error_category.hpp>
#include <boost/system/error_code.hpp>
#include <string>
#include <type_traits>

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

constexpr const char* describe(errc error) noexcept {
  switch (error) {
    case errc::bad_protobuf:
      return "the bytes are not a protobuf message";
    case errc::bad_utf8:
      return "a string is not UTF-8";
    case errc::bad_chunk_count:
      return "the number of chunks is not positive";
    case errc::bad_chunk_order:
      return "the chunk is not the one that comes next";
    case errc::chunk_size_changed:
      return "the chunk tells another number of chunks than the first one of its message";
    case errc::empty_chunk:
      return "the chunk has no bytes";
    case errc::message_too_large:
      return "the message is larger than the receiver allows";
    case errc::truncated:
      return "the bytes end in the middle of a value";
    case errc::bad_msgpack:
      return "a byte begins no MessagePack value";
    case errc::trailing_bytes:
      return "there are bytes after the message";
    case errc::too_deep:
      return "arrays and maps are nested too deeply";
    case errc::not_a_map:
      return "the message is not a map";
    case errc::bad_key:
      return "the name of a field is not a string";
    case errc::too_many_fields:
      return "the message has too many fields";
    case errc::duplicate_field:
      return "a field of the message is there twice";
    case errc::missing_field:
      return "a field of the message is missing";
    case errc::extra_field:
      return "the message has a field that its class does not have in this version";
    case errc::bad_field:
      return "a field of the message has a value of another type than its class has for it";
    case errc::inconsistent_fields:
      return "two fields of the message contradict each other";
    case errc::unknown_class:
      return "no message class has this name";
    case errc::unexpected_class:
      return "the message is of another class than the expected one";
    case errc::not_in_version:
      return "this version has no such message class";
    case errc::version_mismatch:
      return "the protocol version is not the expected one";
    case errc::bad_extra_type:
      return "the value is not a well-formed one of the expected extra type";
    case errc::bad_certificate:
      return "the certificate is not a PEM certificate";
    case errc::no_organization:
      return "the certificate has no organization (O), which must be the researcher id";
    case errc::other_organization:
      return "the organization (O) of the certificate is not the researcher id";
  }
  return "unknown fedagent.fedbiomed error";
}

inline constexpr int last_errc = static_cast<int>(errc::other_organization);

class ErrorCategory final : public boost::system::error_category {
 public:
  constexpr ErrorCategory() noexcept : error_category(0x51c7e0b94d2f6a83U) {}
  const char* name() const noexcept override { return "fedagent.fedbiomed"; }
  std::string message(int value) const override { return describe(static_cast<errc>(value)); }
};

inline constexpr ErrorCategory error_category_instance;

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
