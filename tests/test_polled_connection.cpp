// transport/stream/polled_connection.hpp: a socket that takes only a part of a task, and
// connections that end in each phase of a poll.
#include <doctest/doctest.h>
#include <algorithm>
#include <boost/asio/append.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/socket_base.hpp>
#include <boost/system/error_code.hpp>
#include <chrono>
#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fedagent/explain.hpp"
#include "support/stream.hpp"

// What a socket can do at once, these can.
namespace {
class Generous;
class Broken;
}  // namespace
template <>
inline constexpr bool fedagent::stream::detail::is_socket<Generous> = true;
template <>
inline constexpr bool fedagent::stream::detail::is_socket<Broken> = true;

using namespace test::stream;
using fedagent::TaskStage;
using fs::FrameType;
using test::errc;
using test::NodeActiveStatus;
using test::ReplyDisposition;
using namespace std::chrono_literals;

namespace {

// What no mistake in the order of bytes leaves as it is.
std::string pattern(std::size_t size) {
  std::string bytes;
  for (std::size_t i = 0; bytes.size() < size; ++i) {
    bytes += std::to_string(i) + ' ';
  }
  bytes.resize(size);
  return bytes;
}

/// A server whose sockets take little at a time.
struct Narrow {
  explicit Narrow(fedagent::StoreOptions options = {}) : served({}, std::move(options)) {}

  Wire meet(std::uint64_t instance = 1) {
    auto [ours, theirs] = served.pair();
    theirs.set_option(boost::asio::socket_base::send_buffer_size(4096));
    served.serve(std::move(theirs));
    Wire wire(served.loop, std::move(ours));
    wire.send(hello("n1", instance)).expect(FrameType::welcome);
    return wire;
  }
  /// A node to which the task "r1" is being written.
  Wire meet_with_task(const std::string& body) {
    auto wire = meet();
    wire.send(frame(FrameType::poll));
    REQUIRE(agent().try_send(task("r1", body)));
    served.loop.drain();
    return wire;
  }
  Store::agent_type agent() { return *served.store.get("n1"); }
  TaskStage stage() {
    const auto report = fedagent::explain(served.store, "n1");
    REQUIRE(report.tasks.size() == 1);
    return report.tasks.front().stage;
  }
  fedagent::Counters counters() { return served.store.counters(); }

  Served served;
};

// One that is tried at once, and of which a part is taken; one that is left to a coroutine at once.
constexpr std::size_t sizes[] = {12000, 40000};

/// A socket that takes all that is written to it, and notes how.
class Generous : public Socket {
 public:
  struct Notes {
    std::size_t all = 0;
    std::size_t run = 0;
    std::size_t longest_run = 0;
    std::size_t turns = 0;
  };

  Generous(Socket socket, Notes& notes) : Socket(std::move(socket)), notes_(&notes) {}

  template <class Buffers>
  std::size_t write_some(const Buffers& buffers, boost::system::error_code& error) {
    error.clear();
    const auto size = boost::asio::buffer_size(buffers);
    notes_->all += size;
    notes_->run += size;
    notes_->longest_run = std::max(notes_->longest_run, notes_->run);
    return size;
  }
  template <class Buffers, class Token>
  auto async_write_some(const Buffers& buffers, Token&& token) {
    const auto size = boost::asio::buffer_size(buffers);
    notes_->all += size;
    notes_->run = 0;
    ++notes_->turns;
    return boost::asio::post(
        get_executor(),
        boost::asio::append(std::forward<Token>(token), boost::system::error_code(), size));
  }

 private:
  Notes* notes_;
};

/// A socket that says why it broke once, as the kernel does, and then only that it is broken.
class Broken : public Socket {
 public:
  explicit Broken(Socket socket) : Socket(std::move(socket)) {}

  template <class Buffers>
  std::size_t write_some(const Buffers& /*buffers*/, boost::system::error_code& error) {
    error = std::exchange(told_, true) ? boost::asio::error::broken_pipe
                                       : boost::asio::error::connection_reset;
    return 0;
  }
  template <class Buffers, class Token>
  auto async_write_some(const Buffers& /*buffers*/, Token&& token) {
    return boost::asio::post(
        get_executor(),
        boost::asio::append(std::forward<Token>(token),
                            make_error_code(boost::asio::error::broken_pipe), std::size_t{0}));
  }

 private:
  bool told_ = false;
};

std::string body_of(const Frame& frame) {
  return frame.payload.substr(fs::ChunkHead::encoded_size + 2);
}

}  // namespace

TEST_CASE(
    "stream server: a task of which the socket takes a part is written on, and nothing mixes with "
    "it") {
  for (const auto size : sizes) {
    CAPTURE(size);
    Narrow narrow;
    const auto body = pattern(size);
    auto wire = narrow.meet_with_task(body);
    CHECK(narrow.stage() == TaskStage::leased);  // it is not all with the socket yet
    CHECK(narrow.agent().open_polls() == 1);
    wire.send(frame(FrameType::ping) + whole(FrameType::reply, task("no such request")) +
              frame(FrameType::ping));
    CHECK(narrow.stage() == TaskStage::leased);
    const auto got = wire.expect(FrameType::task);
    CHECK(got.last);
    CHECK(body_of(got) == body);
    wire.expect(FrameType::pong);
    wire.expect(FrameType::reply_result);
    wire.expect(FrameType::pong);
    CHECK(wire.quiet());
    CHECK(narrow.stage() == TaskStage::delivered);
    CHECK(narrow.agent().open_polls() == 0);
    CHECK(narrow.served.faults.empty());
  }
}

TEST_CASE(
    "stream server: answers that the socket had not taken yet come before the task, in their "
    "order") {
  Narrow narrow;
  auto wire = narrow.meet();
  wire.send(frame(FrameType::poll));
  std::string pings;
  for (int i = 0; i < 1500; ++i) {
    pings += frame(FrameType::ping);
  }
  wire.send(pings);
  const auto body = pattern(3000);
  REQUIRE(narrow.agent().try_send(task("r1", body)));
  narrow.served.loop.drain();
  CHECK(narrow.stage() == TaskStage::leased);
  for (int i = 0; i < 1500; ++i) {
    wire.expect(FrameType::pong);
  }
  CHECK(body_of(wire.expect(FrameType::task)) == body);
  CHECK(narrow.stage() == TaskStage::delivered);
}

TEST_CASE("stream server: answers that go out with a task go out once") {
  Served served;
  auto wire = served.meet("n1");
  REQUIRE(served.store.try_send("n1", task("r1")));
  wire.send(frame(FrameType::ping) + frame(FrameType::poll) + frame(FrameType::ping));
  wire.expect(FrameType::pong);
  wire.expect(FrameType::task);
  wire.expect(FrameType::pong);
  CHECK(wire.quiet());
}

TEST_CASE(
    "stream server: the chunks of a task go out together, and after a MiB others have turns") {
  constexpr std::size_t chunk = 256U << 10U;
  constexpr std::size_t most = 1U << 20U;
  Generous::Notes notes;
  Served served;
  auto [ours, theirs] = served.pair();
  served.serve(Generous(std::move(theirs), notes));
  Wire wire(served.loop, std::move(ours));
  wire.send(hello("n1") + frame(FrameType::poll));
  REQUIRE(served.store.try_send("n1", task("r1", std::string(8 * most, 'x'))));
  served.loop.drain();
  CHECK(notes.all > 8 * most);
  CHECK(notes.longest_run >= most);
  CHECK(notes.longest_run < most + chunk);
  CHECK(notes.turns >= 6);
  CHECK(notes.turns <= 8);
}

TEST_CASE(
    "stream server: a connection that breaks under a write ends with what the socket said first") {
  Served served;
  auto [ours, theirs] = served.pair();
  served.serve(Broken(std::move(theirs)));
  Wire wire(served.loop, std::move(ours));
  wire.send(hello("n1"));
  REQUIRE(served.faults.size() == 1);
  CHECK(served.faults.front().error == boost::asio::error::connection_reset);
}

TEST_CASE("stream server: the node may poll again before it has read the end of a task, once") {
  for (const auto size : sizes) {
    CAPTURE(size);
    Narrow narrow;
    auto wire = narrow.meet();
    wire.send(frame(FrameType::poll));
    const auto body = pattern(size);
    REQUIRE(narrow.agent().try_send(task("r1", body)));
    REQUIRE(narrow.agent().try_send(task("r2", body)));
    narrow.served.loop.drain();
    wire.send(frame(FrameType::poll));
    CHECK(narrow.counters().leased == 1);
    CHECK(body_of(wire.expect(FrameType::task)) == body);
    CHECK(body_of(wire.expect(FrameType::task)) == body);
    CHECK(narrow.counters().confirmed == 1);
    CHECK(narrow.agent().open_polls() == 0);
    CHECK(narrow.counters().leased == 1);
  }
}

TEST_CASE(
    "stream server: a node that polls twice before it has read the end of a task is told so") {
  for (const auto size : sizes) {
    CAPTURE(size);
    Narrow narrow;
    const auto body = pattern(size);
    auto wire = narrow.meet_with_task(body);
    wire.send(frame(FrameType::poll) + frame(FrameType::poll));
    CHECK(body_of(wire.expect(FrameType::task)) == body);
    CHECK(wire.told() == fs::errc::poll_already_open);
    CHECK(narrow.agent().open_polls() == 0);
    CHECK(narrow.stage() == TaskStage::queued);
  }
}

TEST_CASE("stream server: a connection that ends in the middle of a task loses nothing") {
  enum class End { leaves, leaves_after_another_poll, does_not_read };
  for (const auto size : sizes) {
    for (const auto end : {End::leaves, End::leaves_after_another_poll, End::does_not_read}) {
      CAPTURE(size);
      CAPTURE(static_cast<int>(end));
      Narrow narrow({.agent = {.max_retries = 1}});
      const auto body = pattern(size);
      auto wire = narrow.meet_with_task(body);
      REQUIRE(narrow.stage() == TaskStage::leased);
      if (end == End::does_not_read) {
        for (int i = 0; i < 10; ++i) {
          narrow.served.loop.advance(1s);
          wire.send(frame(FrameType::ping));
        }
        REQUIRE(narrow.served.faults.size() == 1);
        CHECK(narrow.served.faults[0] == Fault{"n1", fs::errc::write_timeout});
      } else {
        wire.send(end == End::leaves ? "" : frame(FrameType::poll));
        wire.close();
      }
      CHECK(narrow.served.server.counters().open == 0);
      CHECK(narrow.agent().open_polls() == 0);
      CHECK(narrow.stage() == TaskStage::queued);
      CHECK(narrow.counters().redelivered == 1);
      auto again = narrow.meet(2);
      again.send(frame(FrameType::poll));
      CHECK(body_of(again.expect(FrameType::task)) == body);
    }
  }
}

TEST_CASE(
    "stream server: a node that connects anew gets the task that its frozen client half has") {
  for (const auto size : sizes) {
    CAPTURE(size);
    Narrow narrow;
    const auto body = pattern(size);
    auto frozen = narrow.meet_with_task(body);
    auto again = narrow.meet(2);
    again.send(frame(FrameType::poll));
    CHECK(body_of(again.expect(FrameType::task)) == body);
    narrow.served.loop.advance(1s);
    CHECK(narrow.counters().redelivered == 1);
    CHECK(narrow.stage() == TaskStage::delivered);
    CHECK(narrow.agent().open_polls() == 0);
  }
}

TEST_CASE(
    "stream server: a server that stops in the middle of a task ends its frame, and then says so") {
  for (const auto size : sizes) {
    CAPTURE(size);
    Narrow narrow;
    const auto body = pattern(size);
    auto wire = narrow.meet_with_task(body);
    narrow.served.server.stop();
    CHECK(body_of(wire.expect(FrameType::task)) == body);
    CHECK(wire.told() == errc::stopped);
    CHECK(wire.ended());
    wire.close();
    CHECK(narrow.agent().open_polls() == 0);
    CHECK(narrow.stage() == TaskStage::queued);
  }
}

TEST_CASE("stream server: no poll opens when the admission of its node stops the server") {
  Served* running = nullptr;
  int admitted = 0;
  Served served({}, {.admit = [&](std::string_view) {
                  if (++admitted == 2) {
                    running->server.stop();
                  }
                  return true;
                }});
  running = &served;
  auto wire = served.meet("n1");
  REQUIRE(served.store.erase("n1"));  // so that the poll makes its agent anew
  wire.send(frame(FrameType::poll));
  REQUIRE(admitted == 2);
  REQUIRE(served.store.get("n1"));
  CHECK(served.store.get("n1")->open_polls() == 0);
  CHECK(wire.told() == errc::stopped);
}

TEST_CASE("stream server: an admission that stops it at the hello leaves no connection welcomed") {
  Served* running = nullptr;
  Served served({}, {.admit = [&](std::string_view) {
                  running->server.stop();
                  return true;
                }});
  running = &served;
  auto wire = served.connect();
  wire.send(hello("n1"));
  CHECK(wire.told() == errc::stopped);
  CHECK(served.server.counters().welcomed == 0);
}

namespace {

struct OnStatus {
  std::function<void(NodeActiveStatus to)>* act;
  void on_status(std::string_view, NodeActiveStatus, NodeActiveStatus to) const { (*act)(to); }
};

}  // namespace

TEST_CASE("stream server: an observer may stop it when a new connection ends an older one's poll") {
  using Watched = fedagent::AgentStore<Transport, Message, OnStatus>;
  test::Loop loop;
  std::function<void(NodeActiveStatus)> act = [](NodeActiveStatus) {};
  Watched store(loop.executor(), {}, OnStatus{&act});
  fs::Server<Watched> server(store);
  const auto connect = [&] {
    auto [ours, theirs] = connected_pair(loop);
    boost::asio::co_spawn(loop.io, server.serve(std::move(theirs)), boost::asio::detached);
    return Wire(loop, std::move(ours));
  };
  auto old = connect();
  old.send(hello("n1", 1)).expect(FrameType::welcome);
  old.send(frame(FrameType::poll));
  REQUIRE(store.get("n1")->status() == NodeActiveStatus::active);
  act = [&](NodeActiveStatus to) {
    if (to == NodeActiveStatus::waiting) {
      server.stop();
    }
  };
  auto young = connect();
  young.send(hello("n1", 2));
  CHECK(young.told() == errc::stopped);
  CHECK(old.told() == errc::superseded);
  CHECK(store.get("n1")->open_polls() == 0);
}

TEST_CASE("stream server: a task is written to its end though its agent ends meanwhile") {
  for (const auto size : sizes) {
    for (const bool whole_store : {false, true}) {
      CAPTURE(size);
      CAPTURE(whole_store);
      Narrow narrow;
      const auto body = pattern(size);
      auto wire = narrow.meet_with_task(body);
      if (whole_store) {
        narrow.served.store.stop();
      } else {
        narrow.served.store.erase("n1");
      }
      CHECK(narrow.counters().leased == 0);
      CHECK(body_of(wire.expect(FrameType::task)) == body);
      wire.send(frame(FrameType::ping)).expect(FrameType::pong);
      CHECK(narrow.counters().balanced());
    }
  }
}

namespace {

// What a connection is in the middle of when it ends.
enum class Phase {
  no_poll,
  parked,
  called,
  written_by_a_coroutine,
  written_in_part,
  has_its_task,
  has_its_end,
};

void come_to(Phase phase, Narrow& narrow, Wire& wire) {
  if (phase == Phase::no_poll) {
    return;
  }
  wire.send(frame(FrameType::poll));
  switch (phase) {
    case Phase::called:
      REQUIRE(narrow.agent().try_send(task("r1")));  // it looks at the next turn
      break;
    case Phase::written_by_a_coroutine:
      REQUIRE(narrow.agent().try_send(task("r1", pattern(40000))));
      narrow.served.loop.drain();
      break;
    case Phase::written_in_part:
      REQUIRE(narrow.agent().try_send(task("r1", pattern(12000))));
      narrow.served.loop.drain();
      break;
    case Phase::has_its_task:
      REQUIRE(narrow.agent().try_send(task("r1")));
      wire.expect(FrameType::task);
      break;
    case Phase::has_its_end:
      narrow.served.loop.advance(5s);
      wire.expect(FrameType::poll_end);
      break;
    default:
      break;
  }
}

}  // namespace

TEST_CASE(
    "stream server: in whatever phase a connection ends, no poll is left open, no task lost") {
  enum class End { peer_closes, bad_frame, server_stops };
  using enum Phase;
  for (const auto end : {End::peer_closes, End::bad_frame, End::server_stops}) {
    for (const auto phase : {no_poll, parked, called, written_by_a_coroutine, written_in_part,
                             has_its_task, has_its_end}) {
      CAPTURE(static_cast<int>(end));
      CAPTURE(static_cast<int>(phase));
      Narrow narrow({.agent = {.poll_timeout = 5s, .poll_jitter = 0}});
      auto wire = narrow.meet();
      come_to(phase, narrow, wire);
      if (end == End::peer_closes) {
        wire.close();
      } else if (end == End::bad_frame) {
        wire.send(frame(FrameType::welcome));
      } else {
        narrow.served.server.stop();
      }
      narrow.served.loop.advance(1s);  // `close_timeout`
      CHECK(narrow.agent().open_polls() == 0);
      wire.close();
      CHECK(narrow.served.server.counters().open == 0);
      const auto counters = narrow.counters();
      CHECK(counters.balanced());
      const auto there = phase == no_poll || phase == parked || phase == has_its_end ? 0U : 1U;
      CHECK(counters.queued + counters.leased == there);
    }
  }
}

TEST_CASE(
    "stream server: the loop may end while polls are parked, called, and in the middle of a task") {
  Narrow narrow({.agent = {.polls = fedagent::PollPolicy::oldest_first}});
  auto writing = narrow.meet(1);
  writing.send(frame(FrameType::poll));
  REQUIRE(narrow.agent().try_send(task("r1", pattern(12000))));
  narrow.served.loop.drain();
  auto called = narrow.meet(2);
  called.send(frame(FrameType::poll));
  auto parked = narrow.meet(3);
  parked.send(frame(FrameType::poll));
  CHECK(narrow.agent().open_polls() == 3);
  REQUIRE(narrow.agent().try_send(task("r2")));
}
