// fmt_observer.hpp: the words of the seed's log.
#include "fedagent/fmt_observer.hpp"

#include <doctest/doctest.h>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/story.hpp"

using namespace test;
using fedagent::Severity;

namespace {

struct Lines {
  std::vector<std::string> lines{};
  void operator()(Severity severity, std::string_view text) {
    lines.push_back(std::string(to_string(severity)) + " " + std::string(text));
  }
  /// What has been written since the last call.
  std::vector<std::string> fresh() { return std::exchange(lines, {}); }
};

struct Sink {
  std::shared_ptr<Lines> lines;
  void operator()(Severity severity, std::string_view text) const { (*lines)(severity, text); }
};

using Observed = fedagent::NodeAgent<Transport, Message, fedagent::FmtObserver<Sink>>;
using Written = std::vector<std::string>;

struct Log {
  explicit Log(const AgentOptions& options = {})
      : agent("n1", loop.executor(), {}, options, fedagent::FmtObserver(Sink{lines})) {}

  ReplyDisposition reply(std::string id) {
    return loop.run(agent.on_reply(Message{.request_id = std::move(id)})).value();
  }
  void flush(std::string_view id, bool stopped = false) {
    agent.Observed::NodeAgentAsync::flush(id, stopped);
  }

  Loop loop;
  std::shared_ptr<Lines> lines = std::make_shared<Lines>();
  Observed agent;
};

const std::string discard = "INFO Node n1 is disconnected. Discard message.";
const std::string waits =
    "INFO Node n1 is in WAITING status. Server is waiting for receiving a request from this node "
    "to convert it as ACTIVE. Node will be updated as DISCONNECTED soon if no request received.";

}  // namespace

TEST_CASE("fmt observer: B3, B5, B6, C2, C3: what the seed says of the status, and when") {
  Log log;
  log.agent.set_active();
  REQUIRE(log.agent.try_send(message("r1")));
  CHECK(log.lines->fresh().empty());
  log.agent.change_node_status_after_task();
  CHECK(log.lines->fresh().empty());
  REQUIRE(log.agent.try_send(message("r2")));
  CHECK(log.lines->fresh() == Written{waits});
  log.loop.advance(10s);
  CHECK(log.lines->fresh() == Written{"WARNING Node n1 is disconnected."});
  CHECK_FALSE(log.agent.try_send(message("r3")));
  CHECK(log.lines->fresh() == Written{discard});
  log.agent.set_active();
  CHECK(log.lines->fresh() == Written{"INFO Node n1 is back online!"});
  log.agent.set_active();
  REQUIRE(log.agent.try_send(message("r4")));
  CHECK(log.lines->fresh().empty());
}

TEST_CASE("fmt observer: D7 to D9, D12: each reply that is not the awaited one has its line") {
  Log log;
  for (const auto* id : {"r1", "r2", "r3"}) {
    REQUIRE(log.agent.try_send(message(id)));
    log.loop.run(log.agent.get_task())->delivered();
  }
  CHECK(log.reply("r1") == ReplyDisposition::delivered);
  CHECK(log.lines->fresh().empty());
  log.reply("r1");
  CHECK(log.lines->fresh() ==
        Written{"WARNING Received multiple replies for request r1. Keep first reply, ignore "
                "subsequent replies"});
  log.flush("r2", true);
  log.flush("r3");
  CHECK(log.lines->fresh() ==
        Written{"WARNING Node n1: message r2 dropped: the request was flushed",
                "WARNING Node n1: message r3 dropped: the request was flushed"});
  log.reply("r2");
  log.reply("r3");
  log.reply("r4");
  log.reply("");
  CHECK(log.lines->fresh() ==
        Written{"WARNING Received a reply from a federated request that has been stopped: r2.",
                "WARNING Received a late reply from a request that has ended: r3",
                "WARNING Received a reply from an unexpected request: r4",
                "ERROR Server received a reply from the client n1 that does not contains request "
                "id."});
}

TEST_CASE("fmt observer: what the seed drops in silence has a line too (H9, H10)") {
  Log log(AgentOptions{.max_retries = 1, .max_queued_messages = 1});
  REQUIRE(log.agent.try_send(message("r1")));
  CHECK_FALSE(log.agent.try_send(message("")));
  CHECK(log.lines->fresh() ==
        Written{"WARNING Node n1: message without id refused: the queue of the node is full"});
  log.loop.run(log.agent.get_task())->message();
  CHECK(log.lines->fresh() ==
        Written{"INFO Node n1: message r1 was not confirmed, back in the queue for retry 1"});
  log.loop.run(log.agent.get_task())->message();
  CHECK(log.lines->fresh() == Written{"WARNING Node n1: message r1 dropped: the message was not "
                                      "confirmed in any of its delivery attempts"});
}

TEST_CASE("fmt observer: a handler that throws is named by what it threw, if it says so (D6)") {
  Log log;
  REQUIRE(log.agent.try_send(message("r1"), [](const Agent::outcome_type&) {
    throw std::runtime_error("no room on the disk");
  }));
  REQUIRE(log.agent.try_send(message("r2"), [](const Agent::outcome_type&) { throw 7; }));
  for (const auto* id : {"r1", "r2"}) {
    log.loop.run(log.agent.get_task())->delivered();
    CHECK(log.reply(id) == ReplyDisposition::delivered);
  }
  CHECK(log.lines->fresh() == Written{"ERROR Node n1: a handler threw: no room on the disk",
                                      "ERROR Node n1: a handler threw"});
}

TEST_CASE(
    "fmt observer: the default sink is a function, and a store tells of unknown and wrong nodes "
    "(H19, H20)") {
  Loop loop;
  std::string written;
  fedagent::FmtObserver<> observer([&](Severity severity, std::string_view text) {
    written += std::string(to_string(severity)) + " " + std::string(text) + "\n";
  });
  fedagent::AgentStore<Transport, Message, fedagent::FmtObserver<>> store(loop.executor(), {},
                                                                          std::move(observer));
  CHECK(loop.run(serve_reply(store, "n9", Message{.request_id = "r1"})).error() ==
        errc::unknown_node);
  CHECK(fedagent::refuse_wrong_node(store, "n9", "n1") == errc::wrong_node);
  CHECK(written ==
        "WARNING Received a reply from the unknown node n9, request r1\n"
        "WARNING Node n9 refused: it names itself n1\n");
}

TEST_CASE(
    "fmt observer: a node that was erased while WAITING is not WAITING when it is new again") {
  Loop loop;
  const auto lines = std::make_shared<Lines>();
  fedagent::AgentStore<Transport, Message, fedagent::FmtObserver<Sink>> store(
      loop.executor(), {}, fedagent::FmtObserver(Sink{lines}));
  const auto agent = store.retrieve("n1").value();
  agent.set_active();
  agent.change_node_status_after_task();
  REQUIRE(agent.try_send(message("")));
  CHECK(lines->fresh().size() == 1);  // the line about WAITING
  store.erase("n1");
  lines->fresh();
  REQUIRE(store.retrieve("n1").value().try_send(message("")));
  CHECK(lines->fresh().empty());
}

TEST_CASE("fmt observer: a severity is spelled as the seed's logger spells it") {
  CHECK(to_string(Severity::info) == "INFO");
  CHECK(to_string(Severity::warning) == "WARNING");
  CHECK(to_string(Severity::error) == "ERROR");
  CHECK(to_string(static_cast<Severity>(9)) == "UNKNOWN");
}
