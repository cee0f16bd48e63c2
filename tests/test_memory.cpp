#include <doctest/doctest.h>

#include <boost/asio/error.hpp>
#include <string>
#include <type_traits>
#include <vector>

#include "fedagent/transport/memory.hpp"
#include "support/loop.hpp"

namespace {

using namespace test;

static_assert(fedagent::Transport<fedagent::memory::Transport<>>);
static_assert(fedagent::Transport<test::Transport>);
static_assert(std::is_same_v<fedagent::transport_clock_t<fedagent::memory::Transport<>>,
                             std::chrono::steady_clock>);

TEST_CASE("memory: decode gives what was sent") {
  const Message sent{.request_id = "r", .body = "b", .destination = "d", .source = "s"};
  const auto decoded = Transport::decode(sent);
  REQUIRE(decoded);
  CHECK(decoded->request_id == "r");
  CHECK(decoded->body == "b");
  CHECK(decoded->destination == "d");
  CHECK(decoded->source == "s");
}

TEST_CASE("memory: the size of a message is that of its strings") {
  const Message sent{.request_id = "r", .body = "four", .destination = "to", .source = "from"};
  CHECK(sent.size() == 11);
  CHECK(fedagent::message_traits<Message>::size(sent) == 11);
  CHECK(Message{}.size() == 0);
}

TEST_CASE("memory: a node polls a task, replies to it, and the request has its reply") {
  Loop loop;
  Store store(loop.executor());
  Node node(store, "n");
  CHECK(node.node_id() == "n");

  auto polled = loop.spawn(node.poll());
  loop.drain();
  auto agent = store.get("n");
  REQUIRE(agent);
  auto requested = loop.spawn(agent->request(message("r", "train")));
  loop.drain();

  REQUIRE(polled.value());
  CHECK((*polled.value())->body == "train");
  Message answer{.request_id = "r", .body = "trained"};
  const auto replied = loop.run(node.reply(answer));
  REQUIRE(replied);
  CHECK(*replied == ReplyDisposition::delivered);
  REQUIRE(requested.value());
  CHECK((*requested.value())->body == "trained");
}

TEST_CASE("memory: a poll hands over the very message that was sent, without a copy") {
  Loop loop;
  Store store(loop.executor());
  Node node(store, "n");
  Node other(store, "o");
  REQUIRE(store.retrieve("n"));
  REQUIRE(store.retrieve("o"));
  const auto sent = message("", "for all");
  CHECK(store.broadcast(sent) == 2);
  CHECK(*loop.run(node.poll()) == sent);
  CHECK(*loop.run(other.poll()) == sent);
}

TEST_CASE("memory: a poll ends with the error of the store") {
  Loop loop;
  fedagent::StoreOptions options;
  options.agent.poll_timeout = 5s;
  options.agent.poll_jitter = 0.0;
  Store store(loop.executor(), options);

  Node nameless(store, "");
  CHECK(loop.run(nameless.poll()).error() == errc::bad_node_id);
  Node node(store, "n");
  auto polled = loop.spawn(node.poll());
  loop.advance(5s);
  CHECK(polled.value().error() == errc::poll_ended);
  store.stop();
  CHECK(loop.run(node.poll()).error() == errc::stopped);
}

TEST_CASE("memory: a poll that is cancelled takes nothing") {
  Loop loop;
  Store store(loop.executor());
  Node node(store, "n");
  auto polled = loop.spawn(node.poll());
  loop.drain();
  polled.cancel();  // on its way when the task comes, and so is the wake-up of the poll
  REQUIRE(store.try_send("n", message("r")));
  loop.drain();
  CHECK(polled.value().error() == boost::asio::error::operation_aborted);
  CHECK(store.counters().queued == 1);
  CHECK(loop.run(node.poll()));
}

TEST_CASE("memory: another session of the same node gets again what the first has not confirmed") {
  Loop loop;
  Store store(loop.executor());
  REQUIRE(store.retrieve("n"));
  REQUIRE(store.try_send("n", message("r", "once more")));
  Node first(store, "n", 1);
  Node second(store, "n", 2);
  CHECK(loop.run(first.poll()));
  const auto again = loop.run(second.poll());
  REQUIRE(again);
  CHECK((*again)->body == "once more");
}

TEST_CASE("memory: without on_feedback in the observer, feedback has no route") {
  Loop loop;
  Store store(loop.executor());
  Node node(store, "n");
  CHECK(node.feedback(1).error() == errc::unknown_node);
  REQUIRE(store.retrieve("n"));
  CHECK(node.feedback(1).error() == errc::no_route);
}

}  // namespace
