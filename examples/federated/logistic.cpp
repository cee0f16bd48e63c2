#include "logistic.hpp"

#include <cmath>
#include <stdexcept>
#include <string_view>

#include <fmt/core.h>

namespace federated {

namespace {

void require_same(std::size_t left, std::size_t right, std::string_view what) {
  if (left != right) {
    throw std::invalid_argument(
        fmt::format("{}: {} and {} features do not fit together", what, left, right));
  }
}

}  // namespace

Statistics statistics_of(const Dataset& data) {
  Statistics result{data.rows(), std::vector<double>(data.features),
                    std::vector<double>(data.features)};
  for (std::size_t i = 0; i < data.rows(); ++i) {
    const auto row = data.row(i);
    for (std::size_t j = 0; j < row.size(); ++j) {  // Welford's update: no large sums
      const double before = row[j] - result.mean[j];
      result.mean[j] += before / static_cast<double>(i + 1);
      result.squares[j] += before * (row[j] - result.mean[j]);
    }
  }
  return result;
}

Statistics merged(const Statistics& left, const Statistics& right) {
  if (left.count == 0) {
    return right;
  }
  if (right.count == 0) {
    return left;
  }
  require_same(left.mean.size(), right.mean.size(), "statistics");
  const auto left_count = static_cast<double>(left.count);
  const auto right_count = static_cast<double>(right.count);
  const double count = left_count + right_count;
  Statistics result = left;
  result.count += right.count;
  for (std::size_t j = 0; j < result.mean.size(); ++j) {
    const double distance = right.mean[j] - left.mean[j];
    result.mean[j] += distance * right_count / count;
    result.squares[j] += right.squares[j] + distance * distance * left_count * right_count / count;
  }
  return result;
}

Scaling scaling_from(const Statistics& statistics) {
  if (statistics.count == 0) {
    throw std::invalid_argument("scaling: no rows were counted");
  }
  Scaling result{statistics.mean, {}};
  for (const double squares : statistics.squares) {
    const double deviation = std::sqrt(squares / static_cast<double>(statistics.count));
    result.deviation.push_back(deviation > 0.0 ? deviation : 1.0);
  }
  return result;
}

Dataset standardised(Dataset data, const Scaling& scaling) {
  require_same(data.features, scaling.mean.size(), "standardisation");
  for (std::size_t i = 0; i < data.values.size(); ++i) {
    const auto j = i % data.features;
    data.values[i] = (data.values[i] - scaling.mean[j]) / scaling.deviation[j];
  }
  return data;
}

double predict(const Model& model, std::span<const double> row) {
  double sum = model.back();
  for (std::size_t j = 0; j < row.size(); ++j) {
    sum += model[j] * row[j];
  }
  return 1.0 / (1.0 + std::exp(-sum));
}

Model train(Model model, const Dataset& data, const TrainOptions& options) {
  require_same(data.features + 1, model.size(), "training (with the bias)");
  const auto rows = static_cast<double>(data.rows());
  for (std::uint32_t epoch = 0; epoch < options.epochs; ++epoch) {
    Model gradient(model.size(), 0.0);
    for (std::size_t i = 0; i < data.rows(); ++i) {
      const auto row = data.row(i);
      const double error = predict(model, row) - data.labels[i];
      for (std::size_t j = 0; j < row.size(); ++j) {
        gradient[j] += error * row[j];
      }
      gradient.back() += error;
    }
    for (std::size_t j = 0; j < model.size(); ++j) {
      const double pull = j < data.features ? options.l2 * model[j] : 0.0;
      model[j] -= options.learning_rate * (gradient[j] / rows + pull);
    }
  }
  return model;
}

double accuracy(const Model& model, const Dataset& data) {
  std::size_t right = 0;
  for (std::size_t i = 0; i < data.rows(); ++i) {
    if ((predict(model, data.row(i)) >= 0.5) == (data.labels[i] == 1)) {
      ++right;
    }
  }
  return static_cast<double>(right) / static_cast<double>(data.rows());
}

}  // namespace federated
