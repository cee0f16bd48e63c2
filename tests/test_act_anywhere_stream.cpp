// The stream server in a story in which every call of code of the user, one after the other, does
// something: stops the server, destroys it, stops the store, sends, lets a node connect anew …

#include <doctest/doctest.h>

#include <boost/asio/post.hpp>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fedagent/poll.hpp"
#include "support/faulty_stream.hpp"
#include "support/stream.hpp"
#include "support/user_code.hpp"

namespace {

using namespace test::stream;
using namespace std::chrono_literals;
using fs::FrameType;
using test::act_in_every_call;
using test::acting_forwarder;
using test::acting_options;
using test::awaitable;
using test::check_no_poll;
using test::check_out_of_work;
using test::Deed;
using test::Effect;
using test::Loop;
using test::ManualClock;
using test::Place;
using test::stop_and_check;
using test::UserCode;

using Observer = test::ActingObserver<Message>;
using ActingStore = fedagent::AgentStore<Transport, Message, Observer>;
using ActingServer = fs::Server<ActingStore>;
using Poll = fedagent::Poll<Transport, Message, Observer>;

/// What the server stands on.
struct Manner {
  /// Else streams that can only be read and written, as those of TLS.
  bool sockets = true;
  /// By the user; else by the store.
  bool forwards = false;
  fedagent::PollPolicy polls = fedagent::PollPolicy::newest_wins;
};

/// A layer that asks the user who may come in.
struct Asking {
  template <class Stream>
  awaitable<boost::system::error_code> handshake(Stream&) {
    return shake_hands(code);
  }
  template <class Stream>
  bool authenticate(const Stream&, std::string_view) const {
    code->called(Place::admission);
    return true;
  }
  static awaitable<boost::system::error_code> shake_hands(UserCode* code) {
    code->called(Place::handler);
    co_return boost::system::error_code();
  }

  UserCode* code;
};

class Scene {
 public:
  static constexpr std::size_t least_calls = 12;

  Scene(const Deed<Scene>& deed, std::size_t n, const Manner& manner)
      : code(deed.effect, n, [this, act = deed.act] { act(*this); }), manner_(manner) {
    auto options = acting_options(code);
    options.agent.polls = manner.polls;
    ActingStore::forwarder_type forwarder;
    if (manner.forwards) {
      forwarder = acting_forwarder(code);
    }
    store_.emplace(loop_.executor(), options, Observer{&code, &tally_}, std::move(forwarder));
    fs::ServerOptions server_options;
    server_options.on_connection_error = [this](std::string_view, boost::system::error_code) {
      code.called(Place::connection_error);
    };
    server_.emplace(*store_, server_options);
  }
  Scene(const Scene&) = delete;
  Scene& operator=(const Scene&) = delete;
  ~Scene() = default;

  void play() {
    for (const auto& act : acts()) {
      act();
      if (stopped_) {
        check_no_poll(store_);
      }
    }
    ManualClock::advance(40s);
    loop_.drain();
    ManualClock::advance(40s);
    loop_.drain();
    code.over();
    end();
  }

  // ---- deeds

  void stop_server() {
    stopped_ = true;
    if (server_) {
      server_->stop();
    }
  }
  void destroy_server() {
    stopped_ = true;
    server_.reset();
  }
  void stop_store() { test::stop_store(store_); }
  void destroy_store() {
    destroy_server();
    store_.reset();
  }
  void erase() { test::erase_agents(store_, {"n1", "n2"}); }
  void send_more() {
    for (const auto* const node : {"n1", "n2"}) {
      send(node, "more");
      send(node, "more of it", pattern_);
    }
  }
  void poll_more() { test::open_polls(store_, {"n1", "n2"}, polls_); }
  void end_polls() { polls_.clear(); }
  /// Both nodes connect anew, and poll.
  void connect_more() {
    for (const auto* const node : {"n1", "n2"}) {
      connect(hello(node, 9) + frame(FrameType::poll));
    }
  }

 private:
  std::vector<std::function<void()>> acts() {
    return {
        [this] { connect(hello("n1")); },
        [this] { connect(hello("n2")); },
        [this] { write(0, frame(FrameType::poll)); },
        [this] { write(1, frame(FrameType::ping) + frame(FrameType::poll)); },
        [this] {
          send("n1", "1");
          send("n1", "2", pattern_);
          send("n2", "1");
        },
        [this] { write(0, whole(FrameType::reply, task("1"))); },
        // A task that is written in its time; the node polls again before it has read the end of
        // it.
        [this] { write(0, frame(FrameType::poll)); },
        [this] { write(0, frame(FrameType::poll)); },
        [this] { CHECK((!wires_[0].quiet() || code.reached())); },  // reads
        [this] { write(0, frame(FrameType::poll)); },               // a fault
        // Anew, while the poll of the connection before is open.
        [this] { connect(hello("n1", 2) + frame(FrameType::poll)); },
        [this] { connect(hello("n1", 3) + frame(FrameType::poll)); },
        [this] { connect(hello("n1", 3, 0)); },  // a stale one
        [this] { write(3, chunk_of("2", 0)); },
        [this] { write(3, chunk_of("2", 1) + frame(FrameType::ping)); },
        [this] {
          Message share = task("of n2", "share");
          share.destination = "n1";
          write(1, whole(FrameType::overlay, share));
          share.destination = "nobody";
          write(1, whole(FrameType::overlay, share));
        },
        [this] { write(3, frame(FrameType::poll)); },  // which confirms
        [this] { write(1, feedback()); },
        // The agent goes while its node polls; it polls again.
        [this] {
          if (store_) {
            store_->erase("n1");
            loop_.drain();
          }
        },
        [this] { write(3, frame(FrameType::poll)); },
        [this] {
          send("n1", "3");
          send("n2", "3");
        },
        [this] { write(3, frame(FrameType::poll)); },
        // Faults of peers.
        [this] {
          Message foreign = task("1");
          foreign.source = "n1";
          write(1, whole(FrameType::reply, foreign));
        },
        [this] { connect(hello("n3") + frame(FrameType::poll)); },
        [this] { close(5); },
        [this] { connect({}); },  // which says nothing
        [this] { connect(frame(FrameType::ping)); },
        [this] { connect(hello("n2", 2) + frame(FrameType::poll)); },
        [this] { loop_.advance(6s); },
        [this] { write(3, frame(FrameType::poll) + frame(FrameType::welcome)); },
    };
  }

  static std::string feedback() {
    return frame(FrameType::feedback, encode(fs::Feedback{"log", "x"}));
  }
  // One of two chunks of a reply.
  static std::string chunk_of(const std::string& id, std::uint32_t index) {
    fs::ChunkHead head{.index = index, .total = 10};
    head.request_id = static_cast<std::uint16_t>(index == 0 ? id.size() : 0);
    return chunk(FrameType::reply, head, (index == 0 ? id : "") + "12345", index == 1);
  }

  void connect(const std::string& bytes) {
    auto [ours, theirs] = connected_pair(loop_);
    theirs.set_option(boost::asio::socket_base::send_buffer_size(4096));
    if (!bytes.empty()) {
      ours.write_some(boost::asio::buffer(bytes));
    }
    wires_.emplace_back(loop_, std::move(ours));
    if (!server_) {
      return;
    }
    if (manner_.sockets) {
      serve(std::move(theirs));
    } else {
      serve(FaultyStream(std::move(theirs), std::make_shared<FaultPlan>()));
    }
    if (!code.acts()) {
      loop_.drain();
    }
  }
  template <class Stream>
  void serve(Stream stream) {
    boost::asio::co_spawn(loop_.io, server_->serve(std::move(stream), Asking{&code}),
                          boost::asio::detached);
  }
  void write(std::size_t wire, const std::string& bytes) { wires_[wire].send(bytes); }
  void close(std::size_t wire) { wires_[wire].close(); }
  void send(const std::string& node, const std::string& id, std::string body = "work") {
    if (store_) {
      if (const auto agent = store_->get(node)) {
        requests_.send(*agent, task(id, std::move(body)));
      }
    }
  }

  void end() {
    polls_.clear();
    stop_server();
    wires_.clear();
    if (server_) {
      boost::asio::co_spawn(loop_.io, server_->wait_stopped(), boost::asio::detached);
    }
    loop_.drain();
    if (server_) {
      CHECK(server_->counters().open == 0);
      CHECK(server_->counters().incoming_bytes == 0);
    }
    check_no_poll(store_);
    stop_and_check(store_);
    check_out_of_work(loop_);
    requests_.check_ended();
    CHECK(tally_.balanced());
    destroy_store();
    CHECK(requests_.alive() == 0);
  }

  Loop loop_;

 public:
  UserCode code;

 private:
  Manner manner_;
  test::Tally tally_;
  test::Requests<Message> requests_{code};
  const std::string pattern_ = std::string(40'000, 'm');
  std::deque<Wire> wires_{};
  std::deque<Poll> polls_{};
  std::optional<ActingStore> store_{};
  std::optional<ActingServer> server_{};
  bool stopped_ = false;
};

constexpr Deed<Scene> deeds[] = {
    {"stop the server", Effect::none, [](Scene& scene) { scene.stop_server(); }},
    {"destroy the server", Effect::none, [](Scene& scene) { scene.destroy_server(); }},
    {"stop the store", Effect::ends_agents, [](Scene& scene) { scene.stop_store(); }},
    {"destroy the store", Effect::destroys_the_store, [](Scene& scene) { scene.destroy_store(); }},
    {"throw", Effect::throws, [](Scene&) { throw test::Thrown("by code of the user"); }},
    {"erase the agents", Effect::ends_agents, [](Scene& scene) { scene.erase(); }},
    {"send", Effect::calls_the_store, [](Scene& scene) { scene.send_more(); }},
    {"poll", Effect::calls_the_store, [](Scene& scene) { scene.poll_more(); }},
    {"connect", Effect::calls_the_store, [](Scene& scene) { scene.connect_more(); }},
    {"take long", Effect::calls_the_store, [](Scene&) { ManualClock::advance(61s); }},
};

}  // namespace

TEST_CASE("act anywhere: code of the user may do anything while the server serves sockets") {
  for (const auto& deed : deeds) {
    act_in_every_call(deed, Manner{});
  }
}

TEST_CASE("act anywhere: code of the user may do anything while the server serves other streams") {
  for (const auto& deed : deeds) {
    act_in_every_call(
        deed,
        Manner{.sockets = false, .forwards = true, .polls = fedagent::PollPolicy::oldest_first});
  }
}
