// The library's Fed-BioMed server with a store, as a user writes it.
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>

#include "fedagent/fedagent.hpp"
#include "fedagent/fedbiomed/server.hpp"
#include "fedagent/transport/grpc/shared_loop.hpp"
#include "grpc_messages.hpp"
#include "net_researcher.hpp"

namespace asio = boost::asio;
namespace fedbiomed = fedagent::fedbiomed;
using Message = fedbiomed::Message;
using Store = fedagent::AgentStore<fedbiomed::Transport<fedagent::grpc::SharedLoop::executor_type>>;

int main(int argc, char** argv) {
  const net::ServerArguments arguments(argc, argv);
  asio::io_context io(1);
  fedagent::grpc::SharedLoop loop(io);
  Store store(loop.get_executor());
  // The bytes are made anew for each request, as those of a model are; not by the packer.
  const std::string none(36, '0');
  const std::string request = bench::encoded("PingRequest", none, {}, arguments.payload);
  const auto id_at = request.find(none);
  net::Researcher researcher(
      io, store, arguments,
      [&] {
        std::string bytes = request;
        bytes.replace(id_at, none.size(), net::next_request_id());
        return std::make_shared<const Message>(Message::parse(std::move(bytes)).value());
      },
      [&](const Message& reply) { return reply.size() >= arguments.payload; });
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
  researcher.start();
  loop.run();
  researcher.print();
  std::fflush(stdout);
  _exit(0);  // the nodes are there yet
}
