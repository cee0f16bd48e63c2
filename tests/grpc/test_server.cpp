#include <doctest/doctest.h>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <exception>
#include <memory>
#include <optional>
#include <source_location>
#include <string>
#include <string_view>
#include <vector>

#include "fedagent/agent_store.hpp"
#include "fedagent/fedbiomed/replies.hpp"
#include "fedagent/fedbiomed/requests.hpp"
#include "fedagent/fedbiomed/server.hpp"
#include "support/grpc_client.hpp"
#include "support/manual_clock.hpp"

namespace asio = boost::asio;
namespace fedbiomed = fedagent::fedbiomed;
using namespace std::chrono_literals;
using fedbiomed::Message;
using fedbiomed::Version;
using ::grpc::StatusCode;
using test::ClientCall;

namespace {

const std::string get_task_unary = "/researcher.ResearcherService/GetTaskUnary";
const std::string reply_task = "/researcher.ResearcherService/ReplyTask";
const std::string feedback = "/researcher.ResearcherService/Feedback";

struct Seen {
  std::vector<std::string> log_lines{};
  std::vector<float> metrics{};
  std::vector<std::string> unknown{};
};

struct Observer {
  Seen* seen;
  void on_feedback(std::string_view, const fedbiomed::Log& log) const {
    seen->log_lines.push_back(log.msg);
  }
  void on_feedback(std::string_view, const fedbiomed::Scalar& scalar) const {
    seen->metrics.push_back(scalar.metric.at("loss"));
  }
  void on_unknown_node(std::string_view node_id, const fedagent::MessagePtr<Message>&) const {
    seen->unknown.emplace_back(node_id);
  }
};

template <class Clock>
using StoreWith =
    fedagent::AgentStore<fedbiomed::Transport<asio::any_io_executor, Clock>, Message, Observer>;
using Store = StoreWith<std::chrono::steady_clock>;
using Outcome = fedagent::Outcome<Message>;

template <class Class>
Message encoded(std::string request_id, const Class& body, Version version = Version::v7,
                std::string researcher_id = "R") {
  auto message = fedbiomed::encode({.researcher_id = std::move(researcher_id),
                                    .request_id = std::move(request_id),
                                    .version = version},
                                   body);
  REQUIRE(message.has_value());
  return *std::move(message);
}

std::string chunk(std::int32_t size, std::int32_t iteration, std::string_view bytes) {
  return fedbiomed::encode(fedbiomed::Chunk{size, iteration, bytes});
}

/// A server over plain TCP, and its store.
template <class Clock>
struct FixtureWith {
  using Store = StoreWith<Clock>;

  explicit FixtureWith(const fedagent::StoreOptions& store_options = {},
                       fedbiomed::ServerOptions options = {}) {
    options.researcher_id = "R";
    store.emplace(io.get_executor(), store_options, Observer{&seen});
    server.emplace(*store, options);
    const auto listening = server->listen("127.0.0.1:0");
    REQUIRE(listening);
    port = *listening;
    channel = test::connect(port);
  }

  template <class There>
  void until(There there, std::source_location where = std::source_location::current()) {
    test::drive(io, there, where);
  }
  std::unique_ptr<ClientCall> call(const std::string& method, const std::string& message) {
    auto call = std::make_unique<ClientCall>(channel, method);
    call->write(message);
    return call;
  }
  /// A poll that is open.
  std::unique_ptr<ClientCall> poll(const std::string& node_id, const std::string& version = "7") {
    const auto agent = store->get(node_id);
    const auto seen_before = agent ? agent->last_seen().poll : decltype(agent->last_seen().poll){};
    auto polling =
        call(get_task_unary, fedbiomed::encode(fedbiomed::TaskRequest{node_id, version}));
    polling->end_writes();
    until([&] {
      const auto now = store->get(node_id);
      return polling->done() || (now && now->last_seen().poll != seen_before);
    });
    return polling;
  }
  /// The status of a call with these messages.
  ::grpc::Status send(const std::string& method, const std::vector<std::string>& messages,
                      std::source_location where = std::source_location::current()) {
    ClientCall call(channel, method);
    for (const auto& message : messages) {
      call.write(message);
      until([&] { return call.written() || call.done(); }, where);
      if (call.done()) {
        break;
      }
    }
    call.end_writes();
    until([&] { return call.done(); }, where);
    if (method == reply_task && call.status().ok()) {
      CHECK(call.messages() ==
            std::vector<std::string>{""});  // without the Empty it would have failed
    }
    return call.status();
  }
  ::grpc::Status reply(const Message& message) {
    return send(reply_task, {chunk(1, 1, message.bytes())});
  }
  /// Sends a request; its outcome is there when it is.
  std::shared_ptr<std::optional<Outcome>> request(const std::string& node_id, Message message) {
    auto outcome = std::make_shared<std::optional<Outcome>>();
    REQUIRE(store->retrieve(node_id)->try_send(
        std::move(message), [outcome](const Outcome& came) { *outcome = came; }));
    return outcome;
  }

  Seen seen{};
  int port = 0;
  asio::io_context io;
  std::optional<Store> store{};
  std::optional<fedbiomed::Server<Store>> server{};
  std::shared_ptr<::grpc::Channel> channel{};
};
using Fixture = FixtureWith<std::chrono::steady_clock>;

Message ping(const std::string& request_id, Version version = Version::v7) {
  return encoded(request_id, fedbiomed::PingRequest{}, version);
}
Message pong(const std::string& request_id, const std::string& node_id = "N",
             Version version = Version::v7) {
  return encoded(request_id, fedbiomed::PingReply{.node_id = node_id, .node_name = "name"},
                 version);
}

}  // namespace

TEST_CASE("A poll gets its task, and the reply is the outcome (E1, E13)") {
  Fixture f;
  const auto poll = f.poll("N");
  CHECK(f.store->get("N")->status() == fedagent::NodeActiveStatus::active);
  const auto outcome = f.request("N", ping("q1"));
  f.until([&] { return poll->messages().size() == 1; });
  CHECK(poll->messages().front() == chunk(1, 1, ping("q1").bytes()));
  CHECK(f.reply(pong("q1")).ok());
  REQUIRE(*outcome);
  CHECK((**outcome).value()->type() == "PingReply");
}

TEST_CASE("Tasks go out in one stream while the poll is open, and each is confirmed by its reply") {
  Fixture f;
  const auto poll = f.poll("N");
  for (std::size_t i = 1; i <= 5; ++i) {
    const auto id = "q" + std::to_string(i);
    const auto outcome = f.request("N", ping(id));
    f.until([&] { return poll->messages().size() == i; });
    CHECK(f.reply(pong(id)).ok());
    CHECK((*outcome && (**outcome).has_value()));
  }
  CHECK(!poll->done());
  CHECK(f.store->counters().confirmed == 5);
}

TEST_CASE("A task is cut in chunks (E5)") {
  Fixture f({}, {.chunk_size = 10});
  const auto poll = f.poll("N");
  const auto task = ping("q1");
  f.request("N", task);
  const auto count = (task.size() + 9) / 10;
  f.until([&] { return poll->messages().size() == count; });
  fedbiomed::ChunkJoiner joiner(1000);
  for (const auto& message : poll->messages()) {
    const auto part = fedbiomed::decode_chunk(message);
    REQUIRE(part.has_value());
    CHECK(joiner.add(part->size, part->iteration, part->bytes).has_value());
  }
  CHECK(joiner.take() == task.bytes());
}

TEST_CASE("A poll that gets nothing ends with OK when its time is over") {
  fedagent::StoreOptions options;
  options.agent.poll_timeout = 20ms;
  Fixture f(options);
  const auto poll = f.poll("N");
  f.until([&] { return poll->done(); });
  CHECK(poll->status().ok());
  CHECK(poll->messages().empty());
}

TEST_CASE("A poll that has handed out a task ends soon, so that the next one confirms it") {
  Fixture f({}, {.confirm_after = 20ms});
  const auto poll = f.poll("N");
  f.request("N", ping("q1"));
  f.until([&] { return poll->done(); });
  CHECK(poll->status().ok());
  CHECK(f.store->counters().leased == 1);
  const auto next = f.poll("N");
  CHECK(f.store->counters().leased == 0);
  CHECK(f.store->counters().confirmed == 1);
  CHECK(f.store->counters().redelivered == 0);
}

TEST_CASE("A poll whose task is on its way yet does not end, and takes the next one too") {
  FixtureWith<test::ManualClock> f({}, {.confirm_after = 20ms});
  ClientCall poll(f.channel, get_task_unary, false);
  poll.write(fedbiomed::encode(fedbiomed::TaskRequest{"N", "7"}));
  f.until([&] { return f.store->get("N").has_value(); });
  f.request("N", encoded("q1", fedbiomed::SearchRequest{{std::string(3'000'000, 'x')}}));
  f.until([&] { return f.store->counters().leased == 1; });
  // Its client does not read: what flow control lets through is less than the task.
  for (int i = 0; i < 10; ++i) {
    test::ManualClock::advance(20ms);
    f.io.restart();
    f.io.poll();
  }
  f.request("N", ping("q2"));
  poll.read();
  f.until([&] { return poll.messages().size() == 2 || poll.done(); });
  CHECK(poll.messages().size() == 2);
  // The client has the task before the server hears that it is written, and until then it waits on.
  f.until([&] {
    test::ManualClock::advance(20ms);
    return poll.done();
  });
  CHECK(poll.status().ok());
}

TEST_CASE("A poll that breaks loses its tasks to the next one, and replies to both count once") {
  Fixture f;
  auto poll = f.poll("N");
  const auto outcome = f.request("N", ping("q1"));
  f.until([&] { return poll->messages().size() == 1; });
  poll->cancel();
  f.until([&] { return f.server->open_calls() == 0; });
  poll = f.poll("N");
  f.until([&] { return poll->messages().size() == 1; });
  CHECK(f.store->counters().redelivered == 1);
  CHECK(f.reply(pong("q1")).ok());
  CHECK(f.reply(pong("q1")).ok());
  CHECK((*outcome && (**outcome).has_value()));
  CHECK(f.store->counters().replies_that_were(fedagent::ReplyDisposition::duplicate) == 1);
}

TEST_CASE("A poll from another connection does not confirm: that node may have been started anew") {
  Fixture f({}, {.confirm_after = 20ms});
  const auto poll = f.poll("N");
  f.request("N", ping("q1"));
  f.until([&] { return poll->done(); });
  CHECK(poll->status().ok());
  f.channel = test::connect(f.port);
  const auto next = f.poll("N");
  f.until([&] { return next->messages().size() == 1; });
  CHECK(f.store->counters().redelivered == 1);
}

TEST_CASE("A newer poll of a node ends the older one with ABORTED") {
  Fixture f;
  const auto older = f.poll("N");
  const auto newer = f.poll("N");
  f.until([&] { return older->done(); });
  CHECK(older->status().error_code() == StatusCode::ABORTED);
  f.request("N", ping("q1"));
  f.until([&] { return newer->messages().size() == 1; });
}

TEST_CASE("A node is told which versions there are when its own is none of them (E2)") {
  Fixture f;
  for (const std::string version : {"6", "", "7.0", "4"}) {
    const auto poll = f.poll("N", version);
    CHECK(poll->status().error_code() == StatusCode::FAILED_PRECONDITION);
    CHECK(poll->status().error_message() == "the node speaks version \"" + version +
                                                "\" of the protocol, this server speaks versions "
                                                "\"5\" and \"7\"");
  }
  CHECK(f.store->size() == 0);
}

TEST_CASE("The server knows which version each node speaks") {
  Fixture f;
  CHECK(!f.server->version_of("old"));
  const auto old = f.poll("old", "5");
  const auto recent = f.poll("recent", "7");
  CHECK(f.server->version_of("old") == Version::v5);
  CHECK(f.server->version_of("recent") == Version::v7);
}

TEST_CASE("A task that the node would refuse ends as not encodable, and is not sent") {
  Fixture f;
  const auto poll = f.poll("N");
  const auto wrong_version = f.request("N", ping("q1", Version::v5));
  const auto foreign =
      f.request("N", encoded("q2", fedbiomed::PingRequest{}, Version::v7, "another researcher"));
  f.until([&] { return wrong_version->has_value() && foreign->has_value(); });
  CHECK((**wrong_version).error() == fedagent::errc::not_encodable);
  CHECK((**foreign).error() == fedagent::errc::not_encodable);
  CHECK(poll->messages().empty());
  CHECK(!poll->done());
}

TEST_CASE("Polls that are none are INVALID_ARGUMENT") {
  Fixture f;
  CHECK(f.send(get_task_unary, {"\xff\xff"}).error_code() == StatusCode::INVALID_ARGUMENT);
  CHECK(f.send(get_task_unary, {}).error_code() == StatusCode::INVALID_ARGUMENT);
  const auto nobody = f.poll("");
  CHECK(nobody->status().error_code() == StatusCode::INVALID_ARGUMENT);
}

TEST_CASE("An admission may stop the server, and its poll ends with UNAVAILABLE") {
  Fixture* running = nullptr;
  fedagent::StoreOptions options;
  options.admit = [&](std::string_view) {
    running->server->stop();
    return true;
  };
  Fixture f(options);
  running = &f;
  const auto poll = f.call(get_task_unary, fedbiomed::encode(fedbiomed::TaskRequest{"N", "7"}));
  poll->end_writes();
  f.until([&] { return poll->done(); });
  CHECK(poll->status().error_code() == StatusCode::UNAVAILABLE);
  REQUIRE(f.store->get("N"));
  CHECK(f.store->get("N")->open_polls() == 0);
}

TEST_CASE("Who is not admitted, or one too many, is told so") {
  fedagent::StoreOptions options;
  options.max_agents = 1;
  options.admit = [](std::string_view id) { return id != "villain"; };
  Fixture f(options);
  CHECK(f.poll("villain")->status().error_code() == StatusCode::PERMISSION_DENIED);
  const auto first = f.poll("N");
  CHECK(f.poll("M")->status().error_code() == StatusCode::RESOURCE_EXHAUSTED);
}

TEST_CASE("GetTask and other methods are UNIMPLEMENTED (c.2)") {
  Fixture f;
  CHECK(f.send("/researcher.ResearcherService/GetTask", {}).error_code() ==
        StatusCode::UNIMPLEMENTED);
  CHECK(f.send("/researcher.ResearcherService/", {}).error_code() == StatusCode::UNIMPLEMENTED);
  CHECK(f.send("/other.Service/ReplyTask", {}).error_code() == StatusCode::UNIMPLEMENTED);
}

TEST_CASE("Several messages in one stream are taken, in chunks of any size (E13)") {
  Fixture f;
  const auto poll = f.poll("N");
  std::vector<std::string> chunks;
  std::vector<std::shared_ptr<std::optional<Outcome>>> outcomes;
  for (const auto* id : {"q1", "q2", "q3"}) {
    outcomes.push_back(f.request("N", ping(id)));
    const auto message = pong(id);
    const fedbiomed::ChunkSplitter splitter(message.bytes(), 33);
    for (std::int32_t i = 1; i <= splitter.count(); ++i) {
      chunks.push_back(fedbiomed::encode(splitter.chunk(i)));
    }
  }
  f.until([&] { return poll->messages().size() == 3; });
  CHECK(f.send(reply_task, chunks).ok());
  for (const auto& outcome : outcomes) {
    CHECK((*outcome && (**outcome).has_value()));
  }
}

TEST_CASE("The handler of a reply may stop the server, which ends the call that bears it too") {
  for (const bool more : {false, true}) {
    CAPTURE(more);
    Fixture f;
    const auto poll = f.poll("N");
    bool replied = false;
    REQUIRE(f.store->retrieve("N")->try_send(ping("q"), [&](const Outcome& outcome) {
      replied = outcome.has_value();
      CHECK(f.server->open_calls() == 1);  // the poll: a reply of one chunk needs no coroutine
      f.server->stop();
    }));
    f.until([&] { return poll->messages().size() == 1; });
    ClientCall call(f.channel, reply_task);
    call.write(chunk(1, 1, pong("q").bytes()));
    if (more) {
      call.write(chunk(2, 1, "half"));
    }
    f.until([&] { return call.done() && poll->done(); });
    CHECK(replied);
    for (const auto& status : {call.status(), poll->status()}) {
      CHECK(status.error_code() == StatusCode::UNAVAILABLE);
      CHECK(status.error_message() == "the server has stopped");
    }
  }
}

TEST_CASE("A reply stream without a message is OK, and one that stops in a message is not (E15)") {
  Fixture f;
  CHECK(f.send(reply_task, {}).ok());
  const auto status = f.send(reply_task, {chunk(2, 1, "half")});
  CHECK(status.error_code() == StatusCode::INVALID_ARGUMENT);
  CHECK(status.error_message() == "the bytes end in the middle of a value");
}

TEST_CASE("Chunks out of order, of another count, empty or no chunks are INVALID_ARGUMENT (E16)") {
  Fixture f;
  const std::vector<std::vector<std::string>> wrong{
      {chunk(2, 2, "x")},
      {chunk(2, 1, "x"), chunk(2, 1, "x")},
      {chunk(3, 1, "x"), chunk(2, 2, "x")},
      {chunk(1, 1, "")},
      {chunk(0, 0, "x")},
      {chunk(-1, 1, "x")},
      {"\xff"},
      {""},
  };
  for (const auto& chunks : wrong) {
    CAPTURE(chunks.size());
    CHECK(f.send(reply_task, chunks).error_code() == StatusCode::INVALID_ARGUMENT);
  }
}

TEST_CASE(
    "Messages above the limit are INVALID_ARGUMENT, and above what all may take together "
    "RESOURCE_EXHAUSTED") {
  Fixture f({}, {.max_message = 100, .max_incoming_bytes = 300});
  const std::string half(60, 'x');
  CHECK(f.send(reply_task, {chunk(2, 1, half), chunk(2, 2, half)}).error_code() ==
        StatusCode::INVALID_ARGUMENT);
  std::vector<std::unique_ptr<ClientCall>> calls;
  for (int i = 0; i < 4; ++i) {
    calls.push_back(f.call(reply_task, chunk(2, 1, half)));
    f.until([&] { return f.server->open_calls() == calls.size(); });
  }
  CHECK(f.send(reply_task, {chunk(2, 1, half)}).error_code() == StatusCode::RESOURCE_EXHAUSTED);
  calls.clear();
  f.until([&] { return f.server->open_calls() == 0; });
  CHECK(f.send(reply_task, {chunk(2, 1, half)}).error_code() == StatusCode::INVALID_ARGUMENT);
}

TEST_CASE(
    "Replies that cannot be read are INVALID_ARGUMENT, without a word of what is inside (E17)") {
  Fixture f;
  const auto poll = f.poll("N");
  for (const std::string bytes : {"\x80", "nonsense", "\xc1", "\x81\xa1"}) {
    const auto status = f.send(reply_task, {chunk(1, 1, bytes)});
    CHECK(status.error_code() == StatusCode::INVALID_ARGUMENT);
    CHECK(status.error_message().find(".hpp") == std::string::npos);
  }
  CHECK(f.reply(ping("q1")).error_code() == StatusCode::INVALID_ARGUMENT);  // names no node
}

TEST_CASE("A reply of another version is FAILED_PRECONDITION (E17)") {
  Fixture f;
  const auto poll = f.poll("N");
  std::string bytes = pong("q1").bytes();
  bytes.replace(bytes.find("protocol_version") + 16, 2,
                "\xa1"
                "6");
  CHECK(f.send(reply_task, {chunk(1, 1, bytes)}).error_code() == StatusCode::FAILED_PRECONDITION);
}

TEST_CASE("A reply of a node that is not known is NOT_FOUND, and the observer hears of it (E14)") {
  Fixture f;
  CHECK(f.reply(pong("q1", "stranger")).error_code() == StatusCode::NOT_FOUND);
  CHECK(f.seen.unknown == std::vector<std::string>{"stranger"});
}

TEST_CASE(
    "An overlay message goes to its destination as it came, or NOT_FOUND is the answer (E20)") {
  Fixture f;
  const auto a = f.poll("A");
  const auto b = f.poll("B");
  fedbiomed::OverlayMessage overlay;
  overlay.node_id = "A";
  overlay.dest_node_id = "B";
  overlay.overlay.assign(100, 'x');
  overlay.salt.assign(32, 's');
  overlay.nonce.assign(16, 'n');
  const auto message = encoded("", overlay);
  CHECK(f.reply(message).ok());
  f.until([&] { return b->messages().size() == 1; });
  CHECK(b->messages().front() == chunk(1, 1, message.bytes()));
  overlay.dest_node_id = "nobody";
  CHECK(f.reply(encoded("", overlay)).error_code() == StatusCode::NOT_FOUND);
}

TEST_CASE("Feedback goes to the observer (E18)") {
  Fixture f;
  const auto poll = f.poll("N");
  fedbiomed::FeedbackMessage message{.protocol_version = "7",
                                     .feedback = fedbiomed::Log{"N", "INFO", "{}"}};
  CHECK(f.send(feedback, {fedbiomed::encode(message)}).ok());
  fedbiomed::Scalar scalar;
  scalar.node_id = "N";
  scalar.metric["loss"] = 0.5F;
  message.feedback = scalar;
  CHECK(f.send(feedback, {fedbiomed::encode(message)}).ok());
  CHECK(f.seen.log_lines == std::vector<std::string>{"{}"});
  CHECK(f.seen.metrics == std::vector<float>{0.5F});
}

TEST_CASE("Feedback that is none, of another version or of a stranger is refused") {
  Fixture f;
  CHECK(f.send(feedback, {}).error_code() == StatusCode::INVALID_ARGUMENT);
  CHECK(f.send(feedback, {"\xff"}).error_code() == StatusCode::INVALID_ARGUMENT);
  fedbiomed::FeedbackMessage message{.protocol_version = "7"};
  CHECK(f.send(feedback, {fedbiomed::encode(message)}).error_code() ==
        StatusCode::INVALID_ARGUMENT);
  message.feedback = fedbiomed::Log{"stranger", "INFO", "{}"};
  CHECK(f.send(feedback, {fedbiomed::encode(message)}).error_code() == StatusCode::NOT_FOUND);
  message.protocol_version = "6";
  CHECK(f.send(feedback, {fedbiomed::encode(message)}).error_code() ==
        StatusCode::FAILED_PRECONDITION);
}

TEST_CASE(
    "When the server stops, polls and half replies end with UNAVAILABLE and the loop runs out") {
  Fixture f;
  const auto poll = f.poll("N");
  const auto half = f.call(reply_task, chunk(2, 1, "half"));
  f.until([&] { return f.server->open_calls() == 2; });
  f.server->stop();
  f.store->stop();
  f.io.restart();
  f.io.run();
  f.until([&] { return poll->done() && half->done(); });
  CHECK(poll->status().error_code() == StatusCode::UNAVAILABLE);
  CHECK(half->status().error_code() == StatusCode::UNAVAILABLE);
  CHECK(f.server->open_calls() == 0);
}

TEST_CASE("The store may stop first, or be gone before the calls are") {
  SUBCASE("stopped") {
    Fixture f;
    const auto poll = f.poll("N");
    f.store->stop();
    f.until([&] { return poll->done(); });
    CHECK(poll->status().error_code() == StatusCode::UNAVAILABLE);
    CHECK(f.reply(pong("q1")).error_code() == StatusCode::NOT_FOUND);
  }
  SUBCASE("destroyed") {
    Fixture f;
    const auto poll = f.poll("N");
    f.request("N", ping("q1"));
    f.server->stop();
    f.store.reset();
    f.until([&] { return poll->done(); });
  }
}

TEST_CASE("Options out of range are refused") {
  asio::io_context io;
  Seen seen;
  Store store(io.get_executor(), {}, Observer{&seen});
  const auto make = [&](const fedbiomed::ServerOptions& options) {
    fedbiomed::Server<Store> server(store, options);
  };
  CHECK_THROWS_AS(make({.chunk_size = 0}), std::invalid_argument);
  CHECK_THROWS_AS(make({.chunk_size = 4'000'000}), std::invalid_argument);
  CHECK_THROWS_AS(make({.max_message = 0}), std::invalid_argument);
  CHECK_THROWS_AS(make({.confirm_after = 0ms}), std::invalid_argument);
}
