// Logistic regression for two classes, and the standardisation of features that it needs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "dataset.hpp"

namespace federated {

/// What a hospital tells about each feature: never a row. `squares` is the sum of squared distances
/// from the hospital's *own* mean. (Plain sums of squares would do on paper, but lose digits when
/// the mean is large.)
struct Statistics {
  std::uint64_t count = 0;
  std::vector<double> mean;
  std::vector<double> squares;
};

Statistics statistics_of(const Dataset& data);

/// The statistics of both sets of rows together, exactly as if they had been pooled (Chan, Golub,
/// LeVeque 1979). Throws std::invalid_argument when the numbers of features differ.
Statistics merged(const Statistics& left, const Statistics& right);

/// How to bring every feature to mean 0 and deviation 1. All hospitals and the researcher use the
/// same one.
struct Scaling {
  std::vector<double> mean;
  std::vector<double> deviation;  ///< 1 for a feature that is the same in all rows.
};

/// Throws std::invalid_argument when no row was counted.
Scaling scaling_from(const Statistics& statistics);

/// Throws std::invalid_argument when the numbers of features differ.
Dataset standardised(Dataset data, const Scaling& scaling);

/// Weights of the features, then the bias as last element: averaging two models is averaging two
/// vectors.
using Model = std::vector<double>;

inline Model zero_model(std::size_t features) { return Model(features + 1, 0.0); }

struct TrainOptions {
  std::uint32_t epochs = 5;  ///< Passes over the rows.
  double learning_rate = 0.1;
  double l2 = 0.001;  ///< Strength of the pull of the weights (not of the bias) towards 0.
};

/// Gradient descent over all rows from `model` on; the data are standardised.
Model train(Model model, const Dataset& data, const TrainOptions& options);

/// Probability that a standardised row belongs to class 1.
double predict(const Model& model, std::span<const double> row);

/// Share of the rows, between 0 and 1, whose class the model tells right.
double accuracy(const Model& model, const Dataset& data);

}  // namespace federated
