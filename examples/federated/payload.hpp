// What the researcher and a hospital say to each other, as the bytes of a message body.
//
// Every task carries all that a hospital needs for it (the scaling, the model, how to train), so a
// hospital keeps nothing between tasks: one that was killed and started again can take part in the
// very next round.
//
// Layout, little-endian: "FEDM", version (1 byte), kind (1 byte), round (4 bytes), then the fields
// of the kind; a list of numbers is its length (4 bytes) and then 8 bytes each, a text is its
// length and its bytes.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <variant>

#include "fedavg.hpp"
#include "logistic.hpp"

namespace federated {

/// Bytes that are not a payload. The text says what was expected and what was found.
class PayloadError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Researcher: tell me the statistics of your features.
struct StatisticsTask {};

/// Hospital: here they are.
struct StatisticsReply {
  Statistics statistics;
};

/// Researcher: train this model on your rows.
struct TrainTask {
  TrainOptions options;
  Scaling scaling;
  Model model;
};

/// Hospital: this is what became of it.
struct TrainReply {
  Update update;
};

/// Researcher: training is over; this is the model that we made together.
struct FinalTask {
  Scaling scaling;
  Model model;
};

/// Hospital: thank you; the model tells this share of my rows right.
struct FinalReply {
  double accuracy = 0.0;
};

/// Hospital: I cannot do this task, and why.
struct Refusal {
  std::string reason;
};

using Content = std::variant<StatisticsTask, StatisticsReply, TrainTask, TrainReply, FinalTask,
                             FinalReply, Refusal>;

struct Payload {
  std::uint32_t round = 0;  ///< 0 before and after the training rounds.
  Content content;
};

std::string encode(const Payload& payload);

/// Throws PayloadError for bytes that encode() did not make: foreign, of another version, cut
/// short, too long, or with numbers that no honest sender has (not finite, a deviation of 0, a
/// model trained on no rows).
Payload decode(std::string_view bytes);

}  // namespace federated
