// Runs the whole thing on this machine: splits the rows into files, starts one researcher and five
// hospitals as processes of their own, and makes trouble. One hospital is killed in the middle of a
// round and comes back some rounds later, one crashes and is back at once, one is a straggler.
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "arguments.hpp"
#include "baselines.hpp"
#include "dataset.hpp"
#include "process.hpp"
#include "report.hpp"

namespace {

using namespace federated;
using namespace std::chrono_literals;
namespace asio = boost::asio;
namespace filesystem = std::filesystem;

constexpr std::size_t hospital_count = 5;
constexpr std::size_t leaver = 1;   // hospital-2 is killed and comes back some rounds later
constexpr std::size_t crasher = 2;  // hospital-3 is killed and started again at once
constexpr std::size_t straggler =
    3;  // hospital-4 takes longer than a round waits, every third time

struct Settings {
  std::string data = "examples/data/wdbc.csv";
  std::string out = "build/demo-run";
  std::uint64_t rounds = 30;
  std::uint64_t seed = SplitOptions{}.seed;
  std::chrono::milliseconds time_limit = 180s;
};

std::string name_of(std::size_t hospital) { return fmt::format("hospital-{}", hospital + 1); }

/// Writes a file for each hospital and one for the researcher, so that each process reads only what
/// is its own.
void prepare(const Settings& settings) {
  const auto all = read_dataset(settings.data);
  const auto split = split_dataset(all, {.hospitals = hospital_count, .seed = settings.seed});
  filesystem::create_directories(settings.out);
  write_dataset(settings.out + "/test.csv", split.test);
  std::vector<std::string> names;
  std::vector<std::size_t> sizes;
  for (std::size_t i = 0; i < hospital_count; ++i) {
    names.push_back(name_of(i));
    sizes.push_back(split.hospitals[i].rows());
    write_dataset(fmt::format("{}/{}.csv", settings.out, names.back()), split.hospitals[i]);
  }
  TrainOptions options;
  options.epochs *= static_cast<std::uint32_t>(settings.rounds);
  const auto baselines = baselines_of(split, names, options);
  write_baselines(settings.out + "/baselines.csv", baselines);
  fmt::print("demo: {} rows: {} for the hospitals, {} kept for the test\n", all.rows(),
             fmt::join(sizes, " + "), split.test.rows());
  fmt::print(
      "demo: trained on all hospitals' rows in one place, the model is right on {:.1f} % of the "
      "test rows\n",
      100.0 * baselines.pooled.accuracy);
}

/// The processes and the story. Everything happens on one io_context; handlers hold `this`, which
/// outlives it.
class Demo {
 public:
  explicit Demo(const Settings& settings)
      : settings_(settings),
        directory_(filesystem::read_symlink("/proc/self/exe").parent_path()),
        leaves_in_(story_round(8)),
        returns_after_(story_round(16)),
        crashes_in_(story_round(22)) {}

  int run() {
    wait_for_children();
    wait_for_interruption();
    begin_deadline(settings_.time_limit, "it takes too long");
    start_researcher();
    io_.run();
    return status_;
  }

 private:
  struct Hospital {
    std::shared_ptr<Process> process;
    std::ofstream log;
  };

  // The story is written for thirty rounds and shrinks with them.
  std::uint32_t story_round(std::uint64_t of_thirty) const {
    return static_cast<std::uint32_t>((of_thirty * settings_.rounds + 29) / 30);
  }

  std::string file(std::string_view name) const {
    return fmt::format("{}/{}", settings_.out, name);
  }
  std::string program(std::string_view name) const { return (directory_ / name).string(); }

  void start_researcher() {
    std::vector<std::string> words = {program("researcher"), "--listen", "127.0.0.1:0"};
    words.insert(words.end(), {"--nodes", fmt::format("{}", hospital_count)});
    words.insert(words.end(), {"--rounds", fmt::format("{}", settings_.rounds)});
    words.insert(words.end(), {"--quorum", "4", "--least", "3", "--grace", "0.3"});
    words.insert(words.end(), {"--round-deadline", "0.8", "--node-floor", "0.45"});
    words.insert(words.end(), {"--disconnect-after", "2", "--data", file("test.csv")});
    words.insert(words.end(), {"--baselines", file("baselines.csv"), "--out", settings_.out});
    researcher_ = Process::start(io_.get_executor(), words,
                                 {[this](std::string_view line) { on_researcher_line(line); },
                                  [this] { on_researcher_end(); }});
  }

  void start_hospital(std::size_t i) {
    std::vector<std::string> words = {program("hospital"),
                                      "--connect",
                                      endpoint_,
                                      "--id",
                                      name_of(i),
                                      "--data",
                                      file(name_of(i) + ".csv"),
                                      "--delay-ms",
                                      fmt::format("{}", 150 + 30 * i)};
    if (i == straggler) {
      words.insert(words.end(), {"--slow-ms", "1200", "--slow-every", "3"});
    }
    auto& hospital = hospitals_[i];
    if (!hospital.log.is_open()) {
      hospital.log.open(file(name_of(i) + ".log"));
    }
    hospital.process =
        Process::start(io_.get_executor(), words,
                       {[this, i](std::string_view line) { on_hospital_line(i, line); },
                        [this, i] { on_hospital_end(i); }});
  }

  void on_researcher_line(std::string_view line) {
    fmt::print("{}\n", line);
    if (const auto endpoint = listening_endpoint_of(line)) {
      endpoint_ = *endpoint;
      for (std::size_t i = 0; i < hospital_count; ++i) {
        start_hospital(i);
      }
    } else if (round_of(line) == returns_after_ && left_) {
      fmt::print("demo:     {} is started again\n", name_of(leaver));
      start_hospital(leaver);
    }
  }

  // A hospital says when it has taken a task. To kill it then is to kill it while it holds the
  // task.
  void on_hospital_line(std::size_t i, std::string_view line) {
    hospitals_[i].log << line << std::endl;
    const auto round = round_of(line);
    if (i == leaver && !left_ && round == leaves_in_) {
      left_ = true;
      fmt::print("demo:     {} is killed in round {}, while it holds the task\n", name_of(i),
                 *round);
      hospitals_[i].process->signal(SIGKILL);
    } else if (i == crasher && !crashed_ && round == crashes_in_) {
      crashed_ = true;
      fmt::print("demo:     {} is killed in round {}, and started again at once\n", name_of(i),
                 *round);
      hospitals_[i].process->signal(SIGKILL);
    }
  }

  void on_hospital_end(std::size_t i) {
    const int status = hospitals_[i].process->exit_status();
    if (i == crasher && crashed_ && !crasher_back_ && !ending_) {
      crasher_back_ = true;
      start_hospital(i);
    } else if (status != 0 && status != 128 + SIGKILL && !ending_) {
      fmt::print("demo:     {} ended with status {}, see {}\n", name_of(i), status,
                 file(name_of(i) + ".log"));
    }
    end_when_alone();
  }

  void on_researcher_end() {
    if (!ending_) {
      status_ = researcher_->exit_status();
      // The hospitals have the final model by now, or will never get it.
      end(1s);
    }
    end_when_alone();
  }

  /// Everybody is to end: by itself within `grace`, then asked to, then made to.
  void end(std::chrono::milliseconds grace) {
    ending_ = true;
    timer_.expires_after(grace);
    timer_.async_wait([this](boost::system::error_code error) {
      if (!error) {
        signal_all(SIGTERM);
        begin_deadline(2s, "a process does not end when asked to");
      }
    });
    end_when_alone();
  }

  void end_when_alone() {
    const auto runs = [](const std::shared_ptr<Process>& process) {
      return process && process->running();
    };
    if (ending_ && !runs(researcher_) &&
        std::none_of(hospitals_.begin(), hospitals_.end(),
                     [&](const Hospital& hospital) { return runs(hospital.process); })) {
      io_.stop();
    }
  }

  /// When the time is over, the rest is killed (by the destructor of Process) and the demo has
  /// failed.
  void begin_deadline(std::chrono::milliseconds time, std::string_view complaint) {
    timer_.expires_after(time);
    timer_.async_wait([this, complaint](boost::system::error_code error) {
      if (!error) {
        fmt::print(stderr, "demo: {}; the rest is killed\n", complaint);
        status_ = std::max(status_, 1);
        io_.stop();
      }
    });
  }

  void signal_all(int number) {
    if (researcher_) {
      researcher_->signal(number);
    }
    for (auto& hospital : hospitals_) {
      if (hospital.process) {
        hospital.process->signal(number);
      }
    }
  }

  void wait_for_children() {
    children_.async_wait([this](boost::system::error_code error, int) {
      if (error) {
        return;
      }
      wait_for_children();
      // Copies: a handler may start another process in the place of one that has ended.
      auto processes = std::vector{researcher_};
      for (const auto& hospital : hospitals_) {
        processes.push_back(hospital.process);
      }
      for (const auto& process : processes) {
        if (process) {
          process->reap();
        }
      }
    });
  }

  void wait_for_interruption() {
    interruption_.async_wait([this](boost::system::error_code error, int number) {
      if (!error) {
        fmt::print("demo: interrupted\n");
        status_ = 128 + number;
        signal_all(SIGTERM);
        end(2s);
      }
    });
  }

  const Settings settings_;
  const filesystem::path directory_;
  const std::uint32_t leaves_in_;
  const std::uint32_t returns_after_;
  const std::uint32_t crashes_in_;

  asio::io_context io_{1};
  asio::signal_set children_{io_, SIGCHLD};
  asio::signal_set interruption_{io_, SIGINT, SIGTERM};
  asio::steady_timer timer_{io_};
  std::shared_ptr<Process> researcher_;
  std::array<Hospital, hospital_count> hospitals_;
  std::string endpoint_;
  bool left_ = false;
  bool crashed_ = false;
  bool crasher_back_ = false;
  bool ending_ = false;
  int status_ = 0;
};

int run(const std::vector<std::string>& words) {
  Settings settings;
  Arguments arguments("demo",
                      "a federated training on this machine, one researcher and five hospitals");
  arguments.add("--data", "FILE", "The rows, which are split among the hospitals", settings.data);
  arguments.add("--out", "DIRECTORY", "Where the files of the run go; it is made", settings.out);
  arguments.add("--rounds", "N", "How many rounds of training", settings.rounds, 1, 10000);
  arguments.add("--seed", "N", "Decides how the rows are split", settings.seed, 0, UINT64_MAX);
  arguments.add("--time-limit", "SECONDS", "When to give up", settings.time_limit, 1, 86400);
  if (!arguments.parse(words)) {
    fmt::print("{}", arguments.help());
    return 0;
  }
  prepare(settings);
  return Demo(settings).run();
}

}  // namespace

int main(int argc, char** argv) { return guarded_main("demo", argc, argv, run); }
