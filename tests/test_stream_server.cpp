#include <doctest/doctest.h>
#include <sys/resource.h>
#include <unistd.h>
#include <boost/asio/ip/tcp.hpp>
#include <string>
#include <vector>

#include "support/stream.hpp"

using namespace test::stream;
using fs::FrameType;
using test::errc;
using test::ReplyDisposition;
using namespace std::chrono_literals;

namespace {

Message without_id(std::string body) { return task("", std::move(body)); }

boost::system::error_code end_of_poll(Wire& wire) {
  return fs::decode_error(wire.expect(FrameType::poll_end).payload);
}

fs::ReplyResult result_of(Wire& wire) {
  fs::ReplyResult result = ReplyDisposition::unexpected;
  REQUIRE_FALSE(fs::decode_reply_result(wire.expect(FrameType::reply_result).payload, result));
  return result;
}

// A forwarder that takes its time.
test::awaitable<test::result<void>> when_a_node_polls(Store* store) {
  auto waiting = store->wait_for_nodes(1);
  const auto there = co_await std::move(waiting);
  co_return there;
}

}  // namespace

TEST_CASE("stream server: E1 E13 a hello, a poll, a task, a reply") {
  Served served;
  auto wire = served.connect();
  CHECK(wire.quiet());
  wire.send(hello("n1"));
  const auto welcome = fs::decode_welcome(wire.expect(FrameType::welcome).payload);
  REQUIRE(welcome);
  CHECK(welcome->limits.max_frame == fs::Limits{}.max_frame);
  CHECK(welcome->ping_interval_ms == 3333);  // a third of the disconnection timeout
  wire.send(frame(FrameType::poll));
  CHECK(wire.quiet());
  const auto agent = *served.store.get("n1");
  CHECK(agent.open_polls() == 1);
  auto asked = served.loop.spawn(agent.request(task("r1", "question")));
  const auto got = wire.expect(FrameType::task);
  CHECK(got.last);
  CHECK(got.payload.substr(fs::ChunkHead::encoded_size) == "r1question");
  CHECK(served.store.counters().leased == 1);
  wire.send(whole(FrameType::reply, task("r1", "answer")));
  CHECK(*result_of(wire) == ReplyDisposition::delivered);
  REQUIRE(asked.value());
  CHECK((*asked.value())->body == "answer");
  CHECK((*asked.value())->source == "n1");
  CHECK(served.store.counters().confirmed == 1);
  wire.close();
  CHECK(served.faults.empty());
  CHECK(served.server.counters().open == 0);
}

TEST_CASE(
    "stream server: E12 the next poll of the connection confirms a task, another one's does not") {
  Served served;
  auto first = served.meet("n1");
  first.send(frame(FrameType::poll));
  REQUIRE(served.store.try_send("n1", std::make_shared<const Message>(task("r1"))));
  first.expect(FrameType::task);
  first.close();
  CHECK(served.store.counters().leased == 1);
  auto second = served.meet("n1", 2);
  second.send(frame(FrameType::poll));
  second.expect(FrameType::task);
  CHECK(served.store.counters().redelivered == 1);
  second.send(frame(FrameType::poll));
  CHECK(served.store.counters().confirmed == 1);
  CHECK(served.store.counters().balanced());
}

TEST_CASE("stream server: E7 a connection that dies in the middle of a task loses nothing") {
  Served served;
  auto first = served.meet("n1");
  first.send(frame(FrameType::poll));
  const std::string model(8U << 20U, 'm');
  REQUIRE(served.store.try_send("n1", std::make_shared<const Message>(task("r1", model))));
  REQUIRE(served.store.try_send("n1", std::make_shared<const Message>(task("r2"))));
  served.loop.drain();  // as much as the socket takes
  CHECK(served.store.counters().leased == 1);
  first.close();
  CHECK(served.store.counters().queued == 2);
  CHECK(served.store.counters().redelivered == 1);
  auto second = served.meet("n1", 2);
  second.send(frame(FrameType::poll));
  std::string body;
  Frame got;
  while (!got.last) {
    got = second.expect(FrameType::task);
    body += got.payload.substr(body.empty() ? fs::ChunkHead::encoded_size + 2
                                            : fs::ChunkHead::index_size);
  }
  CHECK(body == model);  // the same message, and first, as it was
  CHECK(served.store.counters().balanced());
}

TEST_CASE("stream server: H4 a frozen client gets nothing once its node has connected anew") {
  Served served;
  auto frozen = served.meet("n1", 1);
  frozen.send(frame(FrameType::poll));
  auto fresh = served.meet("n1", 2);
  fresh.send(frame(FrameType::poll));
  REQUIRE(served.store.try_send("n1", std::make_shared<const Message>(task("r1"))));
  fresh.expect(FrameType::task);
  // When it thaws, it learns why.
  CHECK(frozen.told() == errc::superseded);
  CHECK(frozen.ended());
  frozen.close();
  REQUIRE(served.faults.size() == 1);
  CHECK(served.faults[0] == Fault{"n1", errc::superseded});
}

TEST_CASE("stream server: a frozen client that does not leave is closed after a moment") {
  Served served;
  auto frozen = served.meet("n1", 1);
  auto fresh = served.meet("n1", 2);
  CHECK(served.server.counters().open == 2);
  served.loop.advance(1s);
  CHECK(served.server.counters().open == 1);
  CHECK(fresh.quiet());
}

TEST_CASE("stream server: the connection that a client gave up does not take over the one it has") {
  Served served;
  auto live = served.meet("n1", 7, 2);
  auto late = served.connect();
  late.send(hello("n1", 7, 1));
  CHECK(late.told() == fs::errc::stale_connection);
  CHECK(live.send(frame(FrameType::ping)).expect(FrameType::pong).payload.empty());
}

TEST_CASE("stream server: with another policy than newest-wins both connections stay") {
  Served served({}, {.agent = {.polls = fedagent::PollPolicy::reject}});
  auto first = served.meet("n1", 1);
  first.send(frame(FrameType::poll));
  auto second = served.meet("n1", 2);
  second.send(frame(FrameType::poll));
  CHECK(end_of_poll(second) == errc::poll_refused);
  CHECK(first.send(frame(FrameType::ping)).expect(FrameType::pong).payload.empty());
}

TEST_CASE("stream server: E2 E17 H25 each bad hello ends that connection, and says why") {
  struct Case {
    const char* what;
    std::string bytes;
    boost::system::error_code expected;
  };
  fs::Hello no_id;
  auto foreign = hello("n1");
  foreign[8] = 'X';
  auto newer = hello("n1");
  newer[13] = 9;
  fs::Hello long_id;
  long_id.node_id.assign(300, 'n');
  const Case cases[] = {
      {"garbage", "GET / HTTP/1.1\r\nHost: hospital\r\n\r\n", fs::errc::unknown_frame_type},
      {"no hello", frame(FrameType::poll), fs::errc::unexpected_frame},
      {"foreign", foreign, fs::errc::not_fedagent},
      {"another version", newer, fs::errc::unsupported_version},
      {"no id", frame(FrameType::hello, encode(no_id)), errc::bad_node_id},
      {"id too long", frame(FrameType::hello, encode(long_id)), errc::bad_node_id},
      {"malformed", frame(FrameType::hello, std::string("FEDA\0\1", 6)),
       fs::errc::malformed_payload},
      {"not admitted", hello("stranger"), errc::not_admitted},
  };
  for (const auto& each : cases) {
    CAPTURE(each.what);
    Served served({}, {.admit = [](std::string_view id) { return id != "stranger"; }});
    auto other = served.meet("other");
    auto wire = served.connect();
    wire.send(each.bytes);
    CHECK(wire.told() == each.expected);
    CHECK(wire.ended());
    wire.close();
    REQUIRE(served.faults.size() == 1);
    CHECK(served.faults[0].node_id.empty());
    CHECK(served.faults[0].error == each.expected);
    CHECK(other.send(frame(FrameType::ping)).expect(FrameType::pong).payload.empty());
    CHECK(served.store.size() == 1);
  }
}

TEST_CASE("stream server: E15 E16 H19 H26 each bad frame ends that connection, and loses no task") {
  using Head = fs::ChunkHead;
  auto of_other = task("r1", "answer");
  of_other.source = "n2";
  auto to_node = task("r1", "answer");
  to_node.destination = "n2";
  auto reserved = frame(FrameType::ping);
  reserved[6] = 1;
  const auto begun = chunk(FrameType::reply, Head{.total = 10}, "abc", false);
  struct Case {
    const char* what;
    std::string bytes;
    fs::errc expected;
  };
  const Case cases[] = {
      {"unknown type", std::string("\0\0\0\0\x63\0\0\0", 8), fs::errc::unknown_frame_type},
      {"reserved bit", reserved, fs::errc::reserved_bits_set},
      {"oversized frame", std::string("\x7f\0\0\0\x06\0\0\0", 8), fs::errc::frame_too_large},
      {"poll with payload", std::string("\0\0\0\x05\x03\0\0\0", 8), fs::errc::bad_frame_length},
      {"second hello", hello("n1"), fs::errc::unexpected_frame},
      {"frame of a server", frame(FrameType::pong), fs::errc::unexpected_frame},
      {"task from a node", whole(FrameType::task, task("x")), fs::errc::unexpected_frame},
      {"second poll", frame(FrameType::poll), fs::errc::poll_already_open},
      {"oversized message", chunk(FrameType::reply, Head{.total = 1U << 20U}, "abc", false),
       fs::errc::message_too_large},
      {"out of order", begun + chunk(FrameType::reply, Head{.index = 2}, "def", false),
       fs::errc::chunk_out_of_order},
      {"first chunk missing", chunk(FrameType::reply, Head{.index = 1}, "abc", true),
       fs::errc::chunk_out_of_order},
      {"interrupted", begun + chunk(FrameType::overlay, Head{.index = 1}, "def", false),
       fs::errc::message_interrupted},
      {"too long", begun + chunk(FrameType::reply, Head{.index = 1}, "12345678", true),
       fs::errc::body_too_long},
      {"too short", begun + chunk(FrameType::reply, Head{.index = 1}, "1", true),
       fs::errc::body_too_short},
      {"empty chunk", begun + chunk(FrameType::reply, Head{.index = 1}, "", false),
       fs::errc::empty_chunk},
      {"another node's id", whole(FrameType::reply, of_other), fs::errc::foreign_source},
      {"reply with a destination", whole(FrameType::reply, to_node),
       fs::errc::destination_unexpected},
      {"overlay without one", whole(FrameType::overlay, task("r1")), fs::errc::destination_missing},
      {"malformed feedback", frame(FrameType::feedback, "\x05"), fs::errc::malformed_payload},
  };
  for (const auto& each : cases) {
    CAPTURE(each.what);
    fs::ServerOptions options;
    options.connection.limits.max_message = 1000;
    Served served(options);
    auto other = served.meet("n2");
    other.send(frame(FrameType::poll));
    auto wire = served.meet("n1");
    wire.send(frame(FrameType::poll));
    const auto agent = *served.store.get("n1");
    wire.send(each.bytes);
    CHECK(wire.told() == each.expected);
    CHECK(wire.ended());
    wire.close();
    REQUIRE(served.faults.size() == 1);
    CHECK(served.faults[0].node_id == "n1");
    CHECK(agent.open_polls() == 0);
    CHECK(served.server.counters().incoming_bytes == 0);
    // The other connection has noticed nothing, and the node may come back for its tasks.
    CHECK(other.quiet());
    REQUIRE(agent.try_send(task("r1")));
    auto again = served.meet("n1", 2);
    again.send(frame(FrameType::poll)).expect(FrameType::task);
    REQUIRE(served.store.try_send("n2", std::make_shared<const Message>(task("r2"))));
    other.expect(FrameType::task);
    CHECK(served.store.counters().balanced());
  }
}

TEST_CASE("stream server: E15 a connection that ends within a frame or a message is truncated") {
  const auto reply = chunk(FrameType::reply, fs::ChunkHead{.total = 10}, "abc", false);
  for (std::size_t size = 1; size <= reply.size(); ++size) {
    CAPTURE(size);
    Served served;
    auto wire = served.meet("n1");
    wire.send(std::string_view(reply).substr(0, size)).close();
    REQUIRE(served.faults.size() == 1);
    CHECK(served.faults[0].error == fs::errc::truncated);
    CHECK(served.server.counters().open == 0);
    CHECK(served.server.counters().incoming_bytes == 0);
  }
}

TEST_CASE("stream server: the time for the hello is limited, also when it comes in drops") {
  Served served;
  auto silent = served.connect();
  auto slow = served.connect();
  const auto text = hello("n1");
  for (std::size_t i = 0; i < 4; ++i) {
    served.loop.advance(1s);
    slow.send(text.substr(i, 1));
  }
  CHECK_FALSE(silent.ended());
  served.loop.advance(1s);
  CHECK(silent.told() == fs::errc::hello_timeout);
  CHECK(slow.told() == fs::errc::hello_timeout);
  CHECK(served.store.size() == 0);
  served.loop.advance(1s);
  CHECK(served.server.counters().open == 0);
}

TEST_CASE("stream server: a half-written frame has a time limit") {
  Served served;
  auto wire = served.meet("n1");
  const auto reply = whole(FrameType::reply, task("r1", "answer"));
  wire.send(reply.substr(0, reply.size() - 1));
  for (int i = 0; i < 9; ++i) {
    served.loop.advance(1s);
  }
  CHECK_FALSE(wire.ended());
  served.loop.advance(1s);
  CHECK(wire.told() == fs::errc::frame_timeout);
  CHECK(wire.ended());
}

TEST_CASE("stream server: a peer that does not read is closed, and its task comes back") {
  Served served;
  auto wire = served.meet("n1");
  wire.send(frame(FrameType::poll));
  REQUIRE(served.store.try_send(
      "n1", std::make_shared<const Message>(task("r1", std::string(8U << 20U, 'm')))));
  for (int i = 0; i < 9; ++i) {
    served.loop.drain();
    served.loop.advance(1s);
    wire.send(frame(FrameType::ping));
  }
  CHECK(served.store.counters().leased == 1);
  served.loop.advance(1s);
  CHECK(served.store.counters().leased == 0);
  CHECK(served.store.counters().queued == 1);
  CHECK(served.server.counters().open == 0);
  REQUIRE(served.faults.size() == 1);
  CHECK(served.faults[0] == Fault{"n1", fs::errc::write_timeout});
}

TEST_CASE("stream server: a silent peer is gone, one that pings is not") {
  Served served;
  auto silent = served.meet("n1");
  auto alive = served.meet("n2");
  for (int i = 0; i < 14; ++i) {
    served.loop.advance(1s);
    alive.send(frame(FrameType::ping)).expect(FrameType::pong);
  }
  CHECK_FALSE(silent.ended());
  served.loop.advance(1s);
  CHECK(silent.told() == fs::errc::peer_silent);
  CHECK_FALSE(alive.ended());
}

TEST_CASE("stream server: pings keep a node that works from being taken for a lost one") {
  Served served;
  auto wire = served.meet("n1");
  wire.send(frame(FrameType::poll));
  REQUIRE(served.store.try_send("n1", std::make_shared<const Message>(task("r1"))));
  wire.expect(FrameType::task);
  const auto agent = *served.store.get("n1");
  CHECK(agent.status() == fedagent::NodeActiveStatus::waiting);
  for (int i = 0; i < 30; ++i) {
    served.loop.advance(3s);
    wire.send(frame(FrameType::ping)).expect(FrameType::pong);
  }
  CHECK(agent.status() == fedagent::NodeActiveStatus::waiting);
  served.loop.advance(10s);
  CHECK(agent.status() == fedagent::NodeActiveStatus::disconnected);
}

TEST_CASE("stream server: a ping passes between the chunks of a task") {
  Served served;
  auto wire = served.meet("n1");
  wire.send(frame(FrameType::poll));
  REQUIRE(served.store.try_send(
      "n1", std::make_shared<const Message>(task("r1", std::string(8U << 20U, 'm')))));
  wire.send(frame(FrameType::ping));
  std::size_t before = 0;
  while (wire.next()->type == FrameType::task) {
    ++before;
  }
  std::size_t after = 0;
  for (auto got = wire.next(); got && got->type == FrameType::task; got = wire.next()) {
    ++after;
  }
  CHECK(before < 8);
  CHECK(after > 20);
}

TEST_CASE("stream server: a ping passes between the chunks of a reply") {
  Served served;
  auto wire = served.meet("n1");
  wire.send(chunk(FrameType::reply, fs::ChunkHead{.total = 6}, "abc", false));
  wire.send(frame(FrameType::ping)).expect(FrameType::pong);
  wire.send(frame(FrameType::feedback, encode(fs::Feedback{"log", "half"})));
  wire.send(chunk(FrameType::reply, fs::ChunkHead{.index = 1}, "def", true));
  CHECK(*result_of(wire) == ReplyDisposition::uncorrelated);
}

TEST_CASE("stream server: E6 a task that the node cannot take ends, and the poll says so") {
  Served served;
  auto wire = served.connect();
  fs::Hello small;
  small.node_id = "n1";
  small.limits.max_message = 10;
  wire.send(frame(FrameType::hello, encode(small))).expect(FrameType::welcome);
  wire.send(frame(FrameType::poll));
  auto asked =
      served.loop.spawn(served.store.get("n1")->request(task("r1", "more than ten bytes")));
  CHECK(end_of_poll(wire) == errc::not_encodable);
  CHECK(asked.value().error() == errc::not_encodable);
  REQUIRE(served.store.try_send("n1", std::make_shared<const Message>(task("r2", "few"))));
  wire.send(frame(FrameType::poll)).expect(FrameType::task);
}

TEST_CASE("stream server: the poll's time is bounded, and the node polls again") {
  Served served({}, {.agent = {.poll_jitter = 0.0}});
  auto wire = served.meet("n1");
  wire.send(frame(FrameType::poll));
  for (int i = 0; i < 5; ++i) {
    served.loop.advance(10s);
    if (i < 4) {
      wire.send(frame(FrameType::ping)).expect(FrameType::pong);
    }
  }
  CHECK(end_of_poll(wire) == errc::poll_ended);
  wire.send(frame(FrameType::poll));
  CHECK(wire.quiet());
  CHECK(served.store.get("n1")->open_polls() == 1);
}

TEST_CASE("stream server: what comes together is answered in order, whatever takes its time") {
  Store* store = nullptr;
  Served served(
      {}, {}, [&store](const fedagent::MessagePtr<Message>&) { return when_a_node_polls(store); });
  store = &served.store;
  auto wire = served.meet("n1");
  auto overlay = without_id("psst");
  overlay.destination = "n2";
  wire.send(frame(FrameType::ping) + whole(FrameType::overlay, overlay) + frame(FrameType::ping) +
            whole(FrameType::reply, task("no such request")) + frame(FrameType::poll));
  wire.expect(FrameType::pong);  // it does not wait for the forwarder
  CHECK(wire.quiet());
  auto other = served.meet("n3");  // what it sends is read to where the rest was read to
  other.send(frame(FrameType::ping) + frame(FrameType::poll)).expect(FrameType::pong);
  CHECK(*result_of(wire) == ReplyDisposition::forwarded);
  wire.expect(FrameType::pong);
  CHECK(*result_of(wire) == ReplyDisposition::unexpected);
  CHECK(served.store.get("n1")->open_polls() == 1);
  CHECK(served.faults.empty());
}

TEST_CASE(
    "stream server: E20 an overlay message is relayed, and its sender is told when it is not") {
  Served served;
  auto from = served.meet("n1");
  auto to = served.meet("n2");
  to.send(frame(FrameType::poll));
  auto overlay = without_id("psst");
  overlay.destination = "n2";
  from.send(whole(FrameType::overlay, overlay));
  CHECK(*result_of(from) == ReplyDisposition::forwarded);
  CHECK(to.expect(FrameType::task).payload.substr(fs::ChunkHead::encoded_size) == "n2n1psst");
  overlay.destination = "nobody";
  from.send(whole(FrameType::overlay, overlay));
  CHECK(result_of(from).error() == errc::unknown_node);
}

TEST_CASE("stream server: E20 the source is told what became of a message that it had relayed") {
  Served served;
  auto from = served.meet("n1");
  auto to = served.meet("n2");
  auto overlay = task("its own id", "psst");
  overlay.destination = "n2";
  const auto receipt_of = [](Wire& wire) {
    const auto receipt = fs::decode_receipt(wire.expect(FrameType::receipt).payload);
    REQUIRE(receipt);
    CHECK(receipt->request_id == "its own id");
    return receipt->result;
  };

  from.send(whole(FrameType::overlay, overlay));
  CHECK(*result_of(from) == ReplyDisposition::forwarded);
  to.send(frame(FrameType::poll));
  to.expect(FrameType::task);
  CHECK(from.quiet());
  to.send(frame(FrameType::poll));
  CHECK(receipt_of(from));

  // The source is told where it is by then.
  from.send(whole(FrameType::overlay, overlay));
  to.expect(FrameType::task);
  CHECK(*result_of(from) == ReplyDisposition::forwarded);
  auto again = served.meet("n1", 2);
  served.store.erase("n2");
  CHECK(receipt_of(again).error() == errc::removed);

  // One that is gone is told nothing, and one that gave no id asked for nothing.
  served.store.retrieve("n2").value().set_active();
  again.send(whole(FrameType::overlay, overlay));
  CHECK(*result_of(again) == ReplyDisposition::forwarded);
  overlay.request_id.clear();
  again.send(whole(FrameType::overlay, overlay));
  CHECK(*result_of(again) == ReplyDisposition::forwarded);
  served.store.erase("n2");
  CHECK(receipt_of(again).error() == errc::removed);
  CHECK(again.quiet());

  served.store.retrieve("n2").value().set_active();
  overlay.request_id = "its own id";
  again.send(whole(FrameType::overlay, overlay));
  CHECK(*result_of(again) == ReplyDisposition::forwarded);
  again.close();
  served.loop.drain();
  served.store.erase("n2");
  served.loop.drain();
}

TEST_CASE("stream server: D7 a reply that comes twice is a duplicate, and told so") {
  Served served;
  auto wire = served.meet("n1");
  wire.send(frame(FrameType::poll));
  REQUIRE(served.store.try_send("n1", std::make_shared<const Message>(task("r1"))));
  wire.expect(FrameType::task);
  wire.send(whole(FrameType::reply, task("r1", "a")) + whole(FrameType::reply, task("r1", "a")));
  CHECK(*result_of(wire) == ReplyDisposition::delivered);
  CHECK(*result_of(wire) == ReplyDisposition::duplicate);
}

TEST_CASE("stream server: what half-received messages take together is limited") {
  fs::ServerOptions options;
  options.max_incoming_bytes = 2 * fs::Joiner::least_room - 1;
  Served served(options);
  auto first = served.meet("n1");
  auto second = served.meet("n2");
  const auto begun =
      chunk(FrameType::reply, fs::ChunkHead{.total = 8 * fs::Joiner::least_room}, "abc", false);
  first.send(begun);
  CHECK(served.server.counters().incoming_bytes == fs::Joiner::least_room);
  second.send(begun);
  CHECK(second.told() == fs::errc::too_much_incoming);
  first.close();
  CHECK(served.server.counters().incoming_bytes == 0);
}

TEST_CASE("stream server: one connection too many is told so, and the others stay") {
  fs::ServerOptions options;
  options.max_connections = 2;
  Served served(options);
  auto first = served.meet("n1");
  auto second = served.meet("n2");
  auto third = served.connect();
  CHECK(third.told() == fs::errc::too_many_connections);
  third.close();
  first.close();
  auto fourth = served.meet("n4");
  CHECK(second.send(frame(FrameType::ping)).expect(FrameType::pong).payload.empty());
}

namespace {

struct Badge {
  std::string allowed;
  Socket wrap(Socket socket) const { return socket; }
  bool authenticate(Socket& /*stream*/, std::string_view node_id) const {
    return node_id == allowed;
  }
};

struct Handshake {
  boost::system::error_code error;
  Socket wrap(Socket socket) const { return socket; }
  test::awaitable<boost::system::error_code> handshake(Socket& stream) const {
    return read_one(stream, error);
  }
  static test::awaitable<boost::system::error_code> read_one(Socket& stream,
                                                             boost::system::error_code then) {
    char byte = 0;
    const auto [failed, size] = co_await stream.async_read_some(
        boost::asio::buffer(&byte, 1), boost::asio::as_tuple(boost::asio::deferred));
    co_return failed ? failed : then;
  }
};

}  // namespace

TEST_CASE("stream server: H19 the layer binds who the peer is to the node id") {
  Served served;
  auto good = served.connect(Badge{"n1"});
  good.send(hello("n1")).expect(FrameType::welcome);
  auto bad = served.connect(Badge{"n1"});
  bad.send(hello("n2"));
  CHECK(bad.told() == fs::errc::not_authenticated);
  CHECK(served.store.size() == 1);
}

TEST_CASE("stream server: a handshake comes before the hello, within the same time") {
  Served served;
  auto good = served.connect(Handshake{});
  good.send("!");
  good.send(hello("n1")).expect(FrameType::welcome);
  auto refused = served.connect(Handshake{boost::asio::error::no_permission});
  refused.send("!");
  CHECK(refused.ended());
  auto slow = served.connect(Handshake{});
  served.loop.advance(5s);
  CHECK(slow.told() == fs::errc::hello_timeout);
}

TEST_CASE("stream server: H32 a stop ends polls and connections, and can be waited for") {
  Served served;
  auto wire = served.meet("n1");
  wire.send(frame(FrameType::poll));
  auto busy = served.meet("n2");
  busy.send(frame(FrameType::poll));
  REQUIRE(served.store.try_send(
      "n2", std::make_shared<const Message>(task("r1", std::string(8U << 20U, 'm')))));
  served.loop.drain();
  bool ended = false;
  boost::asio::co_spawn(served.loop.io, served.server.wait_stopped(),
                        [&](std::exception_ptr) { ended = true; });
  served.loop.drain();
  CHECK_FALSE(ended);
  served.server.stop();
  CHECK(wire.told() == errc::stopped);
  CHECK(wire.ended());
  wire.close();
  CHECK_FALSE(ended);
  served.loop.advance(1s);  // the other one does not read, and is closed
  CHECK(ended);
  CHECK(served.store.counters().queued == 1);
  CHECK(served.store.counters().balanced());
  CHECK(served.faults.empty());
  auto late = served.connect();
  CHECK(late.told() == errc::stopped);
}

TEST_CASE(
    "stream server: a handler may stop it while a poll opens or looks, and none is left open") {
  Served served({}, {.agent = {.max_age = 10s, .max_retries = 0}});
  const auto stop = [&](const fedagent::Outcome<Message>&) { served.server.stop(); };
  auto wire = served.meet("n1");
  wire.send(frame(FrameType::poll));
  const auto agent = *served.store.get("n1");
  SUBCASE("opens: the task of the former session has had its attempts") {
    REQUIRE(agent.try_send(task("r1"), stop));
    wire.expect(FrameType::task);
    wire.close();
    wire = served.meet("n1", 2);
    wire.send(frame(FrameType::poll));
  }
  SUBCASE("looks: the task that it was called for is too old, and the timer late") {
    served.loop.in_one_turn([&] {
      REQUIRE(agent.try_send(task("r1"), stop));
      test::ManualClock::advance(10s);
    });
  }
  CHECK(wire.told() == errc::stopped);
  CHECK(agent.open_polls() == 0);
  REQUIRE(agent.try_send(task("r2")));
  CHECK(served.loop.run(agent.get_task())->message()->request_id == "r2");
  CHECK(served.store.counters().redelivered == 0);
}

TEST_CASE("stream server: it may be destroyed before its connections, and the store after it") {
  test::Loop loop;
  auto store = std::make_unique<Store>(loop.executor());
  auto server = std::make_unique<Server>(*store);
  std::pair<Socket, Socket> ends{Socket(loop.executor()), Socket(loop.executor())};
  boost::asio::local::connect_pair(ends.first, ends.second);
  boost::asio::co_spawn(loop.io, server->serve(std::move(ends.second)), boost::asio::detached);
  Wire wire(loop, std::move(ends.first));
  wire.send(hello("n1")).expect(FrameType::welcome);
  wire.send(frame(FrameType::poll));
  server.reset();
  store.reset();
  CHECK(wire.told() == errc::stopped);
  wire.send(frame(FrameType::ping) + whole(FrameType::reply, task("r1")));
  CHECK(wire.ended());
}

TEST_CASE("stream server: E22 E23 listen returns when it listens, or says why it cannot") {
  test::Loop loop;
  Store store(loop.executor());
  Server server(store);
  using Tcp = boost::asio::ip::tcp;
  const Tcp::endpoint any_port(boost::asio::ip::make_address("127.0.0.1"), 0);
  const auto bound = server.listen(any_port);
  REQUIRE(bound);
  CHECK(bound->port() != 0);
  boost::asio::basic_stream_socket<Tcp, test::Executor> client(loop.executor());
  client.connect(*bound);  // before the loop has run at all
  loop.drain();
  CHECK(server.counters().open == 1);
  const auto taken = server.listen(*bound);
  REQUIRE_FALSE(taken);
  CHECK(taken.error().message() == "Address already in use");
  server.stop();
  loop.advance(1s);
  CHECK(server.counters().open == 0);
  CHECK(server.listen(any_port).error() == errc::stopped);
}

TEST_CASE("stream server: accepting goes on after too many open files") {
  test::Loop loop;
  Store store(loop.executor());
  Server server(store);
  using Tcp = boost::asio::ip::tcp;
  const auto bound = server.listen(Tcp::endpoint(boost::asio::ip::make_address("127.0.0.1"), 0));
  REQUIRE(bound);
  boost::asio::basic_stream_socket<Tcp, test::Executor> client(loop.executor());
  client.open(Tcp::v4());
  loop.drain();
  rlimit before{};
  ::getrlimit(RLIMIT_NOFILE, &before);
  const int first_free = ::dup(0);
  ::close(first_free);
  rlimit none = before;
  none.rlim_cur = static_cast<rlim_t>(first_free);
  ::setrlimit(RLIMIT_NOFILE, &none);
  client.connect(*bound);
  loop.drain();
  ::setrlimit(RLIMIT_NOFILE, &before);
  CHECK(server.counters().accept_errors == 1);
  CHECK(server.counters().open == 0);
  loop.advance(100ms);
  CHECK(server.counters().open == 1);
}

TEST_CASE("stream server: options out of range are named") {
  test::Loop loop;
  Store store(loop.executor());
  const auto refusal = [&](auto change) -> std::string {
    fs::ServerOptions options;
    change(options);
    try {
      Server server(store, options);
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "";
  };
  CHECK(refusal([](auto& o) { o.ping_interval = 8s; }) ==
        "fedagent: ping_interval must be at most half of peer_timeout");
  CHECK(refusal([](auto& o) { o.max_connections = 0; }) ==
        "fedagent: max_connections must be at least 1");
  CHECK(refusal([](auto& o) { o.connection.limits.max_frame = 100; }) ==
        "fedagent: max_frame must be from 4 KiB to 64 MiB");
  CHECK(refusal([](auto& o) { o.connection.hello_timeout = 0s; }) ==
        "fedagent: hello_timeout must be above zero and at most a day");
}
