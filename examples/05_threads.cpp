// The loop runs in one thread; another one sends, waits for outcomes and looks at the status.
#include <fmt/format.h>

#include <boost/asio.hpp>
#include <fedagent/fedagent.hpp>
#include <fedagent/transport/memory.hpp>
#include <future>
#include <thread>

namespace asio = boost::asio;
using Message = fedagent::memory::Message;
using Store = fedagent::AgentStore<fedagent::memory::Transport<>>;

namespace {

asio::awaitable<void> hospital(Store& store) {
  fedagent::memory::Node node(store, "hospital-1");
  while (true) {
    const auto task = co_await node.poll();
    if (!task) {
      break;
    }
    Message reply{.request_id = (*task)->request_id, .body = "done: " + (*task)->body};
    co_await node.reply(std::move(reply));
  }
}

}  // namespace

int main() {
  asio::io_context io;
  Store store(io.get_executor());
  // Before the loop runs, any one thread may use the store.
  const auto agent = store.retrieve("hospital-1").value();
  asio::co_spawn(io, hospital(store), asio::detached);
  std::thread loop([&io] { io.run(); });

  // send, flush and status may be called here; a future brings the outcome over.
  std::promise<Store::outcome_type> promise;
  auto outcome = promise.get_future();
  agent.send(Message{.request_id = "r1", .body = "train"},
             [promise = std::move(promise)](Store::outcome_type came) mutable {
               promise.set_value(std::move(came));
             });
  const auto reply = outcome.get();
  fmt::print("{}, the node is {}\n", reply ? (*reply)->body : reply.error().message(),
             to_string(agent.status()));

  // Everything else goes to the loop's thread.
  asio::post(io, [&store] { store.stop(); });
  loop.join();
  return reply ? 0 : 1;
}
