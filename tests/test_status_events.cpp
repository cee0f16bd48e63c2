// status_events.hpp, on a feed of its own; the store's stream is in test_agent_store.cpp.
#include "fedagent/status_events.hpp"

#include <doctest/doctest.h>
#include <memory>
#include <optional>
#include <string>

#include "support/loop.hpp"
#include "support/printing.hpp"

using test::errc;
using test::Executor;
using test::Loop;
using test::ManualClock;
using test::NodeActiveStatus;
using namespace std::chrono_literals;

namespace {

using Feed = fedagent::detail::StatusFeed<ManualClock, Executor>;
using Events = fedagent::StatusEvents<ManualClock, Executor>;
using Event = fedagent::StatusEvent<ManualClock>;
constexpr auto active = NodeActiveStatus::active;
constexpr auto waiting = NodeActiveStatus::waiting;

Events subscribe(Loop& loop, Feed& feed, std::size_t capacity = 8) {
  auto subscription = std::make_shared<Events::Queue>(loop.executor(), capacity);
  feed.add(*subscription);
  return Events(std::move(subscription));
}
void publish(Feed& feed, std::string_view node) {
  feed.publish(node, active, waiting, ManualClock::now());
}

}  // namespace

TEST_CASE("B16: a reader gets each change in order, also one that was published before it asked") {
  Loop loop;
  Feed feed;
  auto events = subscribe(loop, feed);
  publish(feed, "a");
  ManualClock::advance(1s);
  feed.publish("b", waiting, NodeActiveStatus::disconnected, ManualClock::now());
  const Event first = loop.run(events.next()).value();
  CHECK(first.node_id == "a");
  CHECK(first.from == active);
  CHECK(first.to == waiting);
  CHECK(first.missed == 0);
  const Event second = loop.run(events.next()).value();
  CHECK(second.node_id == "b");
  CHECK(second.from == waiting);
  CHECK(second.to == NodeActiveStatus::disconnected);
  CHECK(second.at == first.at + 1s);

  auto next = loop.spawn(events.next());
  loop.drain();
  CHECK_FALSE(next.done());
  publish(feed, "c");
  loop.drain();
  CHECK(next.value()->node_id == "c");
}

TEST_CASE(
    "status events: of a slow reader the oldest are dropped, and the next one says how many") {
  Loop loop;
  Feed feed;
  auto events = subscribe(loop, feed, 2);
  for (const auto* node : {"a", "b", "c", "d", "e"}) {
    publish(feed, node);
  }
  const Event first = loop.run(events.next()).value();
  CHECK(first.node_id == "d");
  CHECK(first.missed == 3);
  const Event second = loop.run(events.next()).value();
  CHECK(second.node_id == "e");
  CHECK(second.missed == 0);
  publish(feed, "f");
  const Event event = loop.run(events.next()).value();
  CHECK(event.node_id == "f");
  CHECK(event.missed == 0);
}

TEST_CASE("status events: a stream without room for any event keeps the latest") {
  Loop loop;
  Feed feed;
  auto events = subscribe(loop, feed, 0);
  publish(feed, "a");
  publish(feed, "b");
  const Event event = loop.run(events.next()).value();
  CHECK(event.node_id == "b");
  CHECK(event.missed == 1);
}

TEST_CASE("status events: each stream has every event, and one that is gone is not served") {
  Loop loop;
  Feed feed;
  auto one = subscribe(loop, feed);
  {
    auto gone = subscribe(loop, feed);
    publish(feed, "a");
  }
  auto late = subscribe(loop, feed);
  publish(feed, "b");
  CHECK(loop.run(one.next())->node_id == "a");
  CHECK(loop.run(one.next())->node_id == "b");
  CHECK(loop.run(late.next())->node_id == "b");
}

TEST_CASE("status events: two readers of a stream share it, first come, first served") {
  Loop loop;
  Feed feed;
  auto events = subscribe(loop, feed);
  auto first = loop.spawn(events.next());
  auto second = loop.spawn(events.next());
  auto third = loop.spawn(events.next());
  loop.drain();
  publish(feed, "a");
  publish(feed, "b");
  loop.drain();
  CHECK(first.value()->node_id == "a");
  CHECK(second.value()->node_id == "b");
  CHECK_FALSE(third.done());
  publish(feed, "c");
  loop.drain();
  CHECK(third.value()->node_id == "c");
}

TEST_CASE("status events: a cancelled reader takes nothing and passes its turn on") {
  Loop loop;
  Feed feed;
  auto events = subscribe(loop, feed);
  auto first = loop.spawn(events.next());
  auto second = loop.spawn(events.next());
  loop.drain();
  SUBCASE("before the event") {
    loop.in_one_turn([&] {
      first.cancel();
      publish(feed, "a");
    });
  }
  SUBCASE("after the event, before it runs") {
    loop.in_one_turn([&] {
      publish(feed, "a");
      first.cancel();
    });
  }
  CHECK(first.value().error() == boost::asio::error::operation_aborted);
  CHECK(second.value()->node_id == "a");
}

TEST_CASE("status events: the end of the feed ends a stream, once what is there has been read") {
  Loop loop;
  std::optional<Feed> feed(std::in_place);
  auto events = subscribe(loop, *feed);
  publish(*feed, "a");
  auto empty = subscribe(loop, *feed);
  auto pending = loop.spawn(empty.next());
  loop.drain();
  SUBCASE("closed") { feed->close(); }
  SUBCASE("destroyed") { feed.reset(); }
  loop.drain();
  CHECK(pending.value().error() == errc::stopped);
  CHECK(loop.run(events.next())->node_id == "a");
  CHECK(loop.run(events.next()).error() == errc::stopped);
}

TEST_CASE("status events: a stream that is destroyed ends its pending reader") {
  Loop loop;
  Feed feed;
  std::optional<Events> events(subscribe(loop, feed));
  auto moved = std::make_unique<Events>(*std::move(events));
  auto pending = loop.spawn(moved->next());
  loop.drain();
  events.reset();
  loop.drain();
  CHECK_FALSE(pending.done());
  moved.reset();
  loop.drain();
  CHECK(pending.value().error() == errc::stopped);
  publish(feed, "a");
}
