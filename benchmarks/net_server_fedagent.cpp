// The library's stream server with a store, as a user writes it.
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/steady_timer.hpp>
#include <exception>
#include <memory>
#include <string>
#include <utility>

#include "fedagent/fedagent.hpp"
#include "fedagent/transport/stream.hpp"
#include "net_server.hpp"

namespace {

namespace asio = boost::asio;
using Executor = asio::io_context::executor_type;
using Message = fedagent::stream::Message;
using Store = fedagent::AgentStore<fedagent::stream::Transport<Executor>>;

/// Keeps so many requests to each node open.
class Researcher {
 public:
  Researcher(asio::io_context& io, Store& store, const net::ServerArguments& arguments)
      : arguments_(arguments), meter_(arguments), io_(io), store_(store) {}

  asio::awaitable<void, Executor> run() {
    const auto there = co_await store_.wait_for_nodes(arguments_.nodes);
    if (!there) {
      net::give_up(there.error().message());
    }
    if (arguments_.idle()) {
      asio::steady_timer timer(io_, net::settle);
      co_await timer.async_wait(asio::deferred);
      net::print_idle(before_, arguments_.nodes);
      io_.stop();
      co_return;
    }
    store_.for_each([this](const Store::agent_type& agent) {
      for (std::size_t i = 0; i < arguments_.outstanding; ++i) {
        send(agent);
      }
    });
  }

  /// The memory of now is what the server takes without connections.
  void look() { before_ = net::Memory::now(); }
  void print() { meter_.print(); }

 private:
  void send(Store::agent_type agent) {
    auto message = std::make_shared<const Message>(Message{
        .request_id = net::next_request_id(), .body = std::string(arguments_.payload, 't')});
    const auto sent = agent.try_send(
        std::move(message),
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
    if ((*outcome)->body.size() != arguments_.payload) {
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
  net::Meter meter_;
  net::Memory before_{};
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
  fedagent::stream::Server server(store);
  const auto where =
      server.listen(asio::ip::tcp::endpoint(asio::ip::address_v4::loopback(), arguments.port));
  if (!where) {
    net::give_up(where.error().message());
  }
  researcher.look();
  net::print_port(where->port());
  asio::co_spawn(io, researcher.run(), [](std::exception_ptr thrown) {
    if (thrown) {
      std::rethrow_exception(thrown);
    }
  });
  io.run();
  if (!arguments.idle()) {
    researcher.print();
  }
}
