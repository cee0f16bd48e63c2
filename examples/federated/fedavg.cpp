#include "fedavg.hpp"

#include <stdexcept>

#include <fmt/core.h>

namespace federated {

Model federated_average(std::span<const Update> updates) {
  if (updates.empty()) {
    throw std::invalid_argument("federated average: no updates");
  }
  double rows = 0.0;
  for (const auto& update : updates) {
    rows += static_cast<double>(update.rows);
  }
  if (rows <= 0.0) {
    throw std::invalid_argument("federated average: the updates stand for no rows");
  }

  Model result(updates.front().model.size(), 0.0);
  for (const auto& update : updates) {
    if (update.model.size() != result.size()) {
      throw std::invalid_argument(
          fmt::format("federated average: models of {} and {} numbers do not fit together",
                      result.size(), update.model.size()));
    }
    const double weight = static_cast<double>(update.rows) / rows;
    for (std::size_t j = 0; j < result.size(); ++j) {
      result[j] += weight * update.model[j];
    }
  }
  return result;
}

}  // namespace federated
