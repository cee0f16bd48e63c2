#include "process.hpp"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <cerrno>
#include <csignal>
#include <system_error>
#include <utility>

namespace federated {

namespace asio = boost::asio;

namespace {

[[noreturn]] void fail(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

struct Pipe {
  Pipe() {
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
      fail("pipe");
    }
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  ~Pipe() {
    close(0);
    close(1);
  }
  void close(std::size_t end) {
    if (const int descriptor = std::exchange(ends[end], -1); descriptor >= 0) {
      ::close(descriptor);
    }
  }
  int release(std::size_t end) { return std::exchange(ends[end], -1); }

  std::array<int, 2> ends{-1, -1};
};

// Between fork and exec only what POSIX calls async-signal-safe is allowed.
[[noreturn]] void become(char* const* words, pid_t parent, int output, int complaints) {
#ifdef __linux__
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) {  // it ended before prctl() could help
    ::_exit(127);
  }
#else
  static_cast<void>(parent);
#endif
  ::dup2(output, STDOUT_FILENO);
  ::dup2(output, STDERR_FILENO);
  // Asio's signal_set catches and blocks nothing here, but the child should not inherit what a
  // caller ignores.
  std::signal(SIGPIPE, SIG_DFL);
  ::execv(words[0], words);
  const int error = errno;
  [[maybe_unused]] const auto written = ::write(complaints, &error, sizeof error);
  ::_exit(127);
}

}  // namespace

Process::Process(const asio::any_io_executor& executor, pid_t pid, int output, Handlers handlers)
    : pid_(pid), output_(executor, output), handlers_(std::move(handlers)) {}

std::shared_ptr<Process> Process::start(const asio::any_io_executor& executor,
                                        const std::vector<std::string>& words, Handlers handlers) {
  std::vector<std::string> copies = words;
  std::vector<char*> pointers;
  pointers.reserve(copies.size() + 1);
  for (auto& word : copies) {
    pointers.push_back(word.data());
  }
  pointers.push_back(nullptr);

  Pipe output;
  Pipe complaints;  // closed by a successful exec, written to by a failed one
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) {
    fail("fork");
  }
  if (pid == 0) {
    become(pointers.data(), parent, output.ends[1], complaints.ends[1]);
  }
  output.close(1);
  complaints.close(1);
  std::shared_ptr<Process> process(
      new Process(executor, pid, output.release(0), std::move(handlers)));
  if (::read(complaints.ends[0], &errno, sizeof errno) > 0) {
    fail(words.front());
  }
  asio::co_spawn(executor, read_lines(process), asio::detached);
  return process;
}

Process::~Process() {
  if (running()) {
    ::kill(pid_, SIGKILL);
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
}

void Process::signal(int number) noexcept {
  if (running()) {  // else the number may belong to somebody else by now
    ::kill(pid_, number);
  }
}

void Process::reap() {
  int status = 0;
  if (running() && ::waitpid(pid_, &status, WNOHANG) == pid_) {
    status_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    tell_end();
  }
}

void Process::tell_end() {
  if (!running() && output_ended_) {
    handlers_.on_end();
  }
}

// It keeps the process object alive until the output has ended, so that no line is lost.
asio::awaitable<void> Process::read_lines(std::shared_ptr<Process> process) {
  std::string text;
  boost::system::error_code error;
  while (!error) {
    const auto size =
        co_await asio::async_read_until(process->output_, asio::dynamic_buffer(text), '\n',
                                        asio::redirect_error(asio::use_awaitable, error));
    if (!error) {
      process->handlers_.on_line(std::string_view(text).substr(0, size - 1));
      text.erase(0, size);
    }
  }
  if (!text.empty()) {  // a last line without its end
    process->handlers_.on_line(text);
  }
  process->output_ended_ = true;
  process->tell_end();
}

}  // namespace federated
