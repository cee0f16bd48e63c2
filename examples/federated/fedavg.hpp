// Federated averaging: one model from the models of several hospitals.
#pragma once

#include <cstdint>
#include <span>

#include "logistic.hpp"

namespace federated {

/// What a hospital answers in a round.
struct Update {
  Model model;
  std::uint64_t rows = 0;  ///< How many rows it was trained on.
};

/// The mean of the models, each weighted by its rows (McMahan et al., 2017).
/// Throws std::invalid_argument when there are no updates, no rows, or models of different sizes.
Model federated_average(std::span<const Update> updates);

}  // namespace federated
