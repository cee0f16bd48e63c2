#include <doctest/doctest.h>
#include <unistd.h>
#include <algorithm>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <functional>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/faulty_stream.hpp"
#include "support/stream.hpp"

using namespace test::stream;
using fs::FrameType;
using test::errc;
using test::ReplyDisposition;
using namespace std::chrono_literals;

namespace {

using Faulty = FaultyStream<Socket>;
using Reply = boost::system::result<Message>;
using boost::system::error_code;

/// Where a client's attempts to connect end.
struct Network {
  explicit Network(test::Executor the_executor) : executor(the_executor) {}
  test::Executor executor;
  /// Takes the other end; none: connecting is refused.
  std::function<void(Socket)> accept{};
  std::shared_ptr<FaultPlan> plan = std::make_shared<FaultPlan>();
  bool hangs = false;
  /// It does not let itself be cancelled either, as looking up a name does not.
  bool deaf = false;
};

class PairConnector {
 public:
  using executor_type = test::Executor;

  explicit PairConnector(std::shared_ptr<Network> network) : network_(std::move(network)) {}
  executor_type get_executor() const noexcept { return network_->executor; }
  test::awaitable<boost::system::result<Faulty>> operator()() const { return connect(network_); }

 private:
  static test::awaitable<boost::system::result<Faulty>> connect(std::shared_ptr<Network> network) {
    if (network->deaf) {
      co_await boost::asio::this_coro::reset_cancellation_state(
          boost::asio::disable_cancellation());
    }
    if (network->hangs) {
      boost::asio::basic_waitable_timer<test::ManualClock,
                                        boost::asio::wait_traits<test::ManualClock>, test::Executor>
          never(network->executor, test::ManualClock::now() + 25s);
      co_await never.async_wait(boost::asio::deferred);
    }
    if (!network->accept) {
      co_return boost::asio::error::connection_refused;
    }
    Socket ours(network->executor);
    Socket theirs(network->executor);
    boost::asio::local::connect_pair(ours, theirs);
    network->accept(std::move(theirs));
    co_return Faulty(std::move(ours), network->plan);
  }

  std::shared_ptr<Network> network_;
};

using Client = fs::Client<PairConnector, test::ManualClock>;

/// The handler of a test: notes the tasks; answers at once, or when told to.
struct Work {
  std::vector<Message> tasks{};
  bool waits = false;
  bool fails = false;
  bool throws = false;
  std::size_t reply_size = 0;
  std::shared_ptr<boost::asio::experimental::channel<test::Executor, void(error_code, int)>> go{};
};

struct Handler {
  std::shared_ptr<Work> work;

  test::awaitable<Reply> operator()(Message task) const { return answer(work, std::move(task)); }

  static test::awaitable<Reply> answer(std::shared_ptr<Work> work, Message task) {
    work->tasks.push_back(task);
    if (work->waits) {
      co_await work->go->async_receive(boost::asio::deferred);
    }
    if (work->throws) {
      throw std::runtime_error("no");
    }
    if (work->fails) {
      co_return make_error_code(boost::system::errc::no_space_on_device);
    }
    Message reply;
    reply.body = work->reply_size > 0 ? std::string(work->reply_size, 'r') : "re: " + task.body;
    co_return reply;
  }
};

fs::ClientOptions options_of(const std::string& node_id) {
  fs::ClientOptions options;
  options.node_id = node_id;
  options.seed = 1;
  options.pause_jitter = 0.0;
  return options;
}

/// A client on a driven loop, with a network of its own.
class Node {
 public:
  Node(test::Loop& loop, fs::ClientOptions options)
      : loop_(&loop),
        network(std::make_shared<Network>(loop.executor())),
        work(std::make_shared<Work>()) {
    work->go =
        std::make_shared<boost::asio::experimental::channel<test::Executor, void(error_code, int)>>(
            loop.executor(), 100);
    options.on_connected = [this] { ++connected; };
    options.on_disconnected = [this](error_code error) { lost.push_back(error); };
    options.on_handler_error = [this](std::string_view id, std::exception_ptr) {
      failed.emplace_back(id);
    };
    options.on_reply_result = [this](std::string_view id, const fs::ReplyResult& result) {
      results.emplace_back(std::string(id), result);
    };
    client = std::make_unique<Client>(PairConnector(network), options);
  }

  /// Starts it against a server.
  void start(Served& served) {
    network->accept = [&served](Socket socket) { served.serve(std::move(socket)); };
    run();
  }
  /// Starts it against the test itself.
  void start(std::optional<Wire>& wire) {
    network->accept = [this, &wire](Socket socket) { wire.emplace(*loop_, std::move(socket)); };
    run();
  }
  /// The same, up to its first poll.
  void start_and_poll(std::optional<Wire>& wire) {
    start(wire);
    wire->expect(FrameType::hello);
    wire->send(welcome()).expect(FrameType::poll);
  }
  void run() {
    running = loop_->spawn(client->run(Handler{work}));
    loop_->drain();
  }
  void answer_one() {
    work->go->try_send(error_code(), 0);
    loop_->drain();
  }

 private:
  test::Loop* loop_;

 public:
  std::shared_ptr<Network> network;
  std::shared_ptr<Work> work;
  std::unique_ptr<Client> client;
  test::Spawned<error_code> running;
  int connected = 0;
  std::vector<error_code> lost;
  std::vector<std::string> failed;
  std::vector<std::pair<std::string, fs::ReplyResult>> results;
};

std::string id_of(const Frame& got) {
  const auto head = fs::decode_chunk_head(
      {reinterpret_cast<const unsigned char*>(got.payload.data()), fs::ChunkHead::encoded_size});
  return got.payload.substr(fs::ChunkHead::encoded_size, head.request_id);
}

}  // namespace

TEST_CASE("stream client: it connects, takes tasks, and its replies are delivered") {
  Served served;
  Node node(served.loop, options_of("n1"));
  node.start(served);
  CHECK(node.connected == 1);
  const auto agent = *served.store.get("n1");
  CHECK(agent.open_polls() == 1);
  for (const char* id : {"r1", "r2", "r3"}) {
    auto asked = served.loop.spawn(agent.request(task(id, "question")));
    served.loop.drain();
    REQUIRE(asked.value());
    CHECK((*asked.value())->body == "re: question");
  }
  CHECK(node.results.size() == 3);
  CHECK(*node.results[2].second == ReplyDisposition::delivered);
  CHECK(served.store.counters().confirmed == 3);
  CHECK(served.store.counters().balanced());
  CHECK(node.client->counters().unanswered == 0);
}

TEST_CASE("stream client: E5 messages of many chunks pass both ways") {
  fs::ServerOptions server_options;
  server_options.connection.chunk_size = 4096;
  Served served(server_options);
  Node node(served.loop, options_of("n1"));
  node.work->reply_size = 3'000'001;
  node.start(served);
  const std::string model(2'000'003, 'm');
  auto asked = served.loop.spawn(served.store.get("n1")->request(task("r1", model)));
  served.loop.drain();
  REQUIRE(asked.value());
  CHECK((*asked.value())->body == std::string(3'000'001, 'r'));
  REQUIRE(node.work->tasks.size() == 1);
  CHECK(node.work->tasks[0].body == model);
}

TEST_CASE(
    "stream client: it polls again when it has replied, and the task stays on lease until then") {
  Served served;
  Node node(served.loop, options_of("n1"));
  node.work->waits = true;
  node.start(served);
  const auto agent = *served.store.get("n1");
  for (const char* id : {"r1", "r2"}) {
    REQUIRE(agent.try_send(task(id)));
  }
  served.loop.drain();
  CHECK(node.work->tasks.size() == 1);
  CHECK(agent.counters().confirmed == 0);
  CHECK(agent.counters().leased == 1);
  CHECK(agent.counters().queued == 1);
  CHECK(agent.open_polls() == 0);
  CHECK(agent.status() == fedagent::NodeActiveStatus::waiting);
  node.answer_one();
  CHECK(node.work->tasks.size() == 2);
  CHECK(agent.counters().confirmed == 1);
  CHECK(agent.counters().leased == 1);
  node.answer_one();
  CHECK(agent.counters().replied == 2);
  CHECK(agent.open_polls() == 1);
}

TEST_CASE("stream client: H5 a node that dies while it works gets the task again when it is back") {
  Served served;
  {
    Node node(served.loop, options_of("n1"));
    node.work->waits = true;
    node.start(served);
    REQUIRE(served.store.get("n1")->try_send(task("r1")));
    served.loop.drain();
    REQUIRE(node.work->tasks.size() == 1);
  }
  served.loop.drain();
  Node restarted(served.loop, options_of("n1"));
  restarted.start(served);
  served.loop.drain();
  CHECK(restarted.work->tasks.size() == 1);
  const auto agent = *served.store.get("n1");
  CHECK(agent.counters().redelivered == 1);
  CHECK(agent.counters().replied == 1);
  CHECK(agent.counters().balanced());
}

TEST_CASE("stream client: it pings, also while it works, and stays connected") {
  Served served;
  Node node(served.loop, options_of("n1"));
  node.work->waits = true;
  node.start(served);
  const auto agent = *served.store.get("n1");
  REQUIRE(agent.try_send(task("r1")));
  REQUIRE(agent.try_send(task("r2")));
  for (int i = 0; i < 300; ++i) {
    served.loop.advance(1s);
  }
  CHECK(node.connected == 1);
  CHECK(node.lost.empty());
  CHECK(agent.status() == fedagent::NodeActiveStatus::waiting);
  CHECK(served.faults.empty());
}

TEST_CASE("stream client: E7 H5 what dies in the middle of a task is delivered again") {
  Served served;
  Node node(served.loop, options_of("n1"));
  node.network->accept = [&](Socket socket) { served.serve(std::move(socket)); };
  node.network->plan->fails_at = 40;  // in the middle of the task below
  node.run();
  auto asked =
      served.loop.spawn(served.store.get("n1")->request(task("r1", std::string(8U << 20U, 'm'))));
  served.loop.drain();
  CHECK_FALSE(asked.done());
  CHECK(node.lost.size() == 1);
  CHECK(served.store.counters().redelivered == 1);
  served.loop.advance(100ms);
  REQUIRE(asked.done());
  CHECK(asked.value());
  CHECK(node.connected == 2);
  CHECK(node.work->tasks.size() == 1);
  CHECK(served.store.counters().balanced());
}

TEST_CASE("stream client: H21 a reply that was not answered is sent again, and delivered once") {
  test::Loop loop;
  Node node(loop, options_of("n1"));
  std::optional<Wire> wire;
  node.start_and_poll(wire);
  wire->send(whole(FrameType::task, task("r1")));
  CHECK(id_of(wire->expect(FrameType::reply)) == "r1");
  wire->expect(FrameType::poll);
  CHECK(node.client->counters().unanswered == 1);
  wire->close();
  loop.advance(100ms);
  wire->expect(FrameType::hello);
  wire->send(welcome());
  // Before it polls, so that the server need not deliver the task again.
  CHECK(id_of(wire->expect(FrameType::reply)) == "r1");
  wire->expect(FrameType::poll);
  wire->send(result_frame(ReplyDisposition::duplicate));
  CHECK(node.client->counters().unanswered == 0);
  REQUIRE(node.results.size() == 1);
  CHECK(*node.results[0].second == ReplyDisposition::duplicate);
}

TEST_CASE("stream client: a task that comes again while it is here is not done twice") {
  test::Loop loop;
  Node node(loop, options_of("n1"));
  node.work->waits = true;
  std::optional<Wire> wire;
  node.start_and_poll(wire);
  wire->send(whole(FrameType::task, task("r1")));
  CHECK(wire->quiet());  // it works
  wire->close();
  loop.advance(100ms);
  wire->expect(FrameType::hello);
  wire->send(welcome());
  CHECK(wire->quiet());  // it works still
  node.answer_one();
  CHECK(id_of(wire->expect(FrameType::reply)) == "r1");
  wire->expect(FrameType::poll);
  wire->send(whole(FrameType::task, task("r1"))).expect(FrameType::poll);  // reply not answered
  CHECK(node.client->counters().duplicates == 1);
  // The server has the reply: the same id is a new request now.
  wire->send(result_frame(ReplyDisposition::delivered));
  wire->send(whole(FrameType::task, task("r1")));
  CHECK(node.client->counters().duplicates == 1);
  node.answer_one();
  CHECK(node.work->tasks.size() == 2);
}

TEST_CASE("stream client: a task that is on its way when its reply is accepted is a duplicate") {
  test::Loop loop;
  Node node(loop, options_of("n1"));
  std::optional<Wire> wire;
  node.start_and_poll(wire);
  wire->send(whole(FrameType::task, task("r1"))).expect(FrameType::reply);
  wire->expect(FrameType::poll);
  const fs::ChunkHead head{.total = 6, .request_id = 2};
  wire->send(chunk(FrameType::task, head, "r1abc", false));
  wire->send(result_frame(ReplyDisposition::delivered));
  wire->send(chunk(FrameType::task, {.index = 1}, "def", true));
  CHECK(node.client->counters().duplicates == 1);
  CHECK(node.work->tasks.size() == 1);
  wire->expect(FrameType::poll);
}

TEST_CASE("stream client: H4 a fenced client ends and does not fight") {
  Served served;
  Node old(served.loop, options_of("n1"));
  old.start(served);
  fs::ClientOptions other = options_of("n1");
  other.seed = 2;
  Node fresh(served.loop, other);
  fresh.start(served);
  REQUIRE(old.running.done());
  CHECK(old.running.value() == errc::superseded);
  for (int i = 0; i < 60; ++i) {
    served.loop.advance(1s);
  }
  CHECK(old.connected == 1);
  CHECK(fresh.connected == 1);
  auto asked = served.loop.spawn(served.store.get("n1")->request(task("r1")));
  served.loop.drain();
  CHECK(asked.value());
  CHECK(fresh.work->tasks.size() == 1);
}

TEST_CASE("stream client: a poll that ends as superseded ends the client") {
  test::Loop loop;
  Node node(loop, options_of("n1"));
  std::optional<Wire> wire;
  node.start_and_poll(wire);
  wire->send(poll_end(make_error_code(errc::superseded)));
  CHECK(node.running.value() == errc::superseded);
  CHECK(wire->ended());
}

TEST_CASE("stream client: what another attempt cannot change ends it, with the server's reason") {
  for (const error_code reason :
       {error_code(fs::errc::unsupported_version), error_code(fs::errc::not_authenticated),
        make_error_code(errc::not_admitted), make_error_code(errc::bad_node_id)}) {
    test::Loop loop;
    Node node(loop, options_of("n1"));
    std::optional<Wire> wire;
    node.start(wire);
    wire->expect(FrameType::hello);
    wire->send(frame(FrameType::error, fs::encode_error(reason)));
    CHECK(node.running.value() == reason);
  }
}

TEST_CASE("stream client: pauses double up to a limit, and start anew after a success") {
  test::Loop loop;
  auto options = options_of("n1");
  options.longest_pause = 1s;
  Node node(loop, options);
  node.run();
  CHECK(node.client->counters().attempts == 1);
  const auto attempts_after = [&](fedagent::Duration pause) {
    loop.advance(pause - 1ms);
    const auto before = node.client->counters().attempts;
    loop.advance(1ms);
    return node.client->counters().attempts - before;
  };
  for (const auto pause : {100ms, 200ms, 400ms, 800ms, 1000ms, 1000ms}) {
    CAPTURE(pause.count());
    CHECK(attempts_after(pause) == 1);
  }
  std::optional<Wire> wire;
  node.network->accept = [&](Socket socket) { wire.emplace(loop, std::move(socket)); };
  loop.advance(1s);
  wire->send(welcome());
  CHECK(node.connected == 1);
  wire->close();
  CHECK(attempts_after(100ms) == 1);
  CHECK(node.lost.front() == boost::asio::error::connection_refused);
}

TEST_CASE("stream client: the jitter takes a part of each pause, by chance") {
  std::minstd_rand random(1);
  fs::detail::BackOff pauses(100ms, 100ms, 0.5);
  std::set<fedagent::Duration> seen;
  for (int i = 0; i < 100; ++i) {
    const auto pause = pauses.next(random);
    CHECK(pause >= 50ms);
    CHECK(pause <= 100ms);
    seen.insert(pause);
  }
  CHECK(seen.size() > 90);
}

TEST_CASE("stream client: connecting has a time limit") {
  test::Loop loop;
  Node node(loop, options_of("n1"));
  node.network->hangs = true;
  SUBCASE("of a connector that can be cancelled") {}
  SUBCASE("of one that cannot") { node.network->deaf = true; }
  node.run();
  loop.advance(10s);
  REQUIRE(node.lost.size() == 1);
  CHECK(node.lost[0] == fs::errc::connect_timeout);
  loop.advance(100ms);
  CHECK(node.client->counters().attempts == 2);
  loop.advance(16s);  // the first one has ended by itself; the second one is given up
  CHECK(node.lost.size() == 2);
  node.client->stop();
  loop.drain();
  CHECK(node.running.value() == errc::stopped);
}

TEST_CASE("stream client: a server that is silent is left, before and after its welcome") {
  test::Loop loop;
  Node node(loop, options_of("n1"));
  std::optional<Wire> wire;
  node.start(wire);
  wire->expect(FrameType::hello);
  loop.advance(5s);
  CHECK(wire->told() == fs::errc::hello_timeout);
  wire->close();
  loop.advance(1s);
  wire->expect(FrameType::hello);
  wire->send(welcome()).expect(FrameType::poll);
  for (int i = 0; i < 3; ++i) {
    loop.advance(4s);
    wire->expect(FrameType::ping);
  }
  loop.advance(3s);
  CHECK(wire->told() == fs::errc::peer_silent);
  CHECK(node.lost.size() == 1);
  wire->close();
  CHECK(node.lost.size() == 2);
  CHECK(node.lost.back() == fs::errc::peer_silent);
}

TEST_CASE(
    "stream client: what is wrong with the server's frames ends the connection, not the client") {
  const auto two = whole(FrameType::task, task("r1")) + whole(FrameType::task, task("r2"));
  struct Case {
    const char* what;
    std::string bytes;
    fs::errc expected;
  };
  const Case cases[] = {
      {"garbage", std::string(64, '\xff'), fs::errc::unknown_frame_type},
      {"second welcome", welcome(), fs::errc::unexpected_frame},
      {"result of nothing", result_frame(ReplyDisposition::delivered), fs::errc::unexpected_frame},
      {"end of no poll", two + poll_end(make_error_code(errc::poll_ended)),
       fs::errc::unexpected_frame},
      {"task without a poll", two + whole(FrameType::task, task("r3")), fs::errc::unexpected_frame},
      {"bad result", frame(FrameType::reply_result, "xyz"), fs::errc::malformed_payload},
      {"oversized task", chunk(FrameType::task, {.total = std::uint64_t{3} << 30U}, "", false),
       fs::errc::message_too_large},
  };
  for (const auto& each : cases) {
    CAPTURE(each.what);
    test::Loop loop;
    Node node(loop, options_of("n1"));
    node.work->waits = true;
    std::optional<Wire> wire;
    node.start_and_poll(wire);
    wire->send(each.bytes);
    for (auto got = wire->next(); got; got = wire->next()) {
      if (got->type == FrameType::error) {
        CHECK(fs::decode_error(got->payload) == each.expected);
      }
    }
    CHECK(wire->ended());
    wire->close();
    REQUIRE(node.lost.size() == 1);
    CHECK(node.lost[0] == each.expected);
    loop.advance(100ms);
    wire->expect(FrameType::hello);
  }
}

TEST_CASE(
    "stream client: a handler that fails gives no reply, is reported, and the next task comes") {
  Served served;
  Node node(served.loop, options_of("n1"));
  node.start(served);
  const auto agent = *served.store.get("n1");
  node.work->throws = true;
  auto first = served.loop.spawn(agent.request(task("r1"), 60s));
  served.loop.drain();
  node.work->throws = false;
  node.work->fails = true;
  auto second = served.loop.spawn(agent.request(task("r2"), 60s));
  served.loop.drain();
  node.work->fails = false;
  CHECK(node.failed == std::vector<std::string>{"r1", "r2"});
  CHECK(node.client->counters().handler_errors == 2);
  auto third = served.loop.spawn(agent.request(task("r3"), 60s));
  served.loop.drain();
  CHECK(third.value());
  for (int i = 0; i < 60; ++i) {
    served.loop.advance(1s);
  }
  CHECK(first.value().error() == errc::deadline_passed);
  CHECK(second.value().error() == errc::deadline_passed);
}

TEST_CASE("stream client: a reply that the server does not take at all is given up, and told") {
  fs::ServerOptions server_options;
  server_options.connection.limits.max_message = 10;
  Served served(server_options);
  Node node(served.loop, options_of("n1"));
  node.work->reply_size = 11;
  node.start(served);
  auto asked = served.loop.spawn(served.store.get("n1")->request(task("r1"), 10s));
  served.loop.drain();
  REQUIRE(node.results.size() == 1);
  CHECK(node.results[0].second.error() == fs::errc::message_too_large);
  CHECK(node.lost.empty());
  CHECK(served.store.get("n1")->open_polls() == 1);
}

TEST_CASE("stream client: feedback and overlay messages") {
  Served served;
  Node one(served.loop, options_of("n1"));
  Node two(served.loop, options_of("n2"));
  CHECK(served.loop.run(one.client->feedback({"log", "early"})) == fs::errc::not_connected);
  one.start(served);
  two.start(served);
  CHECK_FALSE(served.loop.run(one.client->feedback({"log", "a line"})));
  CHECK(served.loop.run(one.client->feedback({"log", std::string(2U << 20U, 'x')})) ==
        fs::errc::frame_too_large);
  auto overlay = task("", "psst");
  CHECK(served.loop.run(one.client->send(overlay)).error() == fs::errc::destination_missing);
  overlay.destination = "n2";
  CHECK(*served.loop.run(one.client->send(overlay)) == ReplyDisposition::forwarded);
  REQUIRE(two.work->tasks.size() == 1);
  CHECK(two.work->tasks[0].body == "psst");
  CHECK(two.work->tasks[0].source == "n1");
  CHECK(two.client->counters().unanswered == 0);  // no reply goes to the researcher
  overlay.destination = "nobody";
  CHECK(served.loop.run(one.client->send(overlay)).error() == errc::unknown_node);
}

TEST_CASE("stream client: E20 a source learns what became of a message that it had relayed") {
  Served served;
  std::vector<std::pair<std::string, boost::system::result<void>>> receipts;
  auto options = options_of("n1");
  options.on_receipt = [&receipts](std::string_view id, const boost::system::result<void>& result) {
    receipts.emplace_back(id, result);
  };
  Node one(served.loop, options);
  Node two(served.loop, options_of("n2"));
  one.start(served);
  two.start(served);
  auto overlay = task("k1", "psst");
  overlay.destination = "n2";
  CHECK(*served.loop.run(one.client->send(overlay)) == ReplyDisposition::forwarded);
  served.loop.drain();
  REQUIRE(receipts.size() == 1);  // the client polls again when it has the message
  CHECK(receipts[0].first == "k1");
  CHECK(receipts[0].second);

  two.work->waits = true;  // it works, and does not poll
  overlay.request_id = "k2";
  CHECK(*served.loop.run(one.client->send(overlay)) == ReplyDisposition::forwarded);
  served.store.erase("n2");
  served.loop.drain();
  REQUIRE(receipts.size() == 2);
  CHECK(receipts[1].first == "k2");
  CHECK(receipts[1].second.error() == errc::removed);
}

TEST_CASE("stream client: an overlay message whose answer was lost is not sent twice") {
  test::Loop loop;
  Node node(loop, options_of("n1"));
  std::optional<Wire> wire;
  node.start_and_poll(wire);
  auto overlay = task("", "psst");
  overlay.destination = "n2";
  auto sent = loop.spawn(node.client->send(overlay));
  loop.drain();
  wire->expect(FrameType::overlay);
  wire->close();
  CHECK(sent.value().error() == fs::errc::connection_lost);
  auto later = loop.spawn(node.client->send(overlay));
  loop.advance(100ms);
  wire->expect(FrameType::hello);
  wire->send(welcome()).expect(FrameType::overlay);
  wire->send(result_frame(ReplyDisposition::forwarded));
  CHECK(*later.value() == ReplyDisposition::forwarded);
}

TEST_CASE("stream client: it can be stopped, cancelled and destroyed at any point") {
  for (int how = 0; how < 3; ++how) {
    for (int point = 0; point < 5; ++point) {
      CAPTURE(how);
      CAPTURE(point);
      Served served;
      auto node = std::make_unique<Node>(served.loop, options_of("n1"));
      node->work->waits = true;
      if (point == 0) {
        node->network->hangs = true;
      }
      if (point != 1) {
        node->network->accept = [&](Socket socket) { served.serve(std::move(socket)); };
      }
      node->run();
      if (point >= 3) {
        REQUIRE(served.store.try_send("n1", std::make_shared<const Message>(task("r1"))));
        served.loop.drain();
      }
      if (point == 4) {
        REQUIRE(served.store.try_send("n1", std::make_shared<const Message>(task("r2"))));
        served.loop.drain();
      }
      auto running = node->running;
      if (how == 0) {
        node->client->stop();
      } else if (how == 1) {
        running.cancel();
      } else {
        node.reset();
      }
      served.loop.drain();
      REQUIRE(running.done());
      CHECK(running.value() == (how == 1 ? error_code(boost::asio::error::operation_aborted)
                                         : make_error_code(errc::stopped)));
      CHECK(served.server.counters().open == 0);
      CHECK(served.store.counters().balanced());
    }
  }
}

TEST_CASE("stream client: a connector may stop it before it waits for anything") {
  test::Loop loop;
  Node node(loop, options_of("n1"));
  node.network->accept = [&](Socket) { node.client->stop(); };
  node.run();
  CHECK(node.running.value() == errc::stopped);
}

TEST_CASE("stream client: it may run once at a time") {
  test::Loop loop;
  Node node(loop, options_of("n1"));
  node.run();
  CHECK(loop.run(node.client->run(Handler{node.work})) == fs::errc::already_running);
}

TEST_CASE(
    "stream client: H32 a server that stops and comes back is found again, and has its reply") {
  Served first;
  Node node(first.loop, options_of("n1"));
  node.work->waits = true;
  node.start(first);
  REQUIRE(first.store.try_send("n1", std::make_shared<const Message>(task("r1"))));
  first.loop.drain();
  first.server.stop();
  first.loop.drain();
  REQUIRE(node.lost.size() == 1);
  CHECK(node.lost[0] == errc::stopped);
  node.answer_one();
  Server second(first.store);
  node.network->accept = [&](Socket socket) {
    boost::asio::co_spawn(first.loop.io, second.serve(std::move(socket)), boost::asio::detached);
  };
  first.loop.advance(100ms);
  REQUIRE(node.results.size() == 1);
  CHECK(*node.results[0].second == ReplyDisposition::delivered);
  CHECK(first.store.counters().balanced());
}

TEST_CASE("stream client: whichever operation of the stream fails, nothing is lost") {
  std::size_t fails_at = 1;
  bool passed = false;
  for (; !passed; ++fails_at) {
    CAPTURE(fails_at);
    REQUIRE(fails_at < 1000);
    fs::ServerOptions server_options;
    server_options.connection.chunk_size = 4096;
    Served served(server_options);
    Node node(served.loop, options_of("n1"));
    node.network->plan->fails_at = fails_at;
    node.work->reply_size = 20'000;
    auto agent = *served.store.retrieve("n1");
    std::vector<test::Spawned<fedagent::Outcome<Message>>> asked;
    for (const char* id : {"r1", "r2", "r3"}) {
      asked.push_back(served.loop.spawn(agent.request(task(id, std::string(20'000, 'm')))));
    }
    node.start(served);
    for (int i = 0; i < 3; ++i) {
      served.loop.advance(100ms);
    }
    for (auto& each : asked) {
      REQUIRE(each.done());
      REQUIRE(each.value());
      CHECK((*each.value())->body.size() == 20'000);
    }
    CHECK(node.work->tasks.size() == 3);
    const auto counters = served.store.counters();
    CHECK(counters.balanced());
    CHECK(counters.confirmed == 3);
    CHECK(counters.replies_that_were(ReplyDisposition::delivered) == 3);
    CHECK(node.client->counters().unanswered == 0);
    passed = node.lost.empty();
  }
  CHECK(fails_at > 60);
}

TEST_CASE("stream client: whichever operation of the server's stream fails, nothing is lost") {
  std::size_t fails_at = 1;
  bool passed = false;
  for (; !passed; ++fails_at) {
    CAPTURE(fails_at);
    REQUIRE(fails_at < 1000);
    fs::ServerOptions server_options;
    server_options.connection.chunk_size = 4096;
    Served served(server_options);
    const auto plan = std::make_shared<FaultPlan>(FaultPlan{.fails_at = fails_at});
    Node node(served.loop, options_of("n1"));
    node.work->reply_size = 20'000;
    node.network->accept = [&](Socket socket) { served.serve(Faulty(std::move(socket), plan)); };
    auto agent = *served.store.retrieve("n1");
    std::vector<test::Spawned<fedagent::Outcome<Message>>> asked;
    for (const char* id : {"r1", "r2", "r3"}) {
      asked.push_back(served.loop.spawn(agent.request(task(id, std::string(20'000, 'm')))));
    }
    node.run();
    for (int i = 0; i < 3; ++i) {
      served.loop.advance(100ms);
    }
    for (auto& each : asked) {
      REQUIRE(each.done());
      REQUIRE(each.value());
    }
    CHECK(node.work->tasks.size() == 3);
    const auto counters = served.store.counters();
    CHECK(counters.balanced());
    CHECK(counters.confirmed == 3);
    CHECK(counters.replies_that_were(ReplyDisposition::delivered) == 3);
    passed = node.lost.empty();
  }
  CHECK(fails_at > 30);
}

TEST_CASE("stream client: a ping passes between the chunks of a reply") {
  test::Loop loop;
  Node node(loop, options_of("n1"));
  node.work->reply_size = 8U << 20U;
  std::optional<Wire> wire;
  node.start_and_poll(wire);
  wire->send(whole(FrameType::task, task("r1")));
  loop.advance(4s);  // nothing reads: the reply has stopped on its way
  std::size_t before = 0;
  std::size_t after = 0;
  bool pinged = false;
  for (auto got = wire->next(); got; got = wire->next()) {
    pinged = pinged || got->type == FrameType::ping;
    (pinged ? after : before) += got->type == FrameType::reply ? 1U : 0U;
  }
  CHECK(pinged);
  CHECK(before < 8);
  CHECK(after > 20);
}

TEST_CASE("stream client: E5 a message is in memory once, at either end") {
  Served served;
  Node node(served.loop, options_of("n1"));
  node.work->reply_size = 20U << 20U;
  node.start(served);
  auto asked =
      served.loop.spawn(served.store.get("n1")->request(task("r1", std::string(20U << 20U, 'm'))));
  std::uint64_t most = 0;
  while (!asked.done()) {
    served.loop.io.restart();
    REQUIRE(served.loop.io.poll_one() > 0);
    most = std::max(most, served.server.counters().incoming_bytes);
  }
  CHECK(most == 20U << 20U);
  CHECK(served.server.counters().incoming_bytes == 0);
  CHECK((*asked.value())->body.capacity() == 20U << 20U);  // nothing was rounded up
  CHECK(node.work->tasks.at(0).body.size() == 20U << 20U);
}

TEST_CASE("stream client: everything may be destroyed after any number of handlers") {
  std::size_t last = 1;
  for (std::size_t stop_after = 0; stop_after <= last; ++stop_after) {
    Served served;
    Node node(served.loop, options_of("n1"));
    node.work->reply_size = 600'000;
    node.network->accept = [&](Socket socket) { served.serve(std::move(socket)); };
    auto agent = *served.store.retrieve("n1");
    auto asked = served.loop.spawn(agent.request(task("r1", std::string(600'000, 'm'))));
    node.running = served.loop.spawn(node.client->run(Handler{node.work}));
    std::size_t ran = 0;
    while (ran < stop_after && !asked.done()) {
      served.loop.io.restart();
      ran += served.loop.io.poll_one();
    }
    CHECK(served.store.counters().balanced());
    last = asked.done() ? 0 : stop_after + 1;
    if (asked.done()) {
      CHECK(asked.value());
      CHECK(stop_after > 50);
    }
  }
}

TEST_CASE("stream client: client and server may be destroyed after their loop, whatever they do") {
  for (std::size_t handlers = 0; handlers < 100; ++handlers) {
    auto loop = std::make_unique<test::Loop>();
    Store store(loop->executor());
    Server server(store);
    REQUIRE(server.listen(boost::asio::ip::tcp::endpoint(boost::asio::ip::tcp::v4(), 0)));
    const auto network = std::make_shared<Network>(loop->executor());
    network->accept = [&](Socket socket) {
      boost::asio::co_spawn(loop->io, server.serve(std::move(socket)), boost::asio::detached);
    };
    network->hangs = handlers % 10 == 0;
    const auto work = std::make_shared<Work>();
    Client client(PairConnector(network), options_of("n1"));
    boost::asio::co_spawn(loop->io, client.run(Handler{work}), boost::asio::detached);
    auto agent = *store.retrieve("n1");
    REQUIRE(agent.try_send(task("r1", std::string(600'000, 'm'))));
    for (std::size_t i = 0; i < handlers; ++i) {
      loop->io.restart();
      loop->io.poll_one();
    }
    loop.reset();
  }
}

TEST_CASE("stream client: the ready-made connectors, over TCP and a Unix socket") {
  test::Loop loop;
  Store store(loop.executor());
  Server server(store);
  using Tcp = boost::asio::ip::tcp;
  const auto bound = server.listen(Tcp::endpoint(boost::asio::ip::make_address("127.0.0.1"), 0));
  REQUIRE(bound);
  const std::string path = "/tmp/fedagent-test-" + std::to_string(::getpid());
  REQUIRE(server.listen(boost::asio::local::stream_protocol::endpoint(path)));
  const auto work = std::make_shared<Work>();
  fs::Client<fs::TcpConnector<test::Executor>, test::ManualClock> tcp(
      {loop.executor(), "127.0.0.1", std::to_string(bound->port())}, options_of("n1"));
  fs::Client<fs::UnixConnector<test::Executor>, test::ManualClock> local({loop.executor(), path},
                                                                         options_of("n2"));
  auto first = loop.spawn(tcp.run(Handler{work}));
  auto second = loop.spawn(local.run(Handler{work}));
  // Looking up a name happens in a thread of Asio's, even for a number.
  while (!tcp.connected() || !local.connected() || tcp.counters().welcomed == 0 ||
         local.counters().welcomed == 0) {
    loop.drain();
  }
  auto asked = loop.spawn(store.get("n1")->request(task("r1")));
  auto asked_too = loop.spawn(store.get("n2")->request(task("r1")));
  while (!asked.done() || !asked_too.done()) {
    loop.drain();
  }
  CHECK(asked.value());
  CHECK(asked_too.value());
  ::unlink(path.c_str());
}
