// detail/relay.hpp: receipts for overlay messages, and the quota of a pair of nodes.
#include "fedagent/detail/relay.hpp"

#include <doctest/doctest.h>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/calls.hpp"
#include "support/loop.hpp"
#include "support/printing.hpp"
#include "support/story.hpp"

using namespace test;

namespace {

/// What the sources were told, in the order of the receipts.
struct Receipts {
  std::vector<boost::system::error_code> all{};

  fedagent::Receipt taker() {
    return [this](result<void> came) {
      all.push_back(came ? boost::system::error_code() : came.error());
    };
  }
};

struct Ward {
  explicit Ward(const StoreOptions& options = {})
      : store(std::in_place, loop.executor(), options), a(*store, "a"), b(*store, "b") {
    for (const auto* id : {"a", "b"}) {
      auto agent = store->retrieve(id).value();
      agent.set_active();
      agent.change_node_status_after_task();
    }
  }
  Ward(const Ward&) = delete;
  Ward& operator=(const Ward&) = delete;
  ~Ward() {
    if (store) {
      CHECK(store->counters().balanced());
    }
  }

  result<ReplyDisposition> relay(Node& from, std::string destination, std::string id = "") {
    auto sending = from.reply(
        Message{.request_id = std::move(id), .body = "key", .destination = std::move(destination)},
        receipts.taker());
    return loop.run(std::move(sending));
  }

  Loop loop;
  Receipts receipts;
  std::optional<Store> store;
  Node a;
  Node b;
};

}  // namespace

TEST_CASE("E20: the source learns at once that its message has no destination here") {
  Ward ward;
  CHECK(ward.relay(ward.a, "stranger").error() == errc::unknown_node);
  CHECK(ward.receipts.all.empty());
}

TEST_CASE("E20: the source learns that its destination is DISCONNECTED, at once or later") {
  SUBCASE("at once") {
    Ward ward;
    ward.loop.advance(10s);
    CHECK(ward.relay(ward.a, "b").error() == errc::disconnected);
    CHECK(ward.receipts.all.empty());
  }
  SUBCASE("later") {
    StoreOptions options;
    options.agent.queued_on_disconnect = fedagent::QueuedPolicy::drop;
    Ward ward(options);
    CHECK(ward.relay(ward.a, "b").value() == ReplyDisposition::forwarded);
    ward.loop.advance(10s);
    REQUIRE(ward.receipts.all.size() == 1);
    CHECK(ward.receipts.all[0] == errc::disconnected);
  }
}

TEST_CASE("a relayed message is delivered when the destination polls again, and its source told") {
  Ward ward;
  CHECK(ward.relay(ward.a, "b", "its own id").value() == ReplyDisposition::forwarded);
  CHECK(ward.loop.run(ward.b.poll()).value()->body == "key");
  CHECK(ward.receipts.all.empty());  // handed over is not yet read
  auto poll = ward.loop.spawn(ward.b.poll());
  ward.loop.drain();
  REQUIRE(ward.receipts.all.size() == 1);
  CHECK_FALSE(ward.receipts.all[0]);
}

TEST_CASE("the source learns that its message has expired, or that the store was stopped") {
  SUBCASE("expired") {
    StoreOptions options;
    options.agent.max_age = 2s;
    Ward ward(options);
    REQUIRE(ward.relay(ward.a, "b"));
    ward.loop.advance(2s);
    REQUIRE(ward.receipts.all.size() == 1);
    CHECK(ward.receipts.all[0] == errc::expired);
  }
  SUBCASE("stopped") {
    Ward ward;
    REQUIRE(ward.relay(ward.a, "b"));
    ward.store.reset();
    REQUIRE(ward.receipts.all.size() == 1);
    CHECK(ward.receipts.all[0] == errc::stopped);
  }
  SUBCASE("removed") {
    Ward ward;
    REQUIRE(ward.relay(ward.a, "b"));
    ward.store->erase("b");
    REQUIRE(ward.receipts.all.size() == 1);
    CHECK(ward.receipts.all[0] == errc::removed);
  }
}

TEST_CASE(
    "the source learns that its message was displaced, lost too often, or cannot be encoded") {
  StoreOptions options;
  options.agent.max_queued_messages = 1;
  options.agent.overflow = fedagent::OverflowPolicy::drop_oldest;
  options.agent.max_retries = 0;
  Ward ward(options);
  const auto told = [&ward](errc error) {
    REQUIRE(ward.receipts.all.size() == 1);
    CHECK(ward.receipts.all[0] == error);
    ward.receipts.all.clear();
  };
  auto agent = ward.store->retrieve("b").value();
  REQUIRE(ward.relay(ward.a, "b"));
  REQUIRE(ward.relay(ward.a, "b"));
  told(errc::displaced);
  {
    auto task = ward.loop.run(agent.get_task());
    (void)task->message();
  }
  told(errc::retries_exhausted);
  REQUIRE(ward.relay(ward.a, "b"));
  ward.loop.run(agent.get_task())->not_encodable();
  told(errc::not_encodable);
}

TEST_CASE("the quota of a pair is its own, and room comes back with each delivery") {
  StoreOptions options;
  options.relay_quota = 2;
  Ward ward(options);
  REQUIRE(ward.relay(ward.a, "b"));
  REQUIRE(ward.relay(ward.a, "b"));
  CHECK(ward.relay(ward.a, "b").error() == errc::quota_exceeded);
  CHECK(ward.relay(ward.b, "a"));
  CHECK(ward.relay(ward.b, "b"));
  REQUIRE(ward.store->try_send("b", message("a task")));  // the researcher's have no quota

  REQUIRE(ward.loop.run(ward.b.poll()));
  CHECK(ward.relay(ward.a, "b").error() == errc::quota_exceeded);  // not confirmed yet
  REQUIRE(ward.loop.run(ward.b.poll()));
  CHECK(ward.relay(ward.a, "b").value() == ReplyDisposition::forwarded);
  CHECK(ward.relay(ward.a, "b").error() == errc::quota_exceeded);
}

TEST_CASE("a message that its destination does not take costs no quota") {
  StoreOptions options;
  options.relay_quota = 1;
  options.agent.max_queued_messages = 1;
  Ward ward(options);
  REQUIRE(ward.store->try_send("b", message("first")));
  CHECK(ward.relay(ward.a, "b").error() == errc::queue_full);
  REQUIRE(ward.loop.run(ward.b.poll()));
  CHECK(ward.relay(ward.a, "b").value() == ReplyDisposition::forwarded);
}

TEST_CASE("a receipt that throws is reported, and takes no other with it") {
  Loop loop;
  ObservedStore store(loop.executor());
  fedagent::memory::Node<ObservedStore> a(store, "a");
  REQUIRE(store.retrieve("a"));
  REQUIRE(store.retrieve("b"));
  Message overlay{.body = "key", .destination = "b"};
  auto sending = a.reply(overlay, [](result<void>) { throw std::runtime_error("a bad receipt"); });
  REQUIRE(loop.run(std::move(sending)));
  store.erase("b");
  CHECK(store.observer().log().count("error b a bad receipt") == 1);
}

TEST_CASE("with a forwarder of one's own, the receipt comes when that has returned") {
  Loop loop;
  Receipts receipts;
  bool takes = true;
  Agent agent("a", loop.executor(), [&takes](MessagePtr) -> awaitable<result<void>> {
    // The flag outlives the loop.
    return [](bool yes) -> awaitable<result<void>> {
      co_return yes ? result<void>() : make_error_code(errc::no_route);
    }(takes);
  });
  Message overlay{.body = "key", .destination = "elsewhere"};
  CHECK(loop.run(agent.on_reply(overlay, receipts.taker())).value() == ReplyDisposition::forwarded);
  CHECK(receipts.all.size() == 1);
  takes = false;
  CHECK(loop.run(agent.on_reply(overlay, receipts.taker())).error() == errc::no_route);
  CHECK(receipts.all.size() == 1);
}
