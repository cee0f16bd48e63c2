// A server and a node over loopback TCP, with the stream transport.
#include <fmt/format.h>

#include <boost/asio.hpp>
#include <fedagent/fedagent.hpp>
#include <fedagent/transport/stream.hpp>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using fedagent::stream::Message;
using Store = fedagent::AgentStore<fedagent::stream::Transport<>>;
using Server = fedagent::stream::Server<Store>;
using Node = fedagent::stream::Client<fedagent::stream::TcpConnector<>>;

namespace {

// The node's work. The request id of the reply is filled in by the client.
asio::awaitable<boost::system::result<Message>> train(Message task) {
  Message reply{.body = "trained on " + task.body};
  co_return reply;
}

asio::awaitable<void> researcher(Store& store, Server& server, Node& node, bool& ok) {
  const auto there = co_await store.wait_for_nodes(1, std::chrono::steady_clock::now() + 10s);
  if (there) {
    const auto agent = store.get("hospital-1").value();
    // [named]
    Message task{.request_id = "round-1", .body = "weights"};
    const auto outcome = co_await agent.request(std::move(task), 10s);
    // [/named]
    ok = outcome.has_value();
    fmt::print("{}\n", ok ? (*outcome)->body : outcome.error().message());
  }
  node.stop();
  server.stop();
  co_await server.wait_stopped();
  store.stop();
}

}  // namespace

int main() {
  asio::io_context io;
  Store store(io.get_executor());
  Server server(store);
  const auto where = server.listen(asio::ip::tcp::endpoint(asio::ip::address_v4::loopback(), 0));
  if (!where) {
    fmt::print(stderr, "cannot listen: {}\n", where.error().message());
    return 1;
  }
  fedagent::stream::ClientOptions options;
  options.node_id = "hospital-1";
  Node node(fedagent::stream::TcpConnector<>(io.get_executor(), "127.0.0.1",
                                             std::to_string(where->port())),
            options);
  bool ok = false;
  asio::co_spawn(io, node.run(train), asio::detached);
  asio::co_spawn(io, researcher(store, server, node, ok), asio::detached);
  io.run();
  return ok ? 0 : 1;
}
