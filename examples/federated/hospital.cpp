// A hospital: asks the researcher for tasks, does them on its own rows, never shows a row.
#include <fmt/core.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "arguments.hpp"
#include "dataset.hpp"
#include "fedagent/transport/stream.hpp"
#include "hospital_work.hpp"
#include "report.hpp"

namespace {

using namespace federated;
using namespace std::chrono_literals;
namespace asio = boost::asio;
using fedagent::stream::Message;

struct Settings {
  Endpoint connect;
  std::string id;
  std::string data;
  std::uint64_t delay_ms = 0;
  std::uint64_t slow_ms = 0;
  std::uint64_t slow_every = 0;
};

/// What a hospital remembers: its rows. The rest is for showing what stragglers do.
struct Hospital {
  Settings settings;
  Dataset rows;
  std::uint64_t trainings = 0;
  std::string final_request{};  ///< The id of the task that brought the final model.

  std::chrono::milliseconds next_delay() {
    ++trainings;
    const bool slow = settings.slow_every > 0 && trainings % settings.slow_every == 0;
    return std::chrono::milliseconds(slow ? settings.slow_ms : settings.delay_ms);
  }
};

asio::awaitable<boost::system::result<Message>> work(std::shared_ptr<Hospital> hospital,
                                                     Message task) {
  const auto reply = do_task(hospital->rows, task.body);
  const auto& id = hospital->settings.id;
  if (std::holds_alternative<TrainReply>(reply.content)) {
    fmt::print("{}\n", task_taken_line(id, reply.round, hospital->rows.rows()));
    // These rows are few and the model is small: the delay stands for the time that training takes
    // elsewhere.
    asio::steady_timer timer(co_await asio::this_coro::executor, hospital->next_delay());
    co_await timer.async_wait(asio::use_awaitable);
  } else if (const auto* const refusal = std::get_if<Refusal>(&reply.content)) {
    fmt::print("{}: refuses a task: {}\n", id, refusal->reason);
  } else if (const auto* const final_reply = std::get_if<FinalReply>(&reply.content)) {
    hospital->final_request = task.request_id;
    fmt::print("{}: the final model is right on {:.1f} % of the rows here\n", id,
               100.0 * final_reply->accuracy);
  }
  Message message;
  message.body = encode(reply);
  co_return message;
}

/// Ends the program when the researcher has the reply to the final model, or when it is asked to
/// end.
struct Ending {
  asio::io_context& io;
  int status = 0;

  void now(int the_status) {
    status = the_status;
    io.stop();
  }
};

int run(const std::vector<std::string>& words) {
  Settings settings;
  Arguments arguments("hospital",
                      "does a researcher's tasks on its own rows, which it keeps to itself");
  arguments.add("--connect", "HOST:PORT", "Where the researcher listens", settings.connect);
  arguments.required();
  arguments.add("--id", "ID", "The name of this hospital: letters, digits and . _ -", settings.id);
  arguments.required();
  arguments.add("--data", "FILE", "The rows of this hospital", settings.data);
  arguments.required();
  arguments.add("--delay-ms", "N", "Be slow: how long each training takes at least",
                settings.delay_ms, 0, 3'600'000);
  arguments.add("--slow-ms", "N", "Be a straggler: how long a slow training takes",
                settings.slow_ms, 0, 3'600'000);
  arguments.add("--slow-every", "N", "Which trainings are slow: every Nth; 0: none",
                settings.slow_every, 0, 1'000'000);
  if (!arguments.parse(words)) {
    fmt::print("{}", arguments.help());
    return 0;
  }
  if (!plain_node_id(settings.id)) {
    throw ArgumentError(
        fmt::format("--id: up to 64 letters, digits and . _ - expected, found '{}'", settings.id));
  }
  auto rows = read_dataset(settings.data);
  fmt::print("{}: {} rows of {}\n", settings.id, rows.rows(), settings.data);

  asio::io_context io(1);
  Ending ending{io};
  fedagent::stream::ClientOptions options;
  options.node_id = settings.id;
  options.longest_pause = 2s;
  // It tries again and again; one line for each new reason is enough.
  const auto trouble = std::make_shared<boost::system::error_code>();
  options.on_connected = [id = settings.id, trouble] {
    *trouble = {};
    fmt::print("{}: connected\n", id);
  };
  options.on_disconnected = [id = settings.id, trouble](boost::system::error_code error) {
    if (std::exchange(*trouble, error) != error) {
      fmt::print("{}: no connection, tries again: {}\n", id, error.message());
    }
  };
  const auto hospital = std::make_shared<Hospital>(Hospital{settings, std::move(rows)});
  options.on_reply_result = [&ending, hospital](std::string_view request_id, const auto& result) {
    if (result && !hospital->final_request.empty() && request_id == hospital->final_request) {
      ending.now(0);
    }
  };
  fedagent::stream::Client client(
      fedagent::stream::TcpConnector(io.get_executor(), settings.connect.host,
                                     fmt::format("{}", settings.connect.port)),
      options);
  const auto handler = [hospital](Message task) { return work(hospital, std::move(task)); };
  asio::co_spawn(io, client.run(handler), [&](std::exception_ptr, boost::system::error_code why) {
    fmt::print(stderr, "{}: the researcher wants no more of it: {}\n", settings.id, why.message());
    ending.now(1);
  });
  asio::signal_set interruption(io, SIGINT, SIGTERM);
  interruption.async_wait([&ending](boost::system::error_code error, int number) {
    if (!error) {
      ending.now(128 + number);
    }
  });
  io.run();
  return ending.status;
}

}  // namespace

int main(int argc, char** argv) { return guarded_main("hospital", argc, argv, run); }
