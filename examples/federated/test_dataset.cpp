#include "dataset.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <limits>
#include <map>
#include <string>

#include "file.hpp"
#include "test_support.hpp"

namespace {

using namespace federated;
using federated::testing::complaint_of;
using federated::testing::ScratchDirectory;

/// What read_dataset() says about a file of this text, with the directory taken out.
std::string complaint_about(const std::string& text) {
  const ScratchDirectory directory;
  const auto path = directory.file("bad.csv");
  write_file(path, text);
  auto complaint = complaint_of<DatasetError>([&] { read_dataset(path); });
  if (const auto at = complaint.find(path); at != std::string::npos) {
    complaint.replace(at, path.size(), "bad.csv");
  }
  return complaint;
}

/// Row i holds i and -i, so that every row can be told from every other.
Dataset numbered_rows(std::size_t rows) {
  Dataset data{{"no", "yes"}, 2, {}, {}};
  for (std::size_t i = 0; i < rows; ++i) {
    data.values.insert(data.values.end(), {static_cast<double>(i), -static_cast<double>(i)});
    data.labels.push_back(static_cast<int>(i % 3 == 0));
  }
  return data;
}

}  // namespace

TEST_CASE("dataset: the shipped file reads as its description says") {
  const auto data = read_dataset(FEDERATED_WDBC);
  CHECK(data.rows() == 569);
  CHECK(data.features == 30);
  CHECK(data.classes == std::vector<std::string>{"malignant", "benign"});
  CHECK(std::count(data.labels.begin(), data.labels.end(), 0) == 212);
  CHECK(data.row(0)[0] == 17.99);
  CHECK(data.row(568).size() == 30);
}

TEST_CASE("dataset: what was written reads back exactly") {
  const ScratchDirectory directory;
  Dataset data{
      {"a", "b"}, 2, {0.1, 1e-300, std::numeric_limits<double>::max(), -1.0 / 3.0}, {1, 0}};
  write_dataset(directory.file("data.csv"), data);
  const auto back = read_dataset(directory.file("data.csv"));
  CHECK(back.values == data.values);
  CHECK(back.labels == data.labels);
  CHECK(back.classes == data.classes);
}

TEST_CASE("dataset: lines that end as on Windows are read") {
  const ScratchDirectory directory;
  write_file(directory.file("data.csv"), "1,1,a,b\r\n2.5,1\r\n");
  CHECK(read_dataset(directory.file("data.csv")).row(0)[0] == 2.5);
}

TEST_CASE("dataset: bad files are refused with file, line and reason") {
  CHECK(complaint_about("") == "bad.csv: is empty or cannot be read");
  CHECK(complaint_about("2,1,a\n") ==
        "bad.csv, line 1: 'rows,features,class 0,class 1' expected, found 3 cells");
  CHECK(complaint_about("many,1,a,b\n") ==
        "bad.csv, line 1: the number of rows expected, found 'many'");
  CHECK(complaint_about("2,-1,a,b\n") ==
        "bad.csv, line 1: the number of features expected, found '-1'");
  CHECK(complaint_about("0,1,a,b\n") == "bad.csv, line 1: rows and features must not be 0");
  CHECK(complaint_about("2,1,a,b\n1,0\n1,2,0\n") ==
        "bad.csv, line 3: 1 features and a label expected, found 3 cells");
  CHECK(complaint_about("1,2,a,b\n1,x,0\n") ==
        "bad.csv, line 2: a number in column 2 expected, found 'x'");
  CHECK(complaint_about("1,2,a,b\n1,,0\n") ==
        "bad.csv, line 2: a number in column 2 expected, found ''");
  CHECK(complaint_about("1,1,a,b\nnan,0\n") == "bad.csv, line 2: column 1 is not finite: 'nan'");
  CHECK(complaint_about("1,1,a,b\n1,2\n") == "bad.csv, line 2: label 0 or 1 expected, found 2");
  CHECK(complaint_about("1,1,a,b\n1,0.5\n") == "bad.csv, line 2: a label expected, found '0.5'");
  CHECK(complaint_about("2,1,a,b\n1,0\n") ==
        "bad.csv: ends after 1 rows, the first line announced 2");
  CHECK(complaint_about("1,1,a,b\n1,0\n2,1\n") ==
        "bad.csv, line 3: more than the 1 rows that the first line announced");
}

TEST_CASE("dataset: a file that is not there, or a directory, is refused by name") {
  const ScratchDirectory directory;
  const auto missing = directory.file("missing.csv");
  CHECK(complaint_of<DatasetError>([&] { read_dataset(missing); }) ==
        missing + ": cannot be opened for reading");
  CHECK(complaint_of<DatasetError>([&] {
          read_dataset(directory.file("."));
        }).ends_with(": is empty or cannot be read"));
}

TEST_CASE("file: a path that cannot be written is refused by name and reason") {
  const ScratchDirectory directory;
  const auto path = directory.file("missing/data.csv");
  CHECK(complaint_of<std::runtime_error>([&] { write_file(path, "x"); }) ==
        path + ": cannot be written: No such file or directory");
}

TEST_CASE("split: every row goes to exactly one part, and the parts are unequal") {
  const auto all = numbered_rows(200);
  const auto split = split_dataset(all, {.hospitals = 5, .test_share = 0.25, .seed = 7});
  CHECK(split.test.rows() == 50);
  REQUIRE(split.hospitals.size() == 5);

  std::map<double, int> seen;
  auto parts = split.hospitals;
  parts.push_back(split.test);
  for (const auto& part : parts) {
    CHECK(part.classes == all.classes);
    for (std::size_t i = 0; i < part.rows(); ++i) {
      ++seen[part.row(i)[0]];
      CHECK(part.row(i)[1] == -part.row(i)[0]);
      CHECK(part.labels[i] == all.labels[static_cast<std::size_t>(part.row(i)[0])]);
    }
  }
  CHECK(seen.size() == 200);
  CHECK(std::all_of(seen.begin(), seen.end(), [](const auto& entry) { return entry.second == 1; }));

  for (std::size_t i = 0; i < 5; ++i) {
    CHECK(split.hospitals[i].rows() == 10 * (i + 1));
  }
}

TEST_CASE("split: the seed decides, and decides the same everywhere") {
  const auto all = numbered_rows(100);
  const auto first = split_dataset(all, {.seed = 3});
  CHECK(split_dataset(all, {.seed = 3}).test.values == first.test.values);
  CHECK(split_dataset(all, {.seed = 4}).test.values != first.test.values);
  // Fixed numbers: a new compiler or standard library must not change the demo's data.
  CHECK(first.test.row(0)[0] == 58);
  CHECK(first.hospitals[4].row(0)[0] == 89);
}

TEST_CASE("split: options that make no sense are refused") {
  const auto all = numbered_rows(10);
  const auto complaint = [&all](const SplitOptions& options) {
    return complaint_of<std::invalid_argument>([&] { split_dataset(all, options); });
  };
  CHECK(complaint({.hospitals = 0}) == "split: at least one hospital is needed");
  CHECK(complaint({.test_share = 1.0}) == "split: the test share must lie between 0 and 1, not 1");
  CHECK(complaint({.test_share = 0.0}) == "split: the test share must lie between 0 and 1, not 0");
  CHECK(complaint({.test_share = std::numeric_limits<double>::quiet_NaN()}) ==
        "split: the test share must lie between 0 and 1, not nan");
  CHECK(complaint({.hospitals = 5}) ==
        "split: 10 rows are too few for 5 hospitals and a test part");
  CHECK(complaint({.hospitals = 1, .test_share = 0.01}) ==
        "split: 10 rows are too few for 1 hospitals and a test part");
}

TEST_CASE("pooled: all rows of all parts, in order") {
  const auto all = numbered_rows(60);
  const auto split = split_dataset(all, {.hospitals = 3});
  const auto pool = pooled(split.hospitals);
  CHECK(pool.rows() == 60 - split.test.rows());
  CHECK(pool.row(0)[0] == split.hospitals[0].row(0)[0]);
  CHECK(pool.labels.back() == split.hospitals[2].labels.back());

  const std::vector<Dataset> mixed = {all, Dataset{{"no", "yes"}, 1, {1.0}, {0}}};
  CHECK(complaint_of<std::invalid_argument>([&] { pooled(mixed); }) ==
        "pooled: parts with 2 and 1 features do not fit together");
  CHECK(complaint_of<std::invalid_argument>([] { pooled({}); }) == "pooled: nothing to pool");
}
