#include "baselines.hpp"

#include <fmt/core.h>

#include <charconv>
#include <fstream>

#include "file.hpp"

namespace federated {

namespace {

template <class Number>
bool read_number(std::string_view text, Number& number) {
  const auto* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  return error == std::errc{} && stop == end;
}

std::string line_of(const Baseline& baseline) {
  return fmt::format("{},{},{}\n", baseline.name, baseline.rows, baseline.accuracy);
}

Baseline baseline_from(std::string_view line, const std::string& path, std::size_t number) {
  Baseline result;
  const auto second = line.rfind(',');
  const auto first =
      second == std::string_view::npos || second == 0 ? second : line.rfind(',', second - 1);
  if (first == std::string_view::npos || first == second ||
      !read_number(line.substr(first + 1, second - first - 1), result.rows) ||
      !read_number(line.substr(second + 1), result.accuracy) ||
      !(result.accuracy >= 0.0 && result.accuracy <= 1.0)) {
    throw DatasetError(
        fmt::format("{}, line {}: 'name,rows,accuracy' expected, found '{}'", path, number, line));
  }
  result.name = line.substr(0, first);
  return result;
}

}  // namespace

double accuracy_of_training(const Dataset& training, const Dataset& test,
                            const TrainOptions& options) {
  const auto scaling = scaling_from(statistics_of(training));
  const auto model = train(zero_model(training.features), standardised(training, scaling), options);
  return accuracy(model, standardised(test, scaling));
}

Baselines baselines_of(const Split& split, const std::vector<std::string>& names,
                       const TrainOptions& options) {
  const auto baseline_of = [&](const std::string& name, const Dataset& rows) {
    return Baseline{name, rows.rows(), accuracy_of_training(rows, split.test, options)};
  };
  Baselines result{baseline_of("pooled", pooled(split.hospitals)), {}};
  for (std::size_t i = 0; i < split.hospitals.size(); ++i) {
    result.alone.push_back(baseline_of(names.at(i), split.hospitals[i]));
  }
  return result;
}

void write_baselines(const std::string& path, const Baselines& baselines) {
  std::string text = line_of(baselines.pooled);
  for (const auto& baseline : baselines.alone) {
    text += line_of(baseline);
  }
  write_file(path, text);
}

Baselines read_baselines(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line)) {
    throw DatasetError(fmt::format("{}: is empty or cannot be read", path));
  }
  Baselines result{baseline_from(line, path, 1), {}};
  for (std::size_t number = 2; std::getline(file, line); ++number) {
    result.alone.push_back(baseline_from(line, path, number));
  }
  return result;
}

}  // namespace federated
