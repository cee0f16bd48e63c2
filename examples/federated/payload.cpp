#include "payload.hpp"

#include <array>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <type_traits>
#include <utility>
#include <vector>

#include <fmt/core.h>

namespace federated {

namespace {

constexpr std::string_view magic = "FEDM";
constexpr std::uint8_t version = 1;

// The kind byte is the position in Content, so a new kind goes to the end.
constexpr std::array<std::string_view, std::variant_size_v<Content>> kind_names = {
    "statistics task", "statistics reply", "train task", "train reply",
    "final task",      "final reply",      "refusal"};

template <std::unsigned_integral Number>
void write_number(std::string& bytes, Number number) {
  for (std::size_t i = 0; i < sizeof(Number); ++i) {
    bytes.push_back(static_cast<char>(static_cast<unsigned char>(number >> (8 * i))));
  }
}

// Writer and Reader have the same members, so that one function per kind, fields(), says the order
// for both.
class Writer {
 public:
  std::string bytes;

  void field(std::uint32_t number, std::string_view) { write_number(bytes, number); }
  void field(std::uint64_t number, std::string_view) { write_number(bytes, number); }
  void field(double number, std::string_view) {
    write_number(bytes, std::bit_cast<std::uint64_t>(number));
  }
  void field(const std::vector<double>& numbers, std::string_view what) {
    write_number(bytes, static_cast<std::uint32_t>(numbers.size()));
    for (const double number : numbers) {
      field(number, what);
    }
  }
  void field(const std::string& text, std::string_view) {
    write_number(bytes, static_cast<std::uint32_t>(text.size()));
    bytes += text;
  }
};

class Reader {
 public:
  Reader(std::string_view bytes, std::string_view kind) : bytes_(bytes), kind_(kind) {}

  [[noreturn]] void complain(const std::string& what) const {
    throw PayloadError(fmt::format("payload ({}): {}", kind_, what));
  }

  void field(std::uint32_t& number, std::string_view what) {
    number = take_number<std::uint32_t>(what);
  }
  void field(std::uint64_t& number, std::string_view what) {
    number = take_number<std::uint64_t>(what);
  }
  void field(double& number, std::string_view what) {
    number = std::bit_cast<double>(take_number<std::uint64_t>(what));
    if (!std::isfinite(number)) {
      complain(fmt::format("the {} holds a number that is not finite", what));
    }
  }
  void field(std::vector<double>& numbers, std::string_view what) {
    const auto size = take_number<std::uint32_t>(what);
    require(std::size_t{size} * 8, what);  // before any memory is asked for
    numbers.resize(size);
    for (double& number : numbers) {
      field(number, what);
    }
  }
  void field(std::string& text, std::string_view what) {
    const auto size = take_number<std::uint32_t>(what);
    text = std::string(take(size, what));
  }

  void finish() const {
    if (!bytes_.empty()) {
      complain(fmt::format("{} bytes too many", bytes_.size()));
    }
  }

 private:
  void require(std::size_t size, std::string_view what) const {
    if (bytes_.size() < size) {
      complain(
          fmt::format("cut short: the {} needs {} bytes, {} are left", what, size, bytes_.size()));
    }
  }
  std::string_view take(std::size_t size, std::string_view what) {
    require(size, what);
    const auto taken = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return taken;
  }
  template <std::unsigned_integral Number>
  Number take_number(std::string_view what) {
    const auto taken = take(sizeof(Number), what);
    Number number = 0;
    for (std::size_t i = 0; i < sizeof(Number); ++i) {
      number |= static_cast<Number>(Number{static_cast<unsigned char>(taken[i])} << (8 * i));
    }
    return number;
  }

  std::string_view bytes_;
  std::string_view kind_;
};

// The fields of each kind. `Self` is const for the writer and not for the reader.
template <class Self, class Kind>
concept is = std::same_as<std::remove_const_t<Self>, Kind>;

void fields(auto&, is<StatisticsTask> auto&) {}
void fields(auto& io, is<StatisticsReply> auto& reply) {
  io.field(reply.statistics.count, "number of rows");
  io.field(reply.statistics.mean, "list of means");
  io.field(reply.statistics.squares, "list of squares");
}
void fields(auto& io, is<TrainTask> auto& task) {
  io.field(task.options.epochs, "number of epochs");
  io.field(task.options.learning_rate, "learning rate");
  io.field(task.options.l2, "l2 strength");
  io.field(task.scaling.mean, "list of means");
  io.field(task.scaling.deviation, "list of deviations");
  io.field(task.model, "model");
}
void fields(auto& io, is<TrainReply> auto& reply) {
  io.field(reply.update.rows, "number of rows");
  io.field(reply.update.model, "model");
}
void fields(auto& io, is<FinalTask> auto& task) {
  io.field(task.scaling.mean, "list of means");
  io.field(task.scaling.deviation, "list of deviations");
  io.field(task.model, "model");
}
void fields(auto& io, is<FinalReply> auto& reply) { io.field(reply.accuracy, "accuracy"); }
void fields(auto& io, is<Refusal> auto& refusal) { io.field(refusal.reason, "reason"); }

// Checks that a kind's fields fit together. Sizes that depend on somebody's file are checked by who
// has the file.
void check(const Reader&, const StatisticsTask&) {}
void check(const Reader& reader, const StatisticsReply& reply) {
  const auto& [count, mean, squares] = reply.statistics;
  if (count == 0) {
    reader.complain("statistics of no rows");
  }
  if (mean.size() != squares.size()) {
    reader.complain(fmt::format("{} means but {} squares", mean.size(), squares.size()));
  }
  for (const double sum : squares) {
    if (sum < 0.0) {
      reader.complain(fmt::format("a sum of squares is negative: {}", sum));
    }
  }
}
void check_model(const Reader& reader, const Scaling& scaling, const Model& model) {
  const auto features = scaling.mean.size();
  if (scaling.deviation.size() != features) {
    reader.complain(fmt::format("{} means but {} deviations", features, scaling.deviation.size()));
  }
  if (model.size() != features + 1) {
    reader.complain(fmt::format("{} features need a model of {} numbers, not {}", features,
                                features + 1, model.size()));
  }
  for (const double deviation : scaling.deviation) {
    if (deviation <= 0.0) {
      reader.complain(fmt::format("a deviation is not positive: {}", deviation));
    }
  }
}
void check(const Reader& reader, const TrainTask& task) {
  check_model(reader, task.scaling, task.model);
}
void check(const Reader& reader, const TrainReply& reply) {
  if (reply.update.rows == 0) {
    reader.complain("a model trained on no rows");
  }
}
void check(const Reader& reader, const FinalTask& task) {
  check_model(reader, task.scaling, task.model);
}
void check(const Reader& reader, const FinalReply& reply) {
  if (reply.accuracy < 0.0 || reply.accuracy > 1.0) {
    reader.complain(fmt::format("an accuracy of {} is not between 0 and 1", reply.accuracy));
  }
}
void check(const Reader&, const Refusal&) {}

template <class Kind>
Content read_kind(Reader& reader) {
  Kind kind;
  fields(reader, kind);
  check(reader, kind);
  return kind;
}

template <std::size_t... Index>
Content read_content(Reader& reader, std::size_t kind, std::index_sequence<Index...>) {
  using ReadKind = Content (*)(Reader&);
  static constexpr std::array<ReadKind, sizeof...(Index)> read = {
      &read_kind<std::variant_alternative_t<Index, Content>>...};
  return read[kind](reader);
}

}  // namespace

std::string encode(const Payload& payload) {
  Writer writer;
  writer.bytes = magic;
  write_number(writer.bytes, version);
  write_number(writer.bytes, static_cast<std::uint8_t>(payload.content.index()));
  writer.field(payload.round, "round");
  std::visit([&writer](const auto& content) { fields(writer, content); }, payload.content);
  return std::move(writer.bytes);
}

Payload decode(std::string_view bytes) {
  constexpr auto head = magic.size() + 2;
  if (!bytes.starts_with(magic)) {
    throw PayloadError(
        fmt::format("payload: {} bytes that do not begin with {}", bytes.size(), magic));
  }
  if (bytes.size() < head) {
    throw PayloadError(fmt::format("payload: cut short after {} bytes", bytes.size()));
  }
  const auto found_version = static_cast<unsigned char>(bytes[magic.size()]);
  if (found_version != version) {
    throw PayloadError(
        fmt::format("payload: version {} found, this program speaks {}", found_version, version));
  }
  const auto kind = static_cast<unsigned char>(bytes[magic.size() + 1]);
  if (kind >= kind_names.size()) {
    throw PayloadError(fmt::format("payload: kind {} is unknown", kind));
  }

  Reader reader(bytes.substr(head), kind_names[kind]);
  Payload payload;
  reader.field(payload.round, "round");
  payload.content =
      read_content(reader, kind, std::make_index_sequence<std::variant_size_v<Content>>{});
  reader.finish();
  return payload;
}

}  // namespace federated
