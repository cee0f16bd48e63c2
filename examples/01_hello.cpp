// The smallest use: one store, one node in the same process, one request and its reply.
// [hello]
#include <boost/asio.hpp>
#include <fedagent/fedagent.hpp>
#include <fedagent/transport/memory.hpp>
#include <iostream>

namespace asio = boost::asio;
using Message = fedagent::memory::Message;
using Store = fedagent::AgentStore<fedagent::memory::Transport<>>;

asio::awaitable<void> hospital(Store& store) {
  fedagent::memory::Node node(store, "hospital-1");
  auto task = co_await node.poll();
  if (!task) {
    co_return;
  }
  Message reply{.request_id = (*task)->request_id, .body = "weights after " + (*task)->body};
  co_await node.reply(std::move(reply));
}

asio::awaitable<void> researcher(Store& store) {
  auto agent = store.retrieve("hospital-1").value();
  Message task{.request_id = "round-1", .body = "one epoch"};
  auto outcome = co_await agent.request(std::move(task), std::chrono::seconds(5));
  std::cout << (outcome ? (*outcome)->body : outcome.error().message()) << '\n';
  store.stop();
}

int main() {
  asio::io_context io;
  Store store(io.get_executor());
  asio::co_spawn(io, hospital(store), asio::detached);
  asio::co_spawn(io, researcher(store), asio::detached);
  io.run();
}
// [/hello]
