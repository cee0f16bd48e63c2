// A node comes and goes: its status, the stream of its changes, and what the seed would log.
#include <fmt/format.h>

#include <boost/asio.hpp>
#include <fedagent/fedagent.hpp>
#include <fedagent/fmt_observer.hpp>
#include <fedagent/transport/memory.hpp>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using Message = fedagent::memory::Message;
using Observer = fedagent::FmtObserver<>;
using Store = fedagent::AgentStore<fedagent::memory::Transport<>, Message, Observer>;

namespace {

asio::awaitable<void> print_changes(Store::status_events_type events) {
  while (true) {
    const auto event = co_await events.next();
    if (!event) {
      break;
    }
    fmt::print("event: {} {} -> {}\n", event->node_id, to_string(event->from),
               to_string(event->to));
  }
}

asio::awaitable<boost::system::result<void>> deliver(fedagent::MessagePtr<Message> task) {
  fmt::print("sent {}\n", task->request_id);
  co_return boost::system::result<void>();
}

// What `memory::Node` has done for it so far, by hand.
asio::awaitable<void> serve_one_poll(Store::agent_type agent) {
  // [poll]
  agent.set_active();
  auto task = co_await agent.get_task();
  if (task) {
    const auto sent = co_await deliver(task->message());
    if (sent) {
      task->delivered();
    }
  }
  agent.change_node_status_after_task();
  // [/poll]
}

asio::awaitable<void> story(Store& store) {
  const auto agent = store.retrieve("hospital-1").value();
  fedagent::memory::Node node(store, "hospital-1");

  (void)agent.try_send(Message{.request_id = "r1", .body = "train"});
  const auto task = co_await node.poll();  // and leaves to work: WAITING
  fmt::print("took {}, the node is {}\n", (*task)->request_id, to_string(agent.status()));

  // It does not come back in time, so its task goes back to the queue.
  co_await agent.wait_for(fedagent::NodeActiveStatus::disconnected);
  fmt::print("queued again: {}\n", agent.counters().queued);

  // It is back, as a new process, and gets the task once more.
  fedagent::memory::Node restarted(store, "hospital-1", 2);
  const auto again = co_await restarted.poll();
  fmt::print("took {} again\n", (*again)->request_id);
  Message reply{.request_id = (*again)->request_id};
  co_await restarted.reply(std::move(reply));

  (void)agent.try_send(Message{.request_id = "r2", .body = "train"});
  co_await serve_one_poll(agent);
  Message last{.request_id = "r2"};
  co_await restarted.reply(std::move(last));
  store.stop();
}

void print_line(fedagent::Severity severity, std::string_view line) {
  fmt::print("{}: {}\n", to_string(severity), line);
}

}  // namespace

int main() {
  asio::io_context io;
  fedagent::StoreOptions options;
  options.agent.disconnect_timeout = 30ms;
  Store store(io.get_executor(), options, Observer(print_line));
  asio::co_spawn(io, print_changes(store.status_events()), asio::detached);
  asio::co_spawn(io, story(store), asio::detached);
  io.run();
  return store.counters().balanced() ? 0 : 1;
}
