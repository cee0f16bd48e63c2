// The library's Fed-BioMed server with a store, as a user writes it.
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <exception>
#include <memory>
#include <string>
#include <utility>

#include "fedagent/fedagent.hpp"
#include "fedagent/fedbiomed/server.hpp"
#include "grpc_messages.hpp"

namespace {

namespace asio = boost::asio;
namespace fedbiomed = fedagent::fedbiomed;
using Executor = asio::io_context::executor_type;
using Message = fedbiomed::Message;
using Store = fedagent::AgentStore<fedbiomed::Transport<Executor>>;

/// Keeps a request to each node open.
class Researcher {
 public:
  Researcher(asio::io_context& io, Store& store, const net::ServerArguments& arguments)
      : arguments_(arguments), meter_(arguments), io_(io), store_(store) {}

  asio::awaitable<void, Executor> run() {
    const auto there = co_await store_.wait_for_nodes(arguments_.nodes);
    if (!there) {
      net::give_up(there.error().message());
    }
    store_.for_each([this](const Store::agent_type& agent) { send(agent); });
  }
  void print() { meter_.print(); }

 private:
  void send(Store::agent_type agent) {
    // The bytes are made anew for each request, as those of a model are; not by the packer.
    std::string bytes = template_;
    bytes.replace(id_at_, 36, net::next_request_id());
    auto message = Message::parse(std::move(bytes));
    const auto sent = agent.try_send(
        *std::move(message),
        [this, agent, at = net::Clock::now()](const fedagent::Outcome<Message>& outcome) {
          replied(agent, at, outcome);
        });
    if (!sent) {
      net::give_up(sent.error().message());
    }
  }

  void replied(const Store::agent_type& agent, net::Clock::time_point sent,
               const fedagent::Outcome<Message>& outcome) {
    if (finished_) {
      return;
    }
    if (!outcome) {
      net::give_up(outcome.error().message());
    }
    if ((*outcome)->size() < arguments_.payload) {
      net::give_up("a reply of another size");
    }
    if (meter_.count(sent)) {
      send(agent);
    } else {
      finished_ = true;
      io_.stop();
    }
  }

  const net::ServerArguments& arguments_;
  const std::string template_ =
      bench::encoded("PingRequest", std::string(36, '0'), {}, arguments_.payload);
  const std::size_t id_at_ = template_.find(std::string(36, '0'));
  net::Meter meter_;
  asio::io_context& io_;
  Store& store_;
  bool finished_ = false;
};

}  // namespace

int main(int argc, char** argv) {
  const net::ServerArguments arguments(argc, argv);
  asio::io_context io(1);
  Store store(io.get_executor());
  Researcher researcher(io, store, arguments);
  fedbiomed::ServerOptions options;
  options.tls.certificate_chain = bench::file_argument(argc, argv, "--cert");
  options.tls.private_key = bench::file_argument(argc, argv, "--key");
  options.researcher_id = "researcher";
  fedbiomed::Server<Store> server(store, options);
  const auto port = server.listen("localhost:" + std::to_string(arguments.port));
  if (!port) {
    net::give_up(port.error().message());
  }
  net::print_port(static_cast<std::uint16_t>(*port));
  asio::co_spawn(io, researcher.run(), [](std::exception_ptr thrown) {
    if (thrown) {
      std::rethrow_exception(thrown);
    }
  });
  io.run();
  researcher.print();
  _exit(0);  // the nodes are there yet
}
