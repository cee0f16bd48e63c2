#pragma once

// What the three servers of the network benchmarks share: the command line, the requests, and the
// figures. None of it is what is compared.
#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace net {

using Clock = std::chrono::steady_clock;

/// Each node needs a file descriptor, and the hard limit may be lower than that.
inline void want_descriptors(std::size_t count) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur < count && count <= limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
  if (limit.rlim_cur < count) {
    std::fprintf(stderr,
                 "net: %zu file descriptors are needed, and the hard limit is %llu: raise it "
                 "(ulimit -Hn) or take fewer nodes\n",
                 count, static_cast<unsigned long long>(limit.rlim_max));
    std::exit(2);
  }
}

[[noreturn]] inline void give_up(std::string_view why) {
  std::fprintf(stderr, "net: %.*s\n", static_cast<int>(why.size()), why.data());
  std::exit(1);
}

/// The command line: `--name value`, each of them optional.
class Arguments {
 public:
  Arguments(int count, char** values) : values_(values + 1, values + count) {
    for (const auto& value : values_) {
      if (value == "--help") {
        std::puts(
            "--port P         where to listen or to connect; 0: any, printed as 'port N'\n"
            "--nodes N        how many nodes are waited for\n"
            "--payload B      bytes of each task and of each reply\n"
            "--outstanding K  tasks of each node that are on their way\n"
            "--warm-up S      seconds before the measured part\n"
            "--seconds S      of the measured part; 0: only look at the idle connections");
        std::exit(0);
      }
    }
  }

  double number(std::string_view name, double otherwise) const {
    const auto found = std::find(values_.begin(), values_.end(), name);
    if (found == values_.end() || found + 1 == values_.end()) {
      return otherwise;
    }
    return std::strtod(std::string(found[1]).c_str(), nullptr);
  }
  std::size_t count(std::string_view name, std::size_t otherwise) const {
    return static_cast<std::size_t>(number(name, static_cast<double>(otherwise)));
  }

 private:
  std::vector<std::string_view> values_;
};

struct ServerArguments {
  ServerArguments(int argc, char** argv) {
    const Arguments all(argc, argv);
    port = static_cast<std::uint16_t>(all.count("--port", port));
    nodes = all.count("--nodes", nodes);
    payload = all.count("--payload", payload);
    outstanding = all.count("--outstanding", outstanding);
    warm_up = std::chrono::duration<double>(all.number("--warm-up", warm_up.count()));
    measured = std::chrono::duration<double>(all.number("--seconds", measured.count()));
    want_descriptors(nodes + 64);
  }

  bool idle() const noexcept { return measured.count() <= 0; }

  std::uint16_t port = 0;
  std::size_t nodes = 100;
  std::size_t payload = 64;
  std::size_t outstanding = 1;
  std::chrono::duration<double> warm_up{0.5};
  std::chrono::duration<double> measured{2.0};
};

/// 36 characters, another one at each call.
inline std::string next_request_id() {
  static std::atomic<std::uint64_t> last = 0;  // gRPC's threads ask too
  std::string id(36, '0');
  std::uint64_t number = ++last;
  for (std::size_t at = id.size(); number > 0; number /= 10) {
    id[--at] = static_cast<char>('0' + number % 10);
  }
  return id;
}

inline void print_port(std::uint16_t port) {
  std::printf("port %u\n", static_cast<unsigned>(port));
  std::fflush(stdout);
}

struct Memory {
  std::size_t heap = 0;
  std::size_t resident = 0;

  static Memory now() {
    const auto info = mallinfo2();
    std::size_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages >> pages;
    return {info.uordblks + info.hblkhd, pages * static_cast<std::size_t>(sysconf(_SC_PAGESIZE))};
  }
};

/// What the idle connections take, beside what the server took before the first of them.
inline void print_idle(const Memory& before, std::size_t nodes) {
  const auto now = Memory::now();
  const auto each = [nodes](std::size_t later, std::size_t earlier) {
    return (static_cast<double>(later) - static_cast<double>(earlier)) / static_cast<double>(nodes);
  };
  std::printf("{\"nodes\": %zu, \"heap\": %.1f, \"rss\": %.1f}\n", nodes,
              each(now.heap, before.heap), each(now.resident, before.resident));
  std::fflush(stdout);
}

/// Counts round trips, once the warm-up is over, until the measured part is.
class Meter {
 public:
  explicit Meter(const ServerArguments& arguments)
      : warm_up_(std::chrono::duration_cast<Clock::duration>(arguments.warm_up)),
        measured_(std::chrono::duration_cast<Clock::duration>(arguments.measured)) {
    latencies_.reserve(std::size_t{1} << 20U);
  }

  /// A request that was sent at that time has had its reply. @return Whether to go on.
  bool count(Clock::time_point sent) {
    const auto now = Clock::now();
    if (begin_ == Clock::time_point{}) {
      if (first_ == Clock::time_point{}) {
        first_ = now;
      } else if (now - first_ >= warm_up_) {
        begin_ = now;
        cpu_ = cpu_time();
      }
      return true;
    }
    latencies_.push_back(std::chrono::duration<float, std::micro>(now - sent).count());
    if (now - begin_ < measured_) {
      return true;
    }
    if (end_ == Clock::time_point{}) {
      end_ = now;
      cpu_ = cpu_time() - cpu_;
    }
    return false;
  }

  void print() {
    std::sort(latencies_.begin(), latencies_.end());
    const auto trips = static_cast<double>(latencies_.size());
    const auto at = [&](double part) {
      return latencies_.empty() ? 0.0F : latencies_[static_cast<std::size_t>(part * (trips - 1))];
    };
    std::printf(
        "{\"round_trips\": %.0f, \"seconds\": %.6f, \"cpu\": %.6f, \"p50\": %.2f, "
        "\"p99\": %.2f}\n",
        trips, std::chrono::duration<double>(end_ - begin_).count(), cpu_, at(0.5), at(0.99));
    std::fflush(stdout);
  }

 private:
  // In seconds, of the user and of the system.
  static double cpu_time() {
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    const auto seconds = [](const timeval& time) {
      return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
    };
    return seconds(usage.ru_utime) + seconds(usage.ru_stime);
  }

  Clock::duration warm_up_;
  Clock::duration measured_;
  Clock::time_point first_{};
  Clock::time_point begin_{};
  Clock::time_point end_{};
  double cpu_ = 0;
  std::vector<float> latencies_;
};

/// How long idle connections are left alone before they are looked at.
inline constexpr std::chrono::milliseconds settle{500};

}  // namespace net
