#include "dataset.hpp"

#include <charconv>
#include <cmath>
#include <fstream>
#include <numeric>
#include <random>
#include <string_view>
#include <utility>

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "file.hpp"

namespace federated {

namespace {

/// Where in a file we are, so that every complaint can say it.
struct Place {
  const std::string& path;
  std::size_t line;

  [[noreturn]] void complain(const std::string& what) const {
    throw DatasetError(fmt::format("{}, line {}: {}", path, line, what));
  }
};

std::vector<std::string_view> cells_of(std::string_view line) {
  std::vector<std::string_view> cells;
  for (;;) {
    const auto comma = line.find(',');
    cells.push_back(line.substr(0, comma));
    if (comma == std::string_view::npos) {
      return cells;
    }
    line.remove_prefix(comma + 1);
  }
}

template <class Number>
Number number_of(std::string_view cell, std::string_view wanted, const Place& place) {
  Number number{};
  const auto* const end = cell.data() + cell.size();
  const auto [stop, error] = std::from_chars(cell.data(), end, number);
  if (error != std::errc{} || stop != end) {
    place.complain(fmt::format("{} expected, found '{}'", wanted, cell));
  }
  return number;
}

void read_row(std::string_view line, Dataset& data, const Place& place) {
  const auto cells = cells_of(line);
  if (cells.size() != data.features + 1) {
    place.complain(fmt::format("{} features and a label expected, found {} cells", data.features,
                               cells.size()));
  }
  for (std::size_t i = 0; i < data.features; ++i) {
    const auto value =
        number_of<double>(cells[i], fmt::format("a number in column {}", i + 1), place);
    if (!std::isfinite(value)) {
      place.complain(fmt::format("column {} is not finite: '{}'", i + 1, cells[i]));
    }
    data.values.push_back(value);
  }
  const auto label = number_of<int>(cells.back(), "a label", place);
  if (label != 0 && label != 1) {
    place.complain(fmt::format("label 0 or 1 expected, found {}", label));
  }
  data.labels.push_back(label);
}

// std::shuffle may differ from one standard library to the next; this does not. (Modulo is biased
// by less than 1e-16.)
std::vector<std::size_t> shuffled_rows(std::size_t rows, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::size_t> order(rows);
  std::iota(order.begin(), order.end(), std::size_t{0});
  for (std::size_t left = rows; left > 1; --left) {
    std::swap(order[left - 1], order[random() % left]);
  }
  return order;
}

Dataset empty_like(const Dataset& data) {
  Dataset result;
  result.classes = data.classes;
  result.features = data.features;
  return result;
}

Dataset rows_of(const Dataset& data, std::span<const std::size_t> rows) {
  Dataset result = empty_like(data);
  for (const auto row : rows) {
    result.append_row_of(data, row);
  }
  return result;
}

}  // namespace

void Dataset::append_row_of(const Dataset& other, std::size_t index) {
  const auto source = other.row(index);
  values.insert(values.end(), source.begin(), source.end());
  labels.push_back(other.labels[index]);
}

Dataset read_dataset(const std::string& path) {
  std::ifstream file(path);
  if (!file) {
    throw DatasetError(fmt::format("{}: cannot be opened for reading", path));
  }

  std::string line;
  std::size_t line_number = 0;
  const auto next_line = [&] {
    if (!std::getline(file, line)) {
      return false;
    }
    ++line_number;
    if (line.ends_with('\r')) {
      line.pop_back();  // a file that passed through Windows
    }
    return true;
  };

  Dataset data;
  if (!next_line()) {
    throw DatasetError(fmt::format("{}: is empty or cannot be read", path));
  }
  const auto head = cells_of(line);
  const Place first{path, line_number};
  if (head.size() != 4) {
    first.complain(
        fmt::format("'rows,features,class 0,class 1' expected, found {} cells", head.size()));
  }
  const auto rows = number_of<std::size_t>(head[0], "the number of rows", first);
  data.features = number_of<std::size_t>(head[1], "the number of features", first);
  if (rows == 0 || data.features == 0) {
    first.complain("rows and features must not be 0");
  }
  data.classes = {std::string(head[2]), std::string(head[3])};

  while (next_line()) {
    const Place place{path, line_number};
    if (data.rows() == rows) {
      place.complain(fmt::format("more than the {} rows that the first line announced", rows));
    }
    read_row(line, data, place);
  }
  if (data.rows() != rows) {
    throw DatasetError(fmt::format("{}: ends after {} rows, the first line announced {}", path,
                                   data.rows(), rows));
  }
  return data;
}

void write_dataset(const std::string& path, const Dataset& data) {
  std::string text =
      fmt::format("{},{},{}\n", data.rows(), data.features, fmt::join(data.classes, ","));
  for (std::size_t i = 0; i < data.rows(); ++i) {
    text += fmt::format("{},{}\n", fmt::join(data.row(i), ","), data.labels[i]);
  }
  write_file(path, text);
}

Split split_dataset(const Dataset& all, const SplitOptions& options) {
  if (options.hospitals == 0) {
    throw std::invalid_argument("split: at least one hospital is needed");
  }
  if (!(options.test_share > 0.0 && options.test_share < 1.0)) {
    throw std::invalid_argument(
        fmt::format("split: the test share must lie between 0 and 1, not {}", options.test_share));
  }
  const auto order = shuffled_rows(all.rows(), options.seed);
  const std::span<const std::size_t> rows(order);
  const auto test_rows =
      static_cast<std::size_t>(std::lround(options.test_share * static_cast<double>(all.rows())));
  const auto training = rows.subspan(test_rows);

  // Hospital i gets a share of (i + 1) / (1 + 2 + ... + n): unequal, and nobody is left without
  // rows by chance.
  Split result{rows_of(all, rows.first(test_rows)), {}};
  const auto shares = options.hospitals * (options.hospitals + 1) / 2;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < options.hospitals; ++i) {
    const auto end = training.size() * ((i + 1) * (i + 2) / 2) / shares;
    if (begin == end || test_rows == 0) {
      throw std::invalid_argument(
          fmt::format("split: {} rows are too few for {} hospitals and a test part", all.rows(),
                      options.hospitals));
    }
    result.hospitals.push_back(rows_of(all, training.subspan(begin, end - begin)));
    begin = end;
  }
  return result;
}

Dataset pooled(std::span<const Dataset> parts) {
  if (parts.empty()) {
    throw std::invalid_argument("pooled: nothing to pool");
  }
  Dataset result = empty_like(parts.front());
  for (const auto& part : parts) {
    if (part.features != result.features) {
      throw std::invalid_argument(
          fmt::format("pooled: parts with {} and {} features do not fit together", result.features,
                      part.features));
    }
    for (std::size_t i = 0; i < part.rows(); ++i) {
      result.append_row_of(part, i);
    }
  }
  return result;
}

}  // namespace federated
