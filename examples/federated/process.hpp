// Another program that runs beside this one; its output arrives line by line.
#pragma once

#include <sys/types.h>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace federated {

/// A child process.
/**
 * It gets SIGKILL when this program ends in whatever way (on Linux), so nothing is left behind.
 *
 * @par Thread safety
 * Unsafe: all calls on the executor; and only the thread that starts it may be the last to end.
 */
class Process : public std::enable_shared_from_this<Process> {
 public:
  struct Handlers {
    std::function<void(std::string_view line)> on_line;  ///< Of its stdout and stderr.
    std::function<void()> on_end;  ///< Once: it has ended, and all its lines have been handed out.
  };

  /// Starts `words[0]` with the rest as arguments.
  /** Throws std::system_error that names the program when it cannot be started. */
  static std::shared_ptr<Process> start(const boost::asio::any_io_executor& executor,
                                        const std::vector<std::string>& words, Handlers handlers);
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  /// Kills the process if it still runs, and waits for its end.
  ~Process();

  bool running() const noexcept { return !status_; }
  void signal(int number) noexcept;

  /// Looks whether it has ended; to be called on SIGCHLD.
  void reap();

  /// The exit status as a shell would tell it: 128 + the signal that ended it.
  int exit_status() const noexcept { return status_.value_or(-1); }

 private:
  Process(const boost::asio::any_io_executor& executor, pid_t pid, int output, Handlers handlers);
  static boost::asio::awaitable<void> read_lines(std::shared_ptr<Process> process);
  void tell_end();

  pid_t pid_;
  boost::asio::posix::stream_descriptor output_;
  Handlers handlers_;
  std::optional<int> status_;
  bool output_ended_ = false;
};

}  // namespace federated
