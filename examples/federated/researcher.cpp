// The researcher: listens for hospitals, trains one model with all of them, tells how it went.
#include <fmt/core.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/signal_set.hpp>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "arguments.hpp"
#include "baselines.hpp"
#include "dataset.hpp"
#include "fedagent/transport/stream.hpp"
#include "file.hpp"
#include "journal.hpp"
#include "report.hpp"
#include "svg.hpp"
#include "training.hpp"
#include "watcher.hpp"

namespace {

using namespace federated;
using namespace std::chrono_literals;
namespace asio = boost::asio;
using asio::ip::tcp;
using Store =
    fedagent::AgentStore<fedagent::stream::Transport<>, fedagent::stream::Message, Watcher>;

struct Settings {
  Endpoint listen{"127.0.0.1", 0};
  std::string data;
  std::string baselines;
  std::string out = ".";
  std::uint64_t rounds = 30;
  std::uint64_t nodes = 5;
  std::uint64_t quorum = 4;
  std::uint64_t least = 3;
  std::chrono::milliseconds round_deadline = 10s;
  std::chrono::milliseconds grace = 2s;
  std::chrono::milliseconds node_floor = 1s;
  std::chrono::milliseconds disconnect_after = fedagent::grpc_server_task_wait_timeout;
  std::chrono::milliseconds patience = 60s;
};

tcp::endpoint resolved(asio::io_context& io, const Endpoint& endpoint) {
  boost::system::error_code error;
  const auto found = tcp::resolver(io).resolve(endpoint.host, fmt::format("{}", endpoint.port),
                                               tcp::resolver::passive, error);
  if (error) {
    throw std::runtime_error(fmt::format("{}: {}", endpoint.host, error.message()));
  }
  return found.begin()->endpoint();
}

std::string text_of(const tcp::endpoint& endpoint) {
  const auto address = endpoint.address().to_string();
  return fmt::format(fmt::runtime(endpoint.address().is_v6() ? "[{}]:{}" : "{}:{}"), address,
                     endpoint.port());
}

/// What came of the training: its result, or why there is none.
struct End {
  std::optional<Result> result;
  std::string complaint;
  int status = 1;  ///< What to return when there is no result.
};

std::string complaint_of(const std::exception_ptr& thrown) {
  try {
    std::rethrow_exception(thrown);
  } catch (const std::exception& error) {
    return error.what();
  }
}

void draw(const Settings& settings, const Result& result, const std::optional<Baselines>& baselines,
          const Journal& journal) {
  AccuracyChart chart;
  for (const auto& round : result.rounds) {
    chart.rounds.push_back({round.accuracy, round.answered() == round.nodes.size()});
  }
  if (baselines) {
    chart.pooled = baselines->pooled.accuracy;
    for (const auto& alone : baselines->alone) {
      chart.alone.push_back({alone.name, alone.accuracy});
    }
  }
  std::filesystem::create_directories(settings.out);
  const auto accuracy_file = settings.out + "/accuracy.svg";
  const auto timeline_file = settings.out + "/timeline.svg";
  write_file(accuracy_file, accuracy_svg(chart));
  write_file(timeline_file, timeline_svg(journal.timeline(Journal::Clock::now())));
  fmt::print("\nPictures: {} and {}\n", accuracy_file, timeline_file);
}

/// Prints how it went. @return The exit status.
int judge(const Settings& settings, const End& end, const std::optional<Baselines>& baselines,
          const fedagent::Counters& counters, const Journal& journal, std::size_t test_rows) {
  if (end.result) {
    fmt::print("\n{}", accuracy_table(*end.result, baselines, test_rows));
    fmt::print("\n{}", hospitals_table(*end.result));
    fmt::print("\n{}", rounds_table(*end.result));
    if (const auto late = late_table(*end.result); !late.empty()) {
      fmt::print("\n{}", late);
    }
  }
  fmt::print("\n{}\n  {}\n", messages_table(counters), conservation_line(counters));
  const auto faults =
      faults_of(end.result.value_or(Result{}), end.result ? baselines : std::nullopt, counters);
  if (end.result) {
    draw(settings, *end.result, baselines, journal);
  }
  if (!end.complaint.empty()) {
    fmt::print(stderr, "researcher: {}\n", end.complaint);
  }
  for (const auto& fault : faults) {
    fmt::print(stderr, "researcher: {}\n", fault);
  }
  return end.result && faults.empty() ? 0 : end.status;
}

int run(const std::vector<std::string>& words) {
  Settings settings;
  Arguments arguments("researcher",
                      "trains one model over hospitals that keep their rows to themselves");
  arguments.add("--listen", "HOST:PORT",
                "Where hospitals connect to. Port 0: any free one, which is printed",
                settings.listen);
  arguments.add("--data", "FILE", "The test rows, by which the model is judged", settings.data);
  arguments.required();
  arguments.add("--rounds", "N", "How many rounds of training", settings.rounds, 1, 1'000'000);
  arguments.add("--nodes", "N", "How many hospitals must be there to begin", settings.nodes, 1,
                1'000'000);
  arguments.add(
      "--quorum", "N",
      "For how many answers a round waits; fewer when not so many hospitals can be reached",
      settings.quorum, 1, 1'000'000);
  arguments.add("--least", "N", "With fewer answers a round changes nothing", settings.least, 1,
                1'000'000);
  arguments.add("--round-deadline", "SECONDS", "How long a round waits for answers",
                settings.round_deadline, 0.01, 86400);
  arguments.add("--grace", "SECONDS", "How long it waits for the rest when the quorum is there",
                settings.grace, 0, 86400);
  arguments.add(
      "--node-floor", "SECONDS",
      "The least time that a hospital has. More as it took before, up to the round's time",
      settings.node_floor, 0, 86400);
  arguments.add("--disconnect-after", "SECONDS",
                "How long after its last sign of life a hospital is DISCONNECTED",
                settings.disconnect_after, 0.01, 86400);
  arguments.add("--patience", "SECONDS", "How long to wait for hospitals to come, or to come back",
                settings.patience, 0.01, 86400);
  arguments.add("--baselines", "FILE",
                "Accuracies without federation, to compare with: see the demo", settings.baselines);
  arguments.add("--out", "DIRECTORY", "Where accuracy.svg and timeline.svg go; it is made",
                settings.out);
  if (!arguments.parse(words)) {
    fmt::print("{}", arguments.help());
    return 0;
  }
  if (settings.quorum > settings.nodes) {
    throw ArgumentError(fmt::format("--quorum: at most the {} of --nodes, not {}", settings.nodes,
                                    settings.quorum));
  }
  if (settings.least > settings.quorum) {
    throw ArgumentError(fmt::format("--least: at most the {} of --quorum, not {}", settings.quorum,
                                    settings.least));
  }
  const auto test = read_dataset(settings.data);
  const auto baselines =
      settings.baselines.empty() ? std::nullopt : std::optional(read_baselines(settings.baselines));

  Journal journal(Journal::Clock::now());
  asio::io_context io(1);
  fedagent::StoreOptions options;
  options.agent.disconnect_timeout = settings.disconnect_after;
  // A node that is new to the store is admitted in its first poll: that is when its band begins.
  options.admit = [&journal](std::string_view id) {
    if (!plain_node_id(id)) {
      return false;
    }
    journal.status(id, fedagent::NodeActiveStatus::active, Journal::Clock::now());
    return true;
  };
  Store store(io.get_executor(), options, Watcher{&journal});
  fedagent::stream::Server server(store);
  const auto address = resolved(io, settings.listen);
  const auto bound = server.listen(address);
  if (!bound) {
    throw std::runtime_error(
        fmt::format("cannot listen on {}: {}", text_of(address), bound.error().message()));
  }
  fmt::print("{}\n", listening_line(text_of(*bound)));

  TrainingPlan plan;
  plan.rounds = static_cast<std::uint32_t>(settings.rounds);
  plan.nodes = settings.nodes;
  plan.quorum = settings.quorum;
  plan.least = settings.least;
  plan.round_deadline = settings.round_deadline;
  plan.grace = settings.grace;
  plan.node_floor = settings.node_floor;
  plan.patience = settings.patience;
  TrainingEvents events;
  events.on_round = [](const RoundSummary& round) { fmt::print("{}\n", progress_line(round)); };
  events.on_fault = [](const std::string& node, const std::string& fault) {
    fmt::print("          {}: its answer cannot be used: {}\n", node, fault);
  };
  events.on_late = [&journal](const LateSummary& late) {
    fmt::print("          {}\n", late_line(late));
    journal.mark_in_round(late.node, "late", late.round, late.took);
  };

  End end;
  asio::co_spawn(io, run_training(store, plan, test, journal, events),
                 [&](std::exception_ptr thrown, Result result) {
                   if (thrown) {
                     end.complaint = complaint_of(thrown);
                   } else {
                     end.result = std::move(result);
                   }
                   io.stop();
                 });
  asio::signal_set interruption(io, SIGINT, SIGTERM);
  interruption.async_wait([&](boost::system::error_code error, int number) {
    if (!error) {
      end.complaint = "interrupted";
      end.status = 128 + number;
      io.stop();
    }
  });
  fmt::print("researcher: waits for {} hospitals\n", settings.nodes);
  io.run();
  return judge(settings, end, baselines, store.counters(), journal, test.rows());
}

}  // namespace

int main(int argc, char** argv) { return guarded_main("researcher", argc, argv, run); }
