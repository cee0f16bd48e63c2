#pragma once

#include <boost/system/error_code.hpp>
#include <boost/system/result.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>

#include "fedagent/fedbiomed/protobuf.hpp"

/// @file
/// What a node reports besides its replies: log lines and scalars (c.2).

namespace fedagent::fedbiomed {

/// A log line of a node.
struct Log {
  std::string node_id{};
  std::string level{};
  /// A JSON text whose member `message` is the log line.
  std::string msg{};
};

/// A metric of a training.
struct Scalar {
  std::string node_id{};
  std::string experiment_id{};
  bool train = false;
  bool test = false;
  bool test_on_local_updates = false;
  bool test_on_global_updates = false;
  std::map<std::string, float, std::less<>> metric{};
  std::optional<std::int32_t> epoch{};
  std::int32_t total_samples = 0;
  std::int32_t batch_samples = 0;
  std::int32_t num_batches = 0;
  std::optional<std::int32_t> num_samples_trained{};
  std::int32_t iteration = 0;
  /// Since version 6.
  std::string node_name{};
};

/// What a node reports besides its replies.
struct FeedbackMessage {
  std::string protocol_version{};
  std::optional<std::string> researcher_id{};
  std::variant<std::monostate, Scalar, Log> feedback{};
};

namespace detail {

inline bool read(std::string_view bytes, Log& log, boost::system::error_code& error) {
  return read_fields(bytes, error, [&](const ProtobufField& field) {
    if (field.is(1, WireType::bytes)) {
      take_text(field, log.node_id, error);
    } else if (field.is(2, WireType::bytes)) {
      take_text(field, log.level, error);
    } else if (field.is(3, WireType::bytes)) {
      take_text(field, log.msg, error);
    }
  });
}

inline void read_metric(std::string_view bytes, Scalar& scalar, boost::system::error_code& error) {
  std::string name;
  float value = 0;
  const bool whole = read_fields(bytes, error, [&](const ProtobufField& field) {
    if (field.is(1, WireType::bytes)) {
      take_text(field, name, error);
    } else if (field.is(2, WireType::fixed32)) {
      value = field.as_float();
    }
  });
  if (whole) {
    scalar.metric.insert_or_assign(std::move(name), value);
  }
}

inline bool read(std::string_view bytes, Scalar& scalar, boost::system::error_code& error) {
  const auto text = [&](const ProtobufField& field) {
    switch (field.number) {
      case 1:
        return take_text(field, scalar.node_id, error);
      case 2:
        return take_text(field, scalar.experiment_id, error);
      case 7:
        return read_metric(field.bytes_value, scalar, error);
      case 14:
        return take_text(field, scalar.node_name, error);
      default:
        return;
    }
  };
  const auto number = [&](const ProtobufField& field) {
    switch (field.number) {
      case 3:
        scalar.train = field.as_bool();
        break;
      case 4:
        scalar.test = field.as_bool();
        break;
      case 5:
        scalar.test_on_local_updates = field.as_bool();
        break;
      case 6:
        scalar.test_on_global_updates = field.as_bool();
        break;
      case 8:
        scalar.epoch = field.as_int32();
        break;
      case 9:
        scalar.total_samples = field.as_int32();
        break;
      case 10:
        scalar.batch_samples = field.as_int32();
        break;
      case 11:
        scalar.num_batches = field.as_int32();
        break;
      case 12:
        scalar.num_samples_trained = field.as_int32();
        break;
      case 13:
        scalar.iteration = field.as_int32();
        break;
      default:
        break;
    }
  };
  return read_fields(bytes, error, [&](const ProtobufField& field) {
    if (field.type == WireType::bytes) {
      text(field);
    } else if (field.type == WireType::varint) {
      number(field);
    }
  });
}

/// The member of the oneof that is read next: the one that is there, or a new one in its place.
template <class T>
T& member_of(FeedbackMessage& message) {
  auto* const there = std::get_if<T>(&message.feedback);
  return there != nullptr ? *there : message.feedback.emplace<T>();
}

inline std::string encode(const Log& log) {
  return ProtobufWriter().string(1, log.node_id).string(2, log.level).string(3, log.msg).take();
}

inline std::string encode(const Scalar& scalar) {
  constexpr auto always = ProtobufWriter::always;
  ProtobufWriter writer;
  writer.string(1, scalar.node_id)
      .string(2, scalar.experiment_id)
      .boolean(3, scalar.train)
      .boolean(4, scalar.test)
      .boolean(5, scalar.test_on_local_updates)
      .boolean(6, scalar.test_on_global_updates);
  for (const auto& [name, value] : scalar.metric) {
    writer.string(7, ProtobufWriter().string(1, name, always).float32(2, value).take(), always);
  }
  if (scalar.epoch) {
    writer.int32(8, *scalar.epoch, always);
  }
  writer.int32(9, scalar.total_samples)
      .int32(10, scalar.batch_samples)
      .int32(11, scalar.num_batches);
  if (scalar.num_samples_trained) {
    writer.int32(12, *scalar.num_samples_trained, always);
  }
  return writer.int32(13, scalar.iteration).string(14, scalar.node_name).take();
}

}  // namespace detail

/// @par Errors `bad_protobuf`, `bad_utf8`.
inline boost::system::result<FeedbackMessage> decode_feedback(std::string_view bytes) {
  FeedbackMessage message;
  boost::system::error_code error;
  const bool whole = detail::read_fields(bytes, error, [&](const detail::ProtobufField& field) {
    if (field.is(1, detail::WireType::bytes)) {
      detail::take_text(field, message.protocol_version, error);
    } else if (field.is(2, detail::WireType::bytes)) {
      detail::take_text(field, message.researcher_id.emplace(), error);
    } else if (field.is(3, detail::WireType::bytes)) {
      detail::read(field.bytes_value, detail::member_of<Scalar>(message), error);
    } else if (field.is(4, detail::WireType::bytes)) {
      detail::read(field.bytes_value, detail::member_of<Log>(message), error);
    }
  });
  if (!whole) {
    return error;
  }
  return message;
}

inline std::string encode(const FeedbackMessage& message) {
  constexpr auto always = detail::ProtobufWriter::always;
  detail::ProtobufWriter writer;
  writer.string(1, message.protocol_version);
  if (message.researcher_id) {
    writer.string(2, *message.researcher_id, always);
  }
  if (const auto* scalar = std::get_if<Scalar>(&message.feedback)) {
    writer.string(3, detail::encode(*scalar), always);
  } else if (const auto* log = std::get_if<Log>(&message.feedback)) {
    writer.string(4, detail::encode(*log), always);
  }
  return writer.take();
}

}  // namespace fedagent::fedbiomed
