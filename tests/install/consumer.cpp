// A small user of an installed fedagent: a task goes to a node and its reply comes back, in one
// process.
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <cstdio>
#include <fedagent/fedagent.hpp>
#include <fedagent/transport/memory.hpp>
#include <string>
#include <utility>

namespace asio = boost::asio;
namespace memory = fedagent::memory;

using Store = fedagent::AgentStore<memory::Transport<>>;

asio::awaitable<void> hospital(Store& store) {
  memory::Node node(store, "hospital");
  const auto task = co_await node.poll();
  // Named, since GCC 12 destroys an aggregate within a co_await expression twice.
  memory::Message reply{.request_id = (*task)->request_id, .body = "trained"};
  co_await node.reply(std::move(reply));
}

asio::awaitable<void> researcher(Store& store, std::string& answer) {
  auto agent = store.retrieve("hospital");
  memory::Message task{.request_id = "1", .body = "train"};  // named: see above
  const auto reply = co_await agent->request(std::move(task));
  answer = (*reply)->body;
  store.stop();
}

int main() {
  asio::io_context loop;
  Store store(loop.get_executor());
  std::string answer;
  asio::co_spawn(loop, hospital(store), asio::detached);
  asio::co_spawn(loop, researcher(store, answer), asio::detached);
  loop.run();
  std::printf("fedagent %d: the node has %s\n", FEDAGENT_VERSION, answer.c_str());
  return answer == "trained" ? 0 : 1;
}
