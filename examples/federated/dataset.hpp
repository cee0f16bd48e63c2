// Rows of numbers with one of two classes each: read from a file, written to one, split among
// hospitals.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace federated {

/// A file that cannot be used. The text names the file, the line, and what was wrong with it.
class DatasetError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct Dataset {
  std::vector<std::string> classes;  ///< The names of label 0 and label 1.
  std::size_t features = 0;
  std::vector<double> values;  ///< Row after row, `features` numbers each.
  std::vector<int> labels;     ///< One per row: 0 or 1.

  std::size_t rows() const { return labels.size(); }
  std::span<const double> row(std::size_t index) const {
    return std::span<const double>(values).subspan(index * features, features);
  }
  /// Appends a row of `other`, which has the same features.
  void append_row_of(const Dataset& other, std::size_t index);
};

/// Reads `rows,features,class 0,class 1` and then one line per row: the features and the label.
/// Throws DatasetError when the file is missing, cut short, or holds anything but finite numbers
/// and known labels.
Dataset read_dataset(const std::string& path);

/// Writes the form that read_dataset() reads; the numbers survive exactly.
void write_dataset(const std::string& path, const Dataset& data);

struct SplitOptions {
  std::size_t hospitals = 5;
  double test_share = 0.3;  ///< The part that the researcher keeps, between 0 and 1.
  std::uint64_t seed = 2;
};

struct Split {
  Dataset test;
  std::vector<Dataset> hospitals;
};

/// Deals the rows out: a test part, and unequal parts for the hospitals (the last has about
/// `hospitals` times as many rows as the first). The same seed gives the same split with every
/// compiler and standard library. Throws std::invalid_argument when an option is out of range or a
/// part would be empty.
Split split_dataset(const Dataset& all, const SplitOptions& options);

/// All the rows of several datasets in one.
Dataset pooled(std::span<const Dataset> parts);

}  // namespace federated
