// Every accepted request ends once, with its reply or with the reason why there is none.
#include <fmt/format.h>

#include <boost/asio.hpp>
#include <fedagent/fedagent.hpp>
#include <fedagent/transport/memory.hpp>

namespace asio = boost::asio;
using Message = fedagent::memory::Message;
using Store = fedagent::AgentStore<fedagent::memory::Transport<>>;
using Outcome = Store::outcome_type;

namespace {

std::string text(const Outcome& outcome) {
  return outcome ? "reply: " + (*outcome)->body : "no reply: " + outcome.error().message();
}

// A handler is any callable; it is called exactly once, on the executor.
struct Print {
  std::string name;
  void operator()(const Outcome& outcome) const { fmt::print("{}: {}\n", name, text(outcome)); }
};

asio::awaitable<void> story(Store& store) {
  const auto agent = store.retrieve("hospital-1").value();
  fedagent::memory::Node node(store, "hospital-1");

  // Nobody polls, so the deadline ends this one.
  Message slow{.request_id = "slow", .body = "train"};
  const auto missed = co_await agent.request(std::move(slow), std::chrono::milliseconds(20));
  fmt::print("slow: {}\n", text(missed));

  // Withdrawn while it is queued: the node never sees it.
  (void)agent.try_send(Message{.request_id = "regretted", .body = "train"}, Print{"regretted"});
  agent.NodeAgentAsync::flush("regretted");

  // What is not accepted says so at once, and its handler is not called.
  (void)agent.try_send(Message{.request_id = "twin", .body = "train"}, Print{"twin"});
  const auto refused = agent.try_send(Message{.request_id = "twin"}, Print{"never"});
  fmt::print("second twin: {}\n", refused.error().message());

  // The node works, and its reply comes twice.
  const auto task = co_await node.poll();
  for (int i = 0; i < 2; ++i) {
    Message reply{.request_id = (*task)->request_id, .body = "42"};
    const auto disposition = co_await node.reply(std::move(reply));
    fmt::print("the server says: {}\n",
               *disposition == fedagent::ReplyDisposition::delivered ? "delivered" : "duplicate");
  }

  const auto sum = store.counters();
  fmt::print("accepted {} = confirmed {} + dropped {} + queued {} + leased {}\n", sum.accepted,
             sum.confirmed, sum.total_dropped(), sum.queued, sum.leased);
  store.stop();
}

}  // namespace

int main() {
  asio::io_context io;
  Store store(io.get_executor());
  asio::co_spawn(io, story(store), asio::detached);
  io.run();
  return store.counters().balanced() ? 0 : 1;
}
