// round.hpp: what a user relies on, one story each. The tables and the random rounds are in
// test_round_table.cpp and test_round_random.cpp.
#include "fedagent/round.hpp"

#include <doctest/doctest.h>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "fedagent/seed_policies.hpp"
#include "support/calls.hpp"
#include "support/loop.hpp"
#include "support/printing.hpp"

using namespace test;
using fedagent::NodeOutcome;
using fedagent::NodeSelection;
using fedagent::Quorum;
using fedagent::RoundEnd;
using fedagent::RoundPolicy;
using fedagent::StopOn;

namespace {

using Rounds = fedagent::Rounds<Transport>;
using Result = Rounds::result_type;
using Row = Rounds::row_type;
using Names = std::vector<std::string>;

constexpr auto nobody = Row::nobody;

Names names(std::size_t count) {
  Names all;
  for (std::size_t i = 0; i < count; ++i) {
    all.push_back("n" + std::to_string(i));
  }
  return all;
}

/// A store with nodes that the test plays, and rounds over them.
struct Hospitals {
  explicit Hospitals(std::size_t count, const fedagent::StoreOptions& options = {},
                     fedagent::RoundsOptions<Message> rounds_options = {})
      : ids(names(count)), store(std::in_place, loop.executor(), options) {
    for (const auto& id : ids) {
      nodes.emplace_back(*store, id);
      agent(id).set_active();
      agent(id).change_node_status_after_task();
    }
    rounds.emplace(*store, std::move(rounds_options));
  }
  Hospitals(const Hospitals&) = delete;
  Hospitals& operator=(const Hospitals&) = delete;
  ~Hospitals() {
    loop.drain();
    if (store) {
      CHECK(store->counters().balanced());
    }
    rounds.reset();
    store.reset();
    loop.drain();
    CHECK(asked.expired());
  }

  Agent agent(const std::string& id) { return store->retrieve(id).value(); }

  /// Begins a round, whose message must be gone when the story ends.
  Spawned<Result> begin(const RoundPolicy& policy = {}, const std::string& request = "q") {
    auto task = message(request);
    asked = task;
    auto round = loop.spawn(rounds->run(ids, std::move(task), policy));
    loop.drain();
    return round;
  }
  /// The node polls and has the task at once. @return Its request id.
  std::string take(std::size_t node) {
    auto task = loop.run(nodes[node].poll());
    REQUIRE(task.has_value());
    return (*task)->request_id;
  }
  ReplyDisposition answer(std::size_t node, const std::string& body = "done",
                          const std::string& request = "q") {
    auto taken = loop.run(nodes[node].reply(Message{.request_id = request, .body = body}));
    REQUIRE(taken.has_value());
    return *taken;
  }
  ReplyDisposition work(std::size_t node, const std::string& body = "done") {
    const auto request = take(node);
    return answer(node, body, request);
  }
  /// The node is there all the time from now on.
  void stay(std::size_t node) { agent(ids[node]).set_active(); }

  Loop loop;
  Names ids;
  std::optional<Store> store;
  std::vector<Node> nodes{};
  std::optional<Rounds> rounds{};
  std::weak_ptr<const Message> asked{};
};

fedagent::RoundsOptions<Message> errors_by_body() {
  fedagent::RoundsOptions<Message> options;
  options.is_error = [](const Message& reply) { return reply.body == "error"; };
  return options;
}

std::vector<NodeOutcome> outcomes(const Result& result) {
  std::vector<NodeOutcome> all;
  for (const auto& row : result.rows) {
    all.push_back(row.outcome);
  }
  return all;
}

}  // namespace

// ---- the seed's users

TEST_CASE("F1: without a policy a round ends when every node has replied, erred or is lost") {
  Hospitals story(3, {}, errors_by_body());
  story.stay(1);
  const auto began = Loop::now();
  auto round = story.begin();
  CHECK(story.work(0) == ReplyDisposition::delivered);
  CHECK(story.work(1, "error") == ReplyDisposition::delivered);
  CHECK_FALSE(round.done());
  // The third left before the round: it is DISCONNECTED its timeout after that.
  story.loop.advance(10s - 1ns);
  CHECK_FALSE(round.done());
  story.loop.advance(1ns);
  const auto& result = round.value();
  CHECK(result.end == RoundEnd::complete);
  CHECK(outcomes(result) ==
        std::vector{NodeOutcome::reply, NodeOutcome::error_reply, NodeOutcome::disconnected});
  CHECK(result.rows[0].reply->body == "done");
  CHECK(result.rows[1].reply->body == "error");
  CHECK(result.rows[2].error == errc::disconnected);
  CHECK(result.replied == 1);
  CHECK_FALSE(result.has_quorum());
  CHECK(result.took == Loop::now() - began);
}

TEST_CASE("F2: StopOnTimeout ends the round at the deadline and names the silent node") {
  Hospitals story(2);
  story.stay(1);
  auto round = story.begin(fedagent::StopOnTimeout{1s});
  story.work(0);
  story.loop.advance(1s - 1ns);
  CHECK_FALSE(round.done());
  story.loop.advance(1ns);
  const auto& result = round.value();
  CHECK(result.end == RoundEnd::node_timeout);
  CHECK(result.ended_by == 1);
  CHECK(result.took == 1s);
}

TEST_CASE("F3: DiscardOnTimeout goes on without the silent node, and ends at its deadline") {
  Hospitals story(3);
  for (std::size_t i = 0; i < 3; ++i) {
    story.stay(i);
  }
  auto round = story.begin(fedagent::DiscardOnTimeout{1s});
  story.work(0);
  story.work(2);
  story.loop.advance(1s - 1ns);
  CHECK_FALSE(round.done());
  story.loop.advance(1ns);
  CHECK(round.value().end == RoundEnd::complete);
  CHECK(outcomes(round.value()) ==
        std::vector{NodeOutcome::reply, NodeOutcome::deadline_passed, NodeOutcome::reply});
}

TEST_CASE(
    "F4: a node that is DISCONNECTED at the send has its outcome, though it is back at once") {
  Hospitals story(2);
  story.stay(0);
  story.loop.advance(10s);
  REQUIRE(story.agent("n1").status() == NodeActiveStatus::disconnected);
  auto round = story.begin();
  story.stay(1);
  story.work(0);
  CHECK(round.value().end == RoundEnd::complete);
  CHECK(round.value().rows[1].outcome == NodeOutcome::not_sent);
  CHECK(round.value().rows[1].error == errc::disconnected);
}

TEST_CASE("F5: a round without nodes ends at once, empty") {
  Hospitals story(0);
  auto round = story.begin({.quorum = Quorum::all(), .deadline = 1h, .grace = 1h});
  CHECK(round.value().end == RoundEnd::complete);
  CHECK(round.value().rows.empty());
  CHECK(round.value().has_quorum());
}

TEST_CASE("F6: a deadline of more than a day ends the round after more than a day") {
  Hospitals story(1);
  story.stay(0);
  auto round = story.begin({.deadline = 24h + 5s});
  story.take(0);
  story.loop.advance(24h + 5s - 1ns);
  CHECK_FALSE(round.done());
  story.loop.advance(1ns);
  CHECK(round.value().end == RoundEnd::deadline);
}

TEST_CASE("F7: each node has its own message, and one without a message is left out") {
  Hospitals story(3);
  auto round = story.loop.spawn(story.rounds->run(story.ids, [](std::string_view node_id) {
    return node_id == "n1" ? nullptr : message("for " + std::string(node_id));
  }));
  story.loop.drain();
  CHECK(story.take(0) == "for n0");
  story.answer(0, "done", "for n0");
  CHECK(story.take(2) == "for n2");
  story.answer(2, "done", "for n2");
  CHECK(round.value().rows[1].outcome == NodeOutcome::not_sent);
  CHECK(round.value().rows[1].error == errc::no_message);
  CHECK(round.value().replied == 2);
}

TEST_CASE("F8: all nodes share one request id and one copy of the message") {
  Hospitals story(3);
  auto round = story.begin();
  std::vector<MessagePtr> seen;
  for (auto& node : story.nodes) {
    seen.push_back(story.loop.run(node.poll()).value());
  }
  CHECK(seen[0] == seen[1]);
  CHECK(seen[1] == seen[2]);
  for (std::size_t i = 0; i < 3; ++i) {
    story.answer(i, "answer " + std::to_string(i));
  }
  seen.clear();
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(round.value().rows[i].reply->body == "answer " + std::to_string(i));
  }
}

TEST_CASE("StopOnError ends the round with the error reply, for the chosen nodes only") {
  Hospitals story(3, {}, errors_by_body());
  auto round = story.begin(fedagent::StopOnError{{"n1"}});
  story.work(0, "error");
  CHECK_FALSE(round.done());
  story.work(1, "error");
  CHECK(round.value().end == RoundEnd::node_error);
  CHECK(round.value().ended_by == 1);
  CHECK(outcomes(round.value()) ==
        std::vector{NodeOutcome::error_reply, NodeOutcome::error_reply, NodeOutcome::withdrawn});
}

TEST_CASE("StopOnDisconnect counts from the disconnection, and not when the node is back in time") {
  Hospitals story(1);
  auto round = story.begin(fedagent::StopOnDisconnect{5s});
  story.loop.advance(10s);
  REQUIRE(story.agent("n0").status() == NodeActiveStatus::disconnected);
  story.loop.advance(4s);
  story.stay(0);
  story.agent("n0").change_node_status_after_task();
  story.loop.advance(10s);
  REQUIRE(story.agent("n0").status() == NodeActiveStatus::disconnected);
  story.loop.advance(5s - 1ns);
  CHECK_FALSE(round.done());
  story.loop.advance(1ns);
  CHECK(round.value().end == RoundEnd::node_disconnected);
  CHECK(round.value().ended_by == 0);
}

TEST_CASE("StopOnTimeout and DiscardOnTimeout leave the nodes alone that were not chosen") {
  Hospitals story(2);
  story.stay(0);
  story.stay(1);
  auto stopped = story.begin(fedagent::StopOnTimeout{1s, {"n0"}});
  story.work(0);
  story.loop.advance(1min);
  CHECK_FALSE(stopped.done());
  story.work(1);
  CHECK(stopped.value().end == RoundEnd::complete);

  auto discarded = story.begin(fedagent::DiscardOnTimeout{1s, {"n0"}}, "r");
  story.loop.advance(1s);
  CHECK_FALSE(discarded.done());
  story.work(1);
  CHECK(outcomes(discarded.value()) ==
        std::vector{NodeOutcome::deadline_passed, NodeOutcome::reply});
}

TEST_CASE("the seed's policies join into one") {
  const RoundPolicy joined =
      fedagent::seed_policies(fedagent::DiscardOnTimeout{3s}, fedagent::StopOnError{},
                              fedagent::StopOnDisconnect{2s, {"a"}});
  CHECK(std::get<fedagent::Duration>(joined.per_node) == 3s);
  CHECK(joined.reconnect == 2s);
  CHECK(joined.stop_on.error.contains("z"));
  CHECK(joined.stop_on.disconnect.contains("a"));
  CHECK_FALSE(joined.stop_on.disconnect.contains("b"));
  CHECK_FALSE(joined.stop_on.timeout.contains("a"));
}

// ---- rows

TEST_CASE("a row tells how long the message was queued, leased and worked on, and its bytes") {
  Hospitals story(1);
  auto round = story.begin();
  story.loop.advance(1s);
  story.take(0);
  story.loop.advance(2s);
  story.stay(0);  // the next poll confirms the delivery
  story.loop.advance(4s);
  story.answer(0, "twelve bytes");
  const auto& row = round.value().rows[0];
  CHECK(row.queued == 1s);
  CHECK(row.leased == 2s);
  CHECK(row.working == 4s);
  CHECK(row.took == 7s);
  CHECK(row.attempts == 1);
  CHECK(row.bytes_sent == message("q")->size());
  CHECK(row.bytes_received == std::string("qtwelve bytes").size());
}

TEST_CASE("a task that is lost on its way is delivered again, and the row counts both attempts") {
  Hospitals story(1);
  auto round = story.begin();
  {
    auto agent = story.agent("n0");
    auto task = story.loop.run(agent.get_task());
    (void)task->message();  // looked at, and never delivered
  }
  story.work(0);
  const auto& row = round.value().rows[0];
  CHECK(row.outcome == NodeOutcome::reply);
  CHECK(row.attempts == 2);
  CHECK(row.bytes_sent == 2 * message("q")->size());
}

TEST_CASE("each way to be refused or to fail is in the row") {
  fedagent::StoreOptions options;
  options.agent.max_queued_messages = 1;
  options.agent.max_age = 2s;
  Hospitals story(5, options);
  REQUIRE(story.store->try_send("n0", message("other")));
  REQUIRE(story.agent("n1").try_send(message("q"), [](const fedagent::Outcome<Message>&) {}));
  REQUIRE(story.loop.run(story.nodes[1].poll()).has_value());
  story.ids.emplace_back("stranger");
  auto round = story.begin();
  story.store->erase("n2");
  story.agent("n3").NodeAgentAsync::flush("q");
  story.stay(4);
  CHECK_FALSE(round.done());
  story.loop.advance(2s);
  const auto& rows = round.value().rows;
  CHECK(rows[0].outcome == NodeOutcome::not_sent);
  CHECK(rows[0].error == errc::queue_full);
  CHECK(rows[1].outcome == NodeOutcome::not_sent);
  CHECK(rows[1].error == errc::duplicate_request_id);
  CHECK(rows[2].outcome == NodeOutcome::failed);
  CHECK(rows[2].error == errc::removed);
  CHECK(rows[3].outcome == NodeOutcome::failed);
  CHECK(rows[3].error == errc::flushed);
  CHECK(rows[4].outcome == NodeOutcome::expired);
  CHECK(rows[4].error == errc::expired);
  CHECK(rows[5].outcome == NodeOutcome::not_sent);
  CHECK(rows[5].error == errc::unknown_node);
}

TEST_CASE("a message without a request id reaches nobody, and the rows say so") {
  Hospitals story(2);
  auto round = story.begin({}, "");
  CHECK(round.value().end == RoundEnd::complete);
  for (const auto& row : round.value().rows) {
    CHECK(row.error == errc::request_id_missing);
  }
}

TEST_CASE("a function that throws leaves its node out, and the observer hears of it") {
  Loop loop;
  ObservedStore store(loop.executor());
  fedagent::Rounds rounds(store);
  REQUIRE(store.retrieve("n0"));
  auto round = loop.spawn(rounds.run({"n0"}, [](std::string_view) -> MessagePtr {
    throw std::runtime_error("no weights for this node");
  }));
  loop.drain();
  CHECK(round.value().rows[0].error == errc::handler_failed);
  CHECK(store.observer().log().count("error n0 no weights for this node") == 1);
}

TEST_CASE("a round bears user code that stops its store in the middle of it") {
  Loop loop;
  std::optional<Store> store(std::in_place, loop.executor());
  for (const auto& id : names(4)) {
    REQUIRE(store->retrieve(id));
  }
  const RoundPolicy policy{.substitutes = {"n2", "n3"}};
  const auto stops = [&store](bool throws) {
    return [&store, throws](std::string_view node_id) -> MessagePtr {
      if (node_id == "n0") {
        return message("q");
      }
      store->stop();
      if (throws) {
        throw std::runtime_error("no more");
      }
      return nullptr;
    };
  };
  fedagent::RoundsOptions<Message> options;
  SUBCASE("when a message is made") {
    Rounds rounds(*store);
    for (const bool throws : {false, true}) {
      auto round = loop.spawn(rounds.run({"n0", "n1"}, stops(throws), policy));
      loop.drain();
      CHECK(round.value().end == RoundEnd::stopped);
      CHECK(round.value().rows.size() == 2);
      store.emplace(loop.executor());
      REQUIRE(store->retrieve("n0"));
      REQUIRE(store->retrieve("n1"));
      rounds = Rounds(*store);
    }
  }
  SUBCASE("when a reply is looked at") {
    options.is_error = [&store](const Message&) {
      store->stop();
      return true;
    };
    Rounds rounds(*store, options);
    auto round = loop.spawn(rounds.run({"n0", "n1"}, message("q"), policy));
    loop.drain();
    Node node(*store, "n0");
    REQUIRE(loop.run(node.poll()));
    REQUIRE(loop.run(node.reply(Message{.request_id = "q"})));
    CHECK(round.value().end == RoundEnd::stopped);
    CHECK(round.value().rows.size() == 2);
    CHECK(round.value().replied == 0);
  }
}

TEST_CASE("a reply that cannot be looked at is an error reply, and the observer hears of it") {
  Loop loop;
  ObservedStore store(loop.executor());
  REQUIRE(store.retrieve("n0"));
  fedagent::RoundsOptions<Message> options;
  options.is_error = [](const Message&) -> bool { throw std::runtime_error("what is this?"); };
  fedagent::Rounds rounds(store, options);
  auto round = loop.spawn(rounds.run({"n0"}, message("q")));
  loop.drain();
  fedagent::memory::Node<ObservedStore> node(store, "n0");
  REQUIRE(loop.run(node.poll()));
  CHECK(loop.run(node.reply(Message{.request_id = "q"})).value() == ReplyDisposition::delivered);
  CHECK(round.value().rows[0].outcome == NodeOutcome::error_reply);
  CHECK(store.observer().log().count("error n0 what is this?") == 1);
}

TEST_CASE("a loop that is late does not let what was due later come first") {
  Hospitals story(1);
  SUBCASE("the round's deadline before that of the node") {
    auto round = story.begin({.deadline = 5s,
                              .per_node = 6s,
                              .stop_on = {.timeout = NodeSelection::every()},
                              .substitutes = {"n0"}});
    story.loop.advance(20s);
    CHECK(round.value().end == RoundEnd::deadline);
    CHECK(round.value().rows.size() == 1);
  }
  SUBCASE("the round's deadline before the end of the grace") {
    auto round = story.begin({.quorum = 0, .deadline = 5s, .grace = 8s});
    story.loop.advance(20s);
    CHECK(round.value().end == RoundEnd::deadline);
  }
}

// ---- the end

TEST_CASE("the end takes back what is queued and leaves alone what is out") {
  Hospitals story(3);
  auto round = story.begin({.quorum = 1});
  story.take(1);
  story.work(0);
  CHECK(round.value().end == RoundEnd::quorum);
  CHECK(story.store->counters().queued == 0);
  CHECK(story.store->counters().open_requests == 1);
  auto poll = story.loop.spawn(story.nodes[2].poll());
  story.loop.drain();
  CHECK_FALSE(poll.done());
  CHECK(story.answer(1) == ReplyDisposition::delivered);
}

TEST_CASE("a task that is out when its round ends is not delivered again when it is lost") {
  Hospitals story(2);
  auto round = story.begin({.quorum = 1});
  story.take(1);
  story.work(0);
  REQUIRE(round.done());
  Node again(*story.store, "n1", 2);
  auto poll = story.loop.spawn(again.poll());
  story.loop.drain();
  CHECK_FALSE(poll.done());
  CHECK(story.store->counters().open_requests == 0);
  CHECK(story.answer(1) == ReplyDisposition::late);
}

TEST_CASE("grace begins with the quorum, and ends early when all have answered") {
  Hospitals story(3);
  for (std::size_t i = 0; i < 3; ++i) {
    story.stay(i);
  }
  const RoundPolicy policy{.quorum = 2, .deadline = 1min, .grace = 5s};
  auto round = story.begin(policy);
  story.loop.advance(1s);
  story.work(0);
  story.loop.advance(1s);
  story.work(1);
  story.loop.advance(5s - 1ns);
  CHECK_FALSE(round.done());
  story.loop.advance(1ns);
  CHECK(round.value().end == RoundEnd::quorum);
  CHECK(round.value().rows[2].outcome == NodeOutcome::withdrawn);
  CHECK(round.value().rows[2].error == errc::round_ended);

  auto next = story.begin(policy, "r");
  for (std::size_t i = 0; i < 3; ++i) {
    story.work(i);
  }
  CHECK(next.value().end == RoundEnd::complete);
  CHECK(next.value().number == 2);
}

TEST_CASE("a cancelled round takes everything back, and says so in its rows") {
  Hospitals story(3);
  auto round = story.begin();
  story.work(0);
  story.take(1);
  round.cancel();
  story.loop.drain();
  const auto& result = round.value();
  CHECK(result.end == RoundEnd::cancelled);
  CHECK(outcomes(result) ==
        std::vector{NodeOutcome::reply, NodeOutcome::withdrawn, NodeOutcome::withdrawn});
  CHECK(story.store->counters().queued == 0);
  CHECK(story.store->counters().open_requests == 0);
  CHECK(story.answer(1) == ReplyDisposition::late);
  CHECK(story.rounds->late().size() == 0);
}

TEST_CASE("a round that is cancelled by a handler which its own sends run says so in its rows") {
  Hospitals story(
      2, {.agent = {.max_queued_messages = 1, .overflow = fedagent::OverflowPolicy::drop_oldest}});
  std::optional<Spawned<Result>> round;
  REQUIRE(story.agent("n0").try_send(message("r"), [&](const auto&) { round->cancel(); }));
  round = story.loop.spawn_after_a_wait(story.rounds->run(story.ids, message("q")));
  story.loop.drain();
  const auto& result = round->value();
  CHECK(result.end == RoundEnd::cancelled);
  CHECK(outcomes(result) == std::vector{NodeOutcome::withdrawn, NodeOutcome::withdrawn});
  CHECK(story.store->counters().queued == 0);
}

TEST_CASE("a round that is destroyed with its loop leaves nothing open") {
  auto io = std::make_unique<boost::asio::io_context>();
  ManualClock::reset();
  Store store(io->get_executor());
  REQUIRE(store.retrieve("n0"));
  Rounds rounds(store);
  boost::asio::co_spawn(*io, rounds.run({"n0"}, message("q"), {.deadline = 1s}),
                        boost::asio::detached);
  io->poll();
  CHECK(store.counters().open_requests == 1);
  io.reset();
  CHECK(store.counters().open_requests == 0);
  CHECK(store.counters().balanced());
}

TEST_CASE("a store that stops ends its rounds at once, and a later round does not begin") {
  Hospitals story(2);
  auto round = story.begin();
  story.work(0);
  story.store->stop();
  story.loop.drain();
  CHECK(round.value().end == RoundEnd::stopped);
  CHECK(round.value().rows[1].outcome == NodeOutcome::withdrawn);
  CHECK(round.value().rows[1].error == errc::stopped);
  auto late = story.loop.run(story.rounds->late().next());
  CHECK(late.error() == errc::stopped);
  auto next = story.begin();
  CHECK(next.value().end == RoundEnd::stopped);
  CHECK(next.value().rows[0].outcome == NodeOutcome::not_sent);
  CHECK(next.value().rows[0].error == errc::stopped);
}

TEST_CASE("a store that is destroyed ends its rounds, and its Rounds can still be asked") {
  Hospitals story(2);
  auto round = story.begin();
  story.store.reset();
  story.loop.drain();
  CHECK(round.value().end == RoundEnd::stopped);
  CHECK(story.loop.run(story.rounds->run({"n0"}, message("q"))).end == RoundEnd::stopped);
}

TEST_CASE("a round goes on when its Rounds is gone") {
  Hospitals story(1);
  auto round = story.begin({.deadline = 5s});
  story.rounds.reset();
  story.loop.drain();
  story.work(0);
  CHECK(round.value().end == RoundEnd::complete);
}

TEST_CASE("a cancelled round takes back also what rows that had ended before have left behind") {
  Hospitals story(2);
  story.stay(0);
  story.stay(1);
  auto round = story.begin(
      {.per_node = 1s, .per_node_for = {"n0", "n1"}, .queued = fedagent::QueuedPolicy::keep});
  story.take(0);
  auto other = story.begin({.per_node = 1s, .max_in_flight = 1}, "r");
  story.loop.advance(1s);
  REQUIRE(round.done());
  CHECK(story.store->counters().queued == 2);  // "q" at n1 and "r" at n1
  other.cancel();
  story.loop.drain();
  CHECK(other.value().end == RoundEnd::cancelled);
  CHECK(story.store->counters().queued == 1);
}

TEST_CASE("a message function may be one that can only be moved") {
  Hospitals story(1);
  auto own = std::make_unique<std::string>("q");
  auto round = story.loop.spawn(story.rounds->run(
      story.ids, [own = std::move(own)](std::string_view) { return message(*own); }));
  story.loop.drain();
  story.work(0);
  CHECK(round.value().replied == 1);
}

TEST_CASE("explain does not look for a message in an agent that was made anew under its id") {
  Hospitals story(1);
  std::size_t awaited = 0;
  const auto made_anew = [&](const fedagent::Outcome<Message>&) {
    REQUIRE(story.agent("n0").try_send(message("another")));
    awaited = story.rounds->reports().front().awaited.size();
  };
  REQUIRE(story.agent("n0").try_send(message("first"), made_anew));
  auto round = story.begin();
  story.store->erase("n0");
  story.loop.drain();
  CHECK(awaited == 1);
  CHECK(round.value().rows[0].error == errc::removed);
}

TEST_CASE("a node that a message function brings back is not given up by the other rounds") {
  Hospitals story(2);
  auto first = story.loop.spawn(story.rounds->run({"n0"},
                                                  [&story](std::string_view node_id) {
                                                    if (node_id == "n1") {
                                                      story.stay(0);
                                                    }
                                                    return message("q");
                                                  },
                                                  {.substitutes = {"n1"}}));
  auto second = story.begin({.reconnect = 5s}, "r");
  story.stay(1);
  story.loop.advance(10s);
  REQUIRE(story.agent("n0").status() == NodeActiveStatus::active);
  story.loop.advance(6s);
  CHECK_FALSE(second.done());
  story.loop.advance(1h);
}

TEST_CASE("a node that is erased when it is lost counts as lost") {
  fedagent::StoreOptions options;
  options.idle_expiry = 2s;
  Hospitals story(1, options);
  auto round = story.begin(fedagent::StopOnDisconnect{5s});
  story.loop.advance(10s);
  story.loop.advance(2s);
  CHECK(round.value().end == RoundEnd::node_disconnected);
  CHECK(round.value().rows[0].outcome == NodeOutcome::disconnected);
}

TEST_CASE("the reply times of nodes that are gone are forgotten, those of the others are kept") {
  Hospitals story(1);
  story.stay(0);
  const RoundPolicy policy{
      .per_node = fedagent::AdaptiveDeadline{.k = 0.0, .floor = 0s, .cap = 1h, .min_replies = 1}};
  auto first = story.begin(policy);
  story.loop.advance(3s);
  story.work(0);
  REQUIRE(first.done());
  for (int i = 0; i < 200; ++i) {
    const auto id = "guest " + std::to_string(i);
    Node guest(*story.store, id);
    REQUIRE(story.store->retrieve(id));
    auto round = story.loop.spawn(story.rounds->run({id}, message("g"), policy));
    story.loop.drain();
    REQUIRE(story.loop.run(guest.poll()));
    Message answer{.request_id = "g"};
    REQUIRE(story.loop.run(guest.reply(std::move(answer))));
    REQUIRE(round.value().replied == 1);
    story.store->erase(id);
    story.loop.drain();
  }
  auto last = story.begin(policy, "r");
  story.loop.advance(3s);
  CHECK(last.value().rows[0].outcome == NodeOutcome::deadline_passed);  // its median is known still
}

namespace {

/// A message that says by itself whether it tells of an error.
struct Answer {
  std::string request_id{};
  bool is_error = false;
};

}  // namespace

TEST_CASE("what an error reply is, the message's traits say") {
  using AnswerTransport = fedagent::memory::Transport<Answer, Executor, ManualClock>;
  Loop loop;
  fedagent::AgentStore<AnswerTransport> store(loop.executor());
  fedagent::Rounds rounds(store);
  REQUIRE(store.retrieve("good"));
  REQUIRE(store.retrieve("bad"));
  auto round = loop.spawn(rounds.run({"good", "bad"}, Answer{"q"}, fedagent::StopOnError{{"x"}}));
  loop.drain();
  for (const auto* id : {"good", "bad"}) {
    fedagent::memory::Node node(store, id);
    REQUIRE(loop.run(node.poll()));
    Answer answer{"q", std::string_view(id) == "bad"};
    REQUIRE(loop.run(node.reply(std::move(answer))));
  }
  CHECK(round.value().rows[0].outcome == NodeOutcome::reply);
  CHECK(round.value().rows[1].outcome == NodeOutcome::error_reply);
}

// ---- substitutes, relay

TEST_CASE("a substitute takes the place of a lost node, and another that of a lost substitute") {
  Hospitals story(4);
  story.ids = {"n0", "stranger"};
  auto round = story.begin({.substitutes = {"n2", "n3"}});
  story.work(0);
  story.store->erase("n2");
  story.loop.drain();
  story.work(3);
  const auto& result = round.value();
  CHECK(result.end == RoundEnd::complete);
  REQUIRE(result.rows.size() == 4);
  CHECK(result.rows[0].substitute_for == nobody);
  CHECK(result.rows[2].node_id == "n2");
  CHECK(result.rows[2].substitute_for == 1);
  CHECK(result.rows[3].node_id == "n3");
  CHECK(result.rows[3].substitute_for == 2);
  CHECK(result.has_quorum());
}

TEST_CASE("nobody steps in for an error reply, or when the quorum is there") {
  Hospitals story(4, {}, errors_by_body());
  story.ids = {"n0", "n1", "n2"};
  auto round = story.begin({.quorum = 1, .grace = 1min, .substitutes = {"n3"}});
  story.work(0, "error");
  story.work(1);
  story.store->erase("n2");
  story.loop.drain();
  CHECK(round.value().end == RoundEnd::complete);
  CHECK(round.value().rows.size() == 3);
}

TEST_CASE("a relay asks one node after another, and each has what the one before it answered") {
  Hospitals story(3);
  auto round = story.loop.spawn(story.rounds->run(
      story.ids,
      [](std::string_view node_id, std::span<const Row> rows) {
        std::string body = "start";
        for (const auto& row : rows) {
          body = row.reply ? row.reply->body : body;
        }
        return Message{.request_id = "for " + std::string(node_id), .body = body + "+"};
      },
      {.max_in_flight = 1}));
  story.loop.drain();
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(story.store->counters().open_requests == 1);
    const auto task = story.loop.run(story.nodes[i].poll()).value();
    story.answer(i, task->body + std::to_string(i), task->request_id);
  }
  CHECK(round.value().end == RoundEnd::complete);
  CHECK(round.value().rows[2].reply->body == "start+0+1+2");
}

// ---- late replies

TEST_CASE("a late reply comes with its round and with how many rounds have begun since") {
  Hospitals story(2);
  auto first = story.begin({.quorum = 1});
  story.take(1);
  story.work(0);
  REQUIRE(first.done());
  auto second = story.begin({.quorum = 1}, "r");
  story.loop.advance(3s);
  CHECK(story.answer(1, "old news") == ReplyDisposition::delivered);
  auto late = story.loop.run(story.rounds->late().next());
  CHECK(late->node_id == "n1");
  CHECK(late->message->body == "old news");
  CHECK(late->round == 1);
  CHECK(late->staleness == 1);
  CHECK(late->took == 3s);
  CHECK(late->missed == 0);
}

TEST_CASE("a node that its own deadline has left out is late in its own round") {
  Hospitals story(2);
  story.stay(1);
  auto round = story.begin({.per_node = 1s});
  story.take(1);
  story.loop.advance(1s);
  CHECK_FALSE(story.answer(1) == ReplyDisposition::late);
  auto late = story.loop.run(story.rounds->late().next());
  CHECK(late->round == 1);
  CHECK(late->staleness == 0);
}

TEST_CASE("late replies are taken for late_for, then they are late to the agent") {
  Hospitals story(3);
  auto round = story.begin({.quorum = 1, .late_for = 10s});
  story.take(1);
  story.take(2);
  story.stay(1);
  story.stay(2);
  story.work(0);
  REQUIRE(round.done());
  story.loop.advance(10s - 1ns);
  CHECK(story.answer(1) == ReplyDisposition::delivered);
  story.loop.advance(1ns);
  CHECK(story.answer(2) == ReplyDisposition::late);
  CHECK(story.rounds->late().size() == 1);
}

TEST_CASE("nobody need read the late replies: the oldest are dropped, and counted") {
  Hospitals story(4, {}, {.late_capacity = 1});
  auto round = story.begin({.quorum = 1});
  for (std::size_t i = 1; i < 4; ++i) {
    story.take(i);
  }
  story.work(0);
  for (std::size_t i = 1; i < 4; ++i) {
    story.answer(i);
  }
  CHECK(story.rounds->late().size() == 1);
  auto late = story.loop.run(story.rounds->late().next());
  CHECK(late->node_id == "n3");
  CHECK(late->missed == 2);
}

TEST_CASE("with quorum zero a round ends when it has sent, and takes back what is queued, or not") {
  Hospitals story(2);
  auto round = story.begin({.quorum = 0});
  CHECK(round.value().end == RoundEnd::quorum);
  CHECK(story.store->counters().queued == 0);

  auto other = story.begin({.quorum = 0, .queued = fedagent::QueuedPolicy::keep, .late_for = 5s});
  CHECK(other.value().end == RoundEnd::quorum);
  CHECK(story.store->counters().queued == 2);
  story.loop.advance(5s - 1ns);
  CHECK(story.work(0) == ReplyDisposition::delivered);
  CHECK(story.rounds->late().try_next()->node_id == "n0");
  CHECK_FALSE(story.rounds->late().try_next());
  story.loop.advance(1ns);
  CHECK(story.store->counters().queued == 0);
}

TEST_CASE("what a round keeps queued is delivered again when it is lost on its way") {
  Hospitals story(1);
  auto round = story.begin({.quorum = 0, .queued = fedagent::QueuedPolicy::keep});
  REQUIRE(round.done());
  story.take(0);
  Node again(*story.store, "n0", 2);
  CHECK(story.loop.run(again.poll()).has_value());
  CHECK(story.answer(0) == ReplyDisposition::delivered);
  CHECK(story.rounds->late().size() == 1);
}

TEST_CASE("no substitute is named for a node whose loss stops the round") {
  Hospitals story(2);
  story.loop.advance(10s);
  story.ids = {"n0"};
  const RoundPolicy policy{.stop_on = {.disconnect = NodeSelection::every()},
                           .substitutes = {"n1"}};
  auto round = story.begin(policy);
  CHECK(round.value().end == RoundEnd::node_disconnected);
  CHECK(round.value().rows.size() == 1);
}

TEST_CASE("a round by itself keeps no late replies") {
  Hospitals story(2);
  auto round = story.loop.spawn(
      fedagent::round(*story.store, story.ids, message("q"), RoundPolicy{.quorum = 1}));
  story.loop.drain();
  story.take(1);
  story.work(0);
  CHECK(round.value().end == RoundEnd::quorum);
  CHECK(story.answer(1) == ReplyDisposition::late);
}

// ---- stop anywhere

namespace {

// A node that polls, works and replies until it is told to go, or the store has enough of it.
awaitable<bool> live(Node& node, std::shared_ptr<const bool> goes_on) {
  while (*goes_on) {
    auto polling = node.poll();
    auto task = co_await std::move(polling);
    if (!task || !*goes_on) {
      break;
    }
    Message answer{.request_id = (*task)->request_id, .body = "done"};
    auto replying = node.reply(std::move(answer));
    co_await std::move(replying);
  }
  co_return true;
}

enum class Stop {
  cancels,
  stops_store,
  destroys_store,
  destroys_rounds,
  erases_agents,
  forgets_loop
};

/// Runs `handlers` handlers of a story with two rounds, does it, and looks at what is left.
/** @return Whether the story was over before. */
bool stop_after(std::size_t handlers, Stop how) {
  auto loop = std::make_unique<Loop>();
  std::weak_ptr<const Message> first;
  std::weak_ptr<const Message> second;
  std::optional<Store> store(std::in_place, loop->executor());
  std::vector<Node> nodes;
  for (const auto& id : names(4)) {
    nodes.emplace_back(*store, id);
    REQUIRE(store->retrieve(id));
  }
  std::optional<Rounds> rounds(*store);
  auto one = message("q");
  auto two = message("r");
  first = one;
  second = two;
  const auto begun = [&](MessagePtr task, const RoundPolicy& policy) {
    return loop->spawn(rounds->run({"n0", "n1", "stranger"}, std::move(task), policy));
  };
  auto round = begun(std::move(one), {.quorum = 2,
                                      .deadline = 1h,
                                      .grace = 1min,
                                      .per_node = fedagent::AdaptiveDeadline{},
                                      .substitutes = {"n2"}});
  auto other = begun(std::move(two), {.quorum = 1, .max_in_flight = 1});
  const auto store_lives = std::make_shared<bool>(true);
  std::vector<Spawned<bool>> lives;
  for (auto& node : nodes) {
    lives.push_back(loop->spawn(live(node, store_lives)));
  }
  std::size_t ran = 0;
  for (; ran < handlers; ++ran) {
    loop->io.restart();
    if (loop->io.poll_one() == 0) {
      break;
    }
  }
  switch (how) {
    case Stop::cancels:
      round.cancel();
      other.cancel();
      break;
    case Stop::stops_store:
      store->stop();
      break;
    case Stop::destroys_store:
      *store_lives = false;
      store.reset();
      break;
    case Stop::destroys_rounds:
      rounds.reset();
      break;
    case Stop::erases_agents:
      for (const auto& id : names(4)) {
        store->erase(id);
      }
      break;
    case Stop::forgets_loop:
      loop.reset();
      break;
  }
  if (loop) {
    loop->drain();
    for (const auto& ended : {round, other}) {
      REQUIRE(ended.done());
      CHECK(ended.value().rows.size() >= 3);
      CHECK(ended.value().replied <= 3);
    }
  }
  if (store) {
    CHECK(store->counters().balanced());
    store->stop();
  }
  store.reset();
  if (loop) {
    loop->drain();
  }
  CHECK(first.expired());
  CHECK(second.expired());
  return ran < handlers;
}

}  // namespace

TEST_CASE("rounds can be stopped after any handler, in any way") {
  for (const auto how : {Stop::cancels, Stop::stops_store, Stop::destroys_store,
                         Stop::destroys_rounds, Stop::erases_agents, Stop::forgets_loop}) {
    CAPTURE(static_cast<int>(how));
    std::size_t handlers = 0;
    for (bool over = false; !over; ++handlers) {
      CAPTURE(handlers);
      over = stop_after(handlers, how);
    }
    CHECK(handlers > 10);
  }
}

// ---- bad input

TEST_CASE("a policy out of range is refused by the name of its member") {
  Hospitals story(1);
  const auto refusal = [&](const RoundPolicy& policy) -> std::string {
    try {
      (void)story.rounds->run(story.ids, message("q"), policy);
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return {};
  };
  CHECK(refusal({.deadline = -1s}).find("deadline") != std::string::npos);
  CHECK(refusal({.grace = 400 * 24h}).find("grace") != std::string::npos);
  CHECK(refusal({.per_node = fedagent::Duration(-1)}).find("per_node") != std::string::npos);
  CHECK(refusal({.reconnect = -1s}).find("reconnect") != std::string::npos);
  CHECK(refusal({.late_for = -1s}).find("late_for") != std::string::npos);
  using fedagent::AdaptiveDeadline;
  CHECK(refusal({.per_node = AdaptiveDeadline{.k = -1.0}}).find("per_node.k") != std::string::npos);
  CHECK(refusal({.per_node = AdaptiveDeadline{.cap = 0s}}).find("per_node.cap") !=
        std::string::npos);
  CHECK(refusal({.per_node = AdaptiveDeadline{.floor = 2s, .cap = 1s}}).find("per_node.floor") !=
        std::string::npos);
  CHECK(refusal({.per_node = AdaptiveDeadline{.min_replies = 17}}).find("min_replies") !=
        std::string::npos);
  CHECK(refusal({}).empty());
  CHECK_THROWS_WITH(Quorum(-1), doctest::Contains("quorum"));
  CHECK_THROWS_WITH(Quorum::fraction(1.5), doctest::Contains("quorum"));
}
