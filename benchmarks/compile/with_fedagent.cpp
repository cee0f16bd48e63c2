// W8: a store and an agent, instantiated.

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <memory>
#include <string>
#include <utility>

#include "fedagent/agent_store.hpp"

namespace asio = boost::asio;
using Executor = asio::io_context::executor_type;

struct Message {
  std::string request_id, body;
};

struct Transport {
  using executor_type = Executor;
  using message_type = Message;
  using wire_type = Message;
  static boost::system::result<Message> decode(Message wire) { return wire; }
};

using Store = fedagent::AgentStore<Transport>;

asio::awaitable<void, Executor> node(Store::agent_type agent) {
  agent.set_active();
  auto task = co_await agent.get_task();
  if (task) {
    Message reply = *task->message();
    task->delivered();
    (void)co_await agent.on_reply(std::move(reply));
  }
  agent.change_node_status_after_task();
}

int main() {
  asio::io_context io;
  Store store(io.get_executor());
  auto agent = store.retrieve("node").value();
  asio::co_spawn(io, node(agent), asio::detached);
  bool answered = false;
  (void)agent.try_send(Message{"id", "task"}, [&](const auto&) { answered = true; });
  io.run();
  return answered ? 0 : 1;
}
