// A researcher's server for Fed-BioMed nodes as they are installed today. It waits for nodes, sends
// each of them requests of one kind, and sums up. See docs/fedbiomed.md.
#include <sys/resource.h>

#include <algorithm>
#include <boost/asio.hpp>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <fedagent/fedagent.hpp>
#include <fedagent/fedbiomed/replies.hpp>
#include <fedagent/fedbiomed/requests.hpp>
#include <fedagent/fedbiomed/server.hpp>
#include <fedagent/transport/grpc/shared_loop.hpp>
#include <fstream>
#include <iostream>
#include <iterator>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace {

namespace asio = boost::asio;
namespace fedbiomed = fedagent::fedbiomed;
using Clock = std::chrono::steady_clock;
// [types]
using Loop = fedagent::grpc::SharedLoop;
using Store = fedagent::AgentStore<fedbiomed::Transport<Loop::executor_type>>;
using Server = fedbiomed::Server<Store>;
// [/types]

constexpr std::string_view usage =
    R"(fedbiomed_researcher --listen HOST:PORT --cert FILE --key FILE --wait-nodes N
                     --ping M | --search TAG | --list
  --researcher-id ID  what the organization (O) in the certificate must be
  --client-ca FILE    nodes must show a certificate that these have signed, with their id in it
  --id-in-san         the id is in the alternative names of a node's certificate, not in its CN
  --count M           with --search and --list: how many requests to each node (1)
  --in-flight K       how many requests a node may have at a time (1)
  --timeout S         seconds to wait for the nodes, and for each reply (60)
  --chunk-size B      the bytes of a chunk (3999967)
  --json              one JSON summary on stdout
Exits with 0 when every request has its reply, 1 when one has none, 2 when it cannot start, 3 when the
nodes do not come.
)";

struct Arguments {
  std::string listen{}, cert{}, key{}, researcher_id{}, client_ca{}, tag{};
  enum class Kind { none, ping, search, list } kind = Kind::none;
  bool id_in_san = false, json = false;
  std::size_t nodes = 1, count = 1, in_flight = 1, chunk_size = fedbiomed::chunk_size;
  double timeout = 60;
};

Arguments parse(const std::vector<std::string>& words) {
  Arguments arguments;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const auto& word = words[i];
    const auto value = [&]() -> const std::string& {
      if (++i == words.size()) {
        throw std::invalid_argument(word + " needs a value");
      }
      return words[i];
    };
    const auto number = [&] {
      const long given = std::stol(value());
      if (given < 1) {
        throw std::invalid_argument(word + " must be at least 1");
      }
      return static_cast<std::size_t>(given);
    };
    if (word == "--listen") {
      arguments.listen = value();
    } else if (word == "--cert") {
      arguments.cert = value();
    } else if (word == "--key") {
      arguments.key = value();
    } else if (word == "--researcher-id") {
      arguments.researcher_id = value();
    } else if (word == "--client-ca") {
      arguments.client_ca = value();
    } else if (word == "--id-in-san") {
      arguments.id_in_san = true;
    } else if (word == "--wait-nodes") {
      arguments.nodes = number();
    } else if (word == "--ping") {
      arguments.kind = Arguments::Kind::ping;
      arguments.count = number();
    } else if (word == "--search") {
      arguments.kind = Arguments::Kind::search;
      arguments.tag = value();
    } else if (word == "--list") {
      arguments.kind = Arguments::Kind::list;
    } else if (word == "--count") {
      arguments.count = number();
    } else if (word == "--in-flight") {
      arguments.in_flight = number();
    } else if (word == "--chunk-size") {
      arguments.chunk_size = number();
    } else if (word == "--timeout") {
      arguments.timeout = std::stod(value());
    } else if (word == "--json") {
      arguments.json = true;
    } else {
      throw std::invalid_argument("unknown: " + word);
    }
  }
  if (arguments.listen.empty() || arguments.cert.empty() || arguments.key.empty() ||
      arguments.kind == Arguments::Kind::none) {
    throw std::invalid_argument("--listen, --cert, --key and what to ask are needed");
  }
  return arguments;
}

std::string contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) {
    throw std::invalid_argument("cannot read " + path);
  }
  return {std::istreambuf_iterator<char>(file), {}};
}

double cpu_seconds() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

struct Results {
  std::size_t sent = 0, round_trips = 0, errors = 0, without_reply = 0;
  std::vector<double> times_ms{};

  double percentile(double part) const {
    if (times_ms.empty()) {
      return 0;
    }
    auto sorted = times_ms;
    std::ranges::sort(sorted);
    return sorted[static_cast<std::size_t>(part * static_cast<double>(sorted.size() - 1))];
  }
};

/// What the coroutines share; it outlives the loop's run.
struct Researcher {
  explicit Researcher(const Arguments& of)
      : arguments(of),
        store(loop.get_executor(),
              {.agent = {.when_disconnected = fedagent::DisconnectedPolicy::hold,
                         .remembered_requests = 65536}}),
        server(store, {.tls = {contents(of.cert), contents(of.key),
                               of.client_ca.empty() ? std::string() : contents(of.client_ca)},
                       .researcher_id = of.researcher_id,
                       .node_id_in = of.id_in_san ? fedagent::grpc::NameIn::alternative_name
                                                  : fedagent::grpc::NameIn::common_name,
                       .chunk_size = of.chunk_size,
                       .on_warning = [](std::string_view sentence) {
                         std::cerr << "warning: " << sentence << '\n';
                       }}) {}

  Clock::duration timeout() const {
    return std::chrono::duration_cast<Clock::duration>(
        std::chrono::duration<double>(arguments.timeout));
  }

  /// Ends what is open; then the loop runs out of work.
  void end() {
    wall = std::chrono::duration<double>(Clock::now() - began).count();
    cpu = cpu_seconds() - cpu_before;
    signals.cancel();
    server.stop();
    store.stop();
  }

  Arguments arguments;
  asio::io_context io;
  Loop loop{io};
  Store store;
  Server server;
  asio::signal_set signals{loop.get_executor(), SIGINT, SIGTERM};
  Results results;
  /// For each node, how many requests it has been sent.
  std::vector<std::size_t> next{};
  std::size_t asking = 0;
  bool came = false;
  Clock::time_point began{};
  double cpu_before = 0, wall = 0, cpu = 0;
};

void rethrow(const std::exception_ptr& failed) {
  if (failed) {
    std::rethrow_exception(failed);
  }
}

boost::system::result<fedbiomed::Message> make_request(const Researcher& r,
                                                       std::string_view node_id,
                                                       std::size_t number) {
  // [request]
  const fedbiomed::Head head{
      .researcher_id = r.server.researcher_id(),
      .request_id = "request_" + std::to_string(number) + "_" + std::string(node_id),
      .version = r.server.version_of(node_id).value_or(fedbiomed::Version::v7)};
  switch (r.arguments.kind) {
    case Arguments::Kind::search:
      return fedbiomed::encode(head, fedbiomed::SearchRequest{.tags = {r.arguments.tag}});
    case Arguments::Kind::list:
      return fedbiomed::encode(head, fedbiomed::ListRequest{});
    default:
      return fedbiomed::encode(head, fedbiomed::PingRequest{});
  }
  // [/request]
}

// A reply that is not what the class has, or tells of an error, is an error of the node.
bool is_good(const fedbiomed::Message& reply, const std::string& node_id) {
  std::string_view fault;
  const auto decoded = fedbiomed::decode_reply(reply, &fault);
  if (!decoded || reply.is_error()) {
    std::cerr << node_id << ": " << reply.type() << ": "
              << (decoded ? "an error" : decoded.error().message()) << ' ' << fault << '\n';
    return false;
  }
  return true;
}

void progress(const Results& results, std::size_t all) {
  const auto done = results.round_trips + results.errors;
  if (all >= 10 && done % (all / 10) == 0) {
    std::cerr << done << " of " << all << '\n';
  }
}

// One of those who ask a node: it takes the next number as long as there is one.
Store::awaitable<void> ask(Researcher& r, Store::agent_type agent, std::size_t& next,
                           std::size_t all) {
  const std::string node_id(agent.id());
  while (next < r.arguments.count) {
    auto message = make_request(r, node_id, ++next);
    if (!message) {
      throw std::runtime_error(message.error().message());
    }
    ++r.results.sent;
    const auto start = Clock::now();
    auto asking = agent.request(*std::move(message), r.timeout());
    const auto outcome = co_await std::move(asking);
    const std::chrono::duration<double, std::milli> took = Clock::now() - start;
    if (outcome && is_good(**outcome, node_id)) {
      ++r.results.round_trips;
      r.results.times_ms.push_back(took.count());
    } else {
      ++r.results.errors;
    }
    if (!outcome) {
      ++r.results.without_reply;
      std::cerr << node_id << ": " << outcome.error().message() << '\n';
    }
    progress(r.results, all);
  }
  if (--r.asking == 0) {
    r.end();
  }
}

Store::awaitable<void> run(Researcher& r) {
  auto waiting = r.store.wait_for_nodes(r.arguments.nodes, Clock::now() + r.timeout());
  r.came = (co_await std::move(waiting)).has_value();
  if (!r.came) {
    std::cerr << "the nodes did not come\n";
    r.end();
    co_return;
  }
  std::vector<Store::agent_type> nodes;
  r.store.for_each([&](const auto& agent) { nodes.push_back(agent); });
  std::cerr << nodes.size() << " nodes\n";
  r.began = Clock::now();
  r.cpu_before = cpu_seconds();
  r.next.resize(nodes.size());
  r.asking = nodes.size() * r.arguments.in_flight;
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    for (std::size_t k = 0; k < r.arguments.in_flight; ++k) {
      asio::co_spawn(r.loop.get_executor(),
                     ask(r, nodes[i], r.next[i], nodes.size() * r.arguments.count), rethrow);
    }
  }
}

int work(const Arguments& arguments) {
  Researcher r(arguments);
  const auto port = r.server.listen(arguments.listen);
  if (!port) {
    std::cerr << "cannot listen at " << arguments.listen << ": " << port.error().message() << '\n';
    return 2;
  }
  std::cerr << "listening on port " << *port << " as " << r.server.researcher_id() << std::endl;
  r.signals.async_wait([&r](const boost::system::error_code& error, int) {
    if (!error) {
      r.end();
    }
  });
  asio::co_spawn(r.loop.get_executor(), run(r), rethrow);
  r.loop.run();
  const auto& results = r.results;
  const auto counters = r.store.counters();
  const auto trips = static_cast<double>(std::max<std::size_t>(results.round_trips, 1));
  if (arguments.json) {
    const fedbiomed::Json summary = {
        {"round_trips", results.round_trips},
        {"errors", results.errors},
        {"duplicates", counters.replies_that_were(fedagent::ReplyDisposition::duplicate)},
        {"redelivered", counters.redelivered},
        {"dropped", counters.total_dropped()},
        {"rps", static_cast<double>(results.round_trips) / std::max(r.wall, 1e-9)},
        {"p50_ms", results.percentile(0.5)},
        {"p99_ms", results.percentile(0.99)},
        {"server_cpu_ms_per_round_trip", 1e3 * r.cpu / trips},
    };
    std::cout << summary.dump() << std::endl;
  }
  if (!r.came) {
    return 3;
  }
  return results.without_reply == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> words(argv + 1, argv + argc);
  if (words.empty() || words.front() == "--help") {
    std::cout << usage;
    return words.empty() ? 2 : 0;
  }
  try {
    return work(parse(words));
  } catch (const std::exception& error) {
    std::cerr << "fedbiomed_researcher: " << error.what() << '\n';
    return 2;
  }
}
