// The library's stream server with a store, as a user writes it.
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <memory>
#include <string>

#include "fedagent/fedagent.hpp"
#include "fedagent/transport/stream.hpp"
#include "net_researcher.hpp"

namespace asio = boost::asio;
using Message = fedagent::stream::Message;
using Store = fedagent::AgentStore<fedagent::stream::Transport<asio::io_context::executor_type>>;

int main(int argc, char** argv) {
  const net::ServerArguments arguments(argc, argv);
  asio::io_context io(1);
  Store store(io.get_executor());
  net::Researcher researcher(
      io, store, arguments,
      [&] {
        return std::make_shared<const Message>(Message{
            .request_id = net::next_request_id(), .body = std::string(arguments.payload, 't')});
      },
      [&](const Message& reply) { return reply.body.size() == arguments.payload; });
  fedagent::stream::Server server(store);
  const auto where =
      server.listen(asio::ip::tcp::endpoint(asio::ip::address_v4::loopback(), arguments.port));
  if (!where) {
    net::give_up(where.error().message());
  }
  net::print_port(where->port());
  researcher.start();
  io.run();
  researcher.print();
}
