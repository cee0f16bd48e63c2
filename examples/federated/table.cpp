#include "table.hpp"

#include <algorithm>
#include <cstddef>
#include <stdexcept>
#include <utility>

#include <fmt/core.h>

namespace federated {

namespace {

constexpr auto* gap = "  ";

std::string without_trailing_spaces(std::string line) {
  line.erase(line.find_last_not_of(' ') + 1);
  return line;
}

}  // namespace

Table::Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

void Table::add_row(std::vector<std::string> cells) {
  if (cells.size() != columns_.size()) {
    throw std::invalid_argument(
        fmt::format("table: {} cells for {} columns", cells.size(), columns_.size()));
  }
  rows_.push_back(std::move(cells));
}

std::string Table::text() const {
  std::vector<std::string> titles;
  std::vector<std::string> rules;
  std::vector<std::size_t> widths;
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    std::size_t width = columns_[i].title.size();
    for (const auto& row : rows_) {
      width = std::max(width, row[i].size());
    }
    titles.push_back(columns_[i].title);
    rules.emplace_back(width, '-');
    widths.push_back(width);
  }

  const auto line_of = [this, &widths](const std::vector<std::string>& cells) {
    std::string line;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      line += gap;
      line += columns_[i].align == Align::left ? fmt::format("{:<{}}", cells[i], widths[i])
                                               : fmt::format("{:>{}}", cells[i], widths[i]);
    }
    return without_trailing_spaces(std::move(line)) + '\n';
  };

  std::string text = line_of(titles) + line_of(rules);
  for (const auto& row : rows_) {
    text += line_of(row);
  }
  return text;
}

}  // namespace federated
