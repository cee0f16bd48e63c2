// The stream client in a story in which every call of code of the user, one after the other, does
// something: stops the client, destroys it, cancels it, sends, throws …

#include <doctest/doctest.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "support/stream.hpp"
#include "support/user_code.hpp"

namespace {

using namespace test::stream;
using namespace std::chrono_literals;
using fs::FrameType;
using test::act_in_every_call;
using test::awaitable;
using test::check_out_of_work;
using test::Deed;
using test::Effect;
using test::Loop;
using test::ManualClock;
using test::Place;
using test::ReplyDisposition;
using test::result;
using test::Spawned;
using test::UserCode;

/// Connects to the test.
struct Connector {
  using executor_type = test::Executor;

  executor_type get_executor() const noexcept { return loop->executor(); }
  awaitable<result<Socket>> operator()() const {
    code->called(Place::handler);
    return connect(loop, wires, code);
  }
  static awaitable<result<Socket>> connect(Loop* loop, std::deque<Wire>* wires, UserCode* code) {
    code->called(Place::handler);
    const auto executor = co_await boost::asio::this_coro::executor;
    co_await boost::asio::post(executor, boost::asio::deferred);
    auto [ours, theirs] = connected_pair(*loop);
    wires->emplace_back(*loop, std::move(theirs));
    co_return std::move(ours);
  }

  Loop* loop;
  std::deque<Wire>* wires;
  UserCode* code;
};

using Client = fs::Client<Connector, ManualClock>;

class Scene {
 public:
  static constexpr std::size_t least_calls = 8;

  Scene(const Deed<Scene>& deed, std::size_t n)
      : code(deed.effect, n, [this, act = deed.act] { act(*this); }) {
    fs::ClientOptions options;
    options.node_id = "n1";
    options.seed = 1;
    options.on_connected = [this] { code.called(Place::hook); };
    options.on_disconnected = [this](boost::system::error_code) { code.called(Place::hook); };
    options.on_handler_error = [this](std::string_view, const std::exception_ptr&) {
      code.called(Place::hook);
    };
    options.on_reply_result = [this](std::string_view, const fs::ReplyResult&) {
      code.called(Place::hook);
    };
    options.on_receipt = [this](std::string_view, const result<void>&) {
      code.called(Place::hook);
    };
    client_.emplace(Connector{&loop_, &wires_, &code}, options);
  }
  Scene(const Scene&) = delete;
  Scene& operator=(const Scene&) = delete;
  ~Scene() = default;

  void play() {
    running_ = loop_.spawn(client_->run([this](Message task) {
      code.called(Place::handler);
      return work(&code, std::move(task));
    }));
    loop_.drain();
    for (const auto& act : acts()) {
      act();
      loop_.advance(1s);
      if (stopped_) {
        CHECK(running_->done());
      }
    }
    code.over();
    end();
  }

  // ---- deeds

  void stop() {
    stopped_ = true;
    if (client_) {
      client_->stop();
    }
  }
  void destroy() {
    stopped_ = true;
    client_.reset();
  }
  void cancel() { running_->cancel(); }
  void send() {
    if (client_) {
      Message share = task("share");
      share.destination = "n2";
      sends_.push_back(loop_.spawn(client_->send(std::move(share))));
      feedbacks_.push_back(loop_.spawn(client_->feedback({.topic = "log", .body = "x"})));
    }
  }
  void run_again() {
    if (client_) {
      feedbacks_.push_back(
          loop_.spawn(client_->run([this](Message task) { return work(&code, std::move(task)); })));
    }
  }
  void lose_connection() {
    boost::asio::post(loop_.io, [this] { wires_.clear(); });
  }

 private:
  static awaitable<result<Message>> work(UserCode* code, Message task) {
    code->called(Place::handler);
    const auto executor = co_await boost::asio::this_coro::executor;
    co_await boost::asio::post(executor, boost::asio::deferred);
    code->called(Place::handler);
    if (task.body == "fail") {
      co_return make_error_code(boost::system::errc::no_space_on_device);
    }
    Message reply;
    reply.body = "done";
    co_return reply;
  }

  std::vector<std::function<void()>> acts() {
    const auto taken = [this] { write(result_frame(ReplyDisposition::delivered)); };
    const auto meet = [this] { write(welcome()); };
    return {
        meet,
        [this] { write(whole(FrameType::task, task("1"))); },
        taken,
        [this] { write(whole(FrameType::task, task("2", "fail"))); },
        [this] { send(); },
        [this] {
          write(result_frame(ReplyDisposition::forwarded) +
                frame(FrameType::receipt, fs::encode(fs::RelayReceipt{"share", {}})));
        },
        [this] { write(frame(FrameType::ping)); },  // a fault of the server
        [this] { wires_.clear(); },
        meet,
        [this] { write(whole(FrameType::task, task("3"))); },
        [this] { wires_.clear(); },  // before it has answered
        meet,
        taken,
        [this] { write(poll_end(test::errc::poll_ended)); },
        [this] { write(frame(FrameType::error, fs::encode_error(test::errc::superseded))); },
    };
  }

  void write(const std::string& bytes) {
    if (!wires_.empty()) {
      wires_.back().send(bytes);
    }
  }

  void end() {
    stop();
    loop_.drain();
    CHECK(running_->done());
    wires_.clear();
    check_out_of_work(loop_);
    CHECK(std::ranges::all_of(sends_, [](const auto& sent) { return sent.done(); }));
    CHECK(std::ranges::all_of(feedbacks_, [](const auto& sent) { return sent.done(); }));
  }

  Loop loop_;

 public:
  UserCode code;

 private:
  std::deque<Wire> wires_{};
  std::optional<Client> client_{};
  std::optional<Spawned<boost::system::error_code>> running_{};
  std::vector<Spawned<fs::ReplyResult>> sends_{};
  std::vector<Spawned<boost::system::error_code>> feedbacks_{};
  bool stopped_ = false;
};

constexpr Deed<Scene> deeds[] = {
    {"stop", Effect::none, [](Scene& scene) { scene.stop(); }},
    {"destroy", Effect::none, [](Scene& scene) { scene.destroy(); }},
    {"cancel", Effect::none, [](Scene& scene) { scene.cancel(); }},
    {"send", Effect::none, [](Scene& scene) { scene.send(); }},
    {"run again", Effect::none, [](Scene& scene) { scene.run_again(); }},
    {"lose the connection", Effect::none, [](Scene& scene) { scene.lose_connection(); }},
    {"take long", Effect::none, [](Scene&) { ManualClock::advance(61s); }},
    {"throw", Effect::throws, [](Scene&) { throw test::Thrown("by code of the user"); }},
};

}  // namespace

TEST_CASE("act anywhere: code of the user may do anything while the client works") {
  for (const auto& deed : deeds) {
    act_in_every_call(deed);
  }
}
