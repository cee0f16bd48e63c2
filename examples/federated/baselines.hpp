// What could be done without federation: the rows pooled in one place, or each hospital on its own.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "dataset.hpp"
#include "logistic.hpp"

namespace federated {

struct Baseline {
  std::string name;
  std::size_t rows = 0;
  double accuracy = 0.0;  ///< On the test rows.
};

/// Numbers only: the researcher may have these without having seen a row of a hospital.
struct Baselines {
  Baseline pooled;
  std::vector<Baseline> alone;
};

/// The accuracy of the model trained on `training`, standardised by its own statistics.
double accuracy_of_training(const Dataset& training, const Dataset& test,
                            const TrainOptions& options);

/// `options.epochs` is for the whole training: as many passes over each row as the rounds together
/// make.
/** `names` are those of the hospitals, in the order of the split. */
Baselines baselines_of(const Split& split, const std::vector<std::string>& names,
                       const TrainOptions& options);

/// One line each: `name,rows,accuracy`, the pooled one first.
void write_baselines(const std::string& path, const Baselines& baselines);

/// Throws DatasetError that names the file, the line and what was wrong.
Baselines read_baselines(const std::string& path);

}  // namespace federated
