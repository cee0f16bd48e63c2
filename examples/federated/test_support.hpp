// Small helpers of the tests.
#pragma once

#include <fmt/core.h>
#include <unistd.h>

#include <exception>
#include <filesystem>
#include <string>
#include <utility>

namespace federated::testing {

/// A directory that goes away with its contents at the end of the test.
class ScratchDirectory {
 public:
  ScratchDirectory() {
    static int number = 0;
    path_ = std::filesystem::temp_directory_path() /
            fmt::format("fedagent-parts-{}-{}", ::getpid(), ++number);
    std::filesystem::create_directories(path_);
  }
  ~ScratchDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;

  std::string file(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

/// The text of the `Error` that `action` throws; a text that no test expects when it throws none.
template <class Error, class Action>
std::string complaint_of(Action&& action) {
  try {
    std::forward<Action>(action)();
  } catch (const Error& error) {
    return error.what();
  }
  return "(no complaint)";
}

}  // namespace federated::testing
