// One rich story, broken off after each of its handlers, in every way in which it can be broken
// off.

#include <doctest/doctest.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fedagent/service.hpp"
#include "support/calls.hpp"

namespace {

using namespace test;
using fedagent::serve_reply;
using fedagent::serve_task_call;
using fedagent::StoreOptions;

/// How the story is broken off.
enum class End {
  /// The store goes, then the loop.
  store_first,
  /// The loop goes, then the store and what else there is of its handles.
  loop_first,
  /// A coroutine that waits for a timer owns the store; the loop takes it along.
  store_in_a_coroutine,
  /// A handler that has not run owns the store; the loop takes it along.
  store_in_a_handler,
  /// The store is stopped, and the loop goes on.
  stop,
  /// The store is destroyed, and the loop goes on.
  destroy,
  /// Every agent is erased, and the loop goes on.
  erase,
};

using StorePtr = std::shared_ptr<ObservedStore>;

/// A request of the story, with what came of it.
struct Request {
  bool accepted = false;
  Ending ending{};
};

class Scene {
 public:
  Scene() {
    ManualClock::reset();
    StoreOptions options;
    options.idle_expiry = 40s;
    options.agent.overflow = fedagent::OverflowPolicy::wait;
    options.agent.max_queued_messages = 2;
    options.agent.max_age = 60s;
    options.agent.poll_timeout = 30s;
    options.agent.poll_jitter = 0.0;
    store_ = std::make_shared<ObservedStore>(io_->get_executor(), options);
    a_ = *store_->retrieve("a");
    b_ = *store_->retrieve("b");
    standing_.emplace("c", io_->get_executor());
    events_ = std::make_shared<ObservedStore::status_events_type>(store_->status_events(2));
  }
  Scene(const Scene&) = delete;
  Scene& operator=(const Scene&) = delete;
  ~Scene() = default;

  /// Plays the story until `budget` handlers have run. @return Whether it is at its end.
  bool play(std::size_t budget) {
    budget_ = budget;
    for (const auto& act : acts()) {
      act();
      if (!run()) {
        return false;
      }
    }
    return true;
  }

  void end(End how) {
    switch (how) {
      case End::store_first:
        let_go();
        store_.reset();
        io_.reset();
        break;
      case End::loop_first:
        io_.reset();
        store_.reset();
        break;
      case End::store_in_a_coroutine:
        let_go();
        boost::asio::co_spawn(*io_, keep(std::exchange(store_, nullptr)), boost::asio::detached);
        io_->restart();
        io_->poll();
        io_.reset();
        break;
      case End::store_in_a_handler:
        let_go();
        boost::asio::post(*io_, [store = std::exchange(store_, nullptr)] { CHECK(store); });
        io_.reset();
        break;
      case End::stop:
        store_->stop();
        standing_->stop();
        break;
      case End::destroy:
        let_go();
        store_.reset();
        break;
      case End::erase:
        store_->erase("a");
        store_->erase("b");
        standing_->stop();
        break;
    }
    if (io_) {
      budget_ = 100'000;
      run();
      call_released();
      run();
    }
  }

  /// What must hold when the loop has gone on after the end.
  void check_ended(bool all_agents_gone) const {
    for (std::size_t i = 0; i < requests_.size(); ++i) {
      CAPTURE(i);
      CHECK(requests_[i].ending.times() == (requests_[i].accepted ? 1 : 0));
    }
    for (const auto& [what, done] : waits_) {
      CAPTURE(what);
      CHECK((*done || !all_agents_gone));
    }
  }
  void check_counters() const {
    CHECK(store_->counters().balanced());
    CHECK(store_->counters().open_requests == 0);
    CHECK(store_->counters().queued == 0);
    CHECK(store_->counters().leased == 0);
  }
  /// Messages that are alive.
  std::size_t alive() const {
    std::size_t count = 0;
    for (const auto& made : made_) {
      count += made.expired() ? 0U : 1U;
    }
    return count;
  }
  /// Drops what the test itself holds.
  void clear() {
    let_go();
    store_.reset();
    io_.reset();
  }
  std::size_t handlers() const { return handlers_; }

 private:
  static awaitable<void> keep(StorePtr store) {
    const auto executor = co_await boost::asio::this_coro::executor;
    boost::asio::basic_waitable_timer<ManualClock, boost::asio::wait_traits<ManualClock>, Executor>
        timer(executor, ManualClock::time_point::max());
    co_await timer.async_wait(boost::asio::deferred);
    CHECK(store);
  }

  // The store may be gone before these start.
  static awaitable<result<void>> serve(std::weak_ptr<ObservedStore> store, Call* call) {
    auto held = store.lock();
    if (!held) {
      co_return make_error_code(errc::stopped);
    }
    auto serving = serve_task_call(*held, *call);
    auto served = co_await first_step(std::move(serving), std::move(held));
    co_return served;
  }
  // Lets the store go once the coroutine has started: it starts when it is awaited.
  static awaitable<result<void>> first_step(awaitable<result<void>> serving, StorePtr store) {
    const auto executor = co_await boost::asio::this_coro::executor;
    boost::asio::post(executor, [store = std::move(store)]() mutable { store.reset(); });
    co_return co_await std::move(serving);
  }
  static awaitable<result<void>> reply(std::weak_ptr<ObservedStore> store, std::string from,
                                       Message message) {
    const auto held = store.lock();
    if (!held) {
      co_return make_error_code(errc::stopped);
    }
    auto taken = co_await serve_reply(*held, std::move(from), std::move(message));
    if (!taken) {
      co_return taken.error();
    }
    co_return result<void>();
  }
  static awaitable<result<void>> read(std::shared_ptr<ObservedStore::status_events_type> events) {
    while (true) {
      auto event = co_await events->next();
      if (!event) {
        co_return event.error();
      }
    }
  }
  static awaitable<result<void>> ask(
      ObservedStore::agent_type::awaitable<ObservedStore::outcome_type> request) {
    auto outcome = co_await std::move(request);
    if (!outcome) {
      co_return outcome.error();
    }
    co_return result<void>();
  }
  static awaitable<result<void>> ended_send(awaitable<result<void>> send, Request* request) {
    auto sent = co_await std::move(send);
    request->accepted = sent.has_value();
    co_return sent;
  }

  std::vector<std::function<void()>> acts() {
    std::vector<std::function<void()>> acts;
    const auto weak = std::weak_ptr(store_);
    acts.emplace_back([this] {
      spawn("events", read(events_));
      spawn("nodes", store_->wait_for_nodes(3));
      spawn("lost", a_->wait_for(NodeActiveStatus::disconnected));
      spawn("idle", standing_->wait_for(NodeActiveStatus::disconnected));
    });
    acts.emplace_back([this, weak] {
      spawn("a polls", serve(weak, &a1_));
      spawn("b polls", serve(weak, &b1_));
    });
    acts.emplace_back([this] {
      spawn("asked", ask(a_->request(make("asked"))));
      try_send(*a_, "1");
      try_send(*a_, "2", {.deadline = ManualClock::now() + 5s});
      send("3");
      send("4");
      spawn("asked with room", ask(a_->request(make("5"), 20s)));
      spawn("joined", a_->join());
    });
    acts.emplace_back([this, weak] {
      ManualClock::advance(1s);
      try_send(*b_, "b1");
      spawn("b replies", reply(weak, "b", {.request_id = "b1", .body = "done"}));
      spawn("b relays", reply(weak, "b", {.body = "share", .destination = "a"}));
      spawn("b polls again", serve(weak, &b2_));
      try_send(*standing_, "c1");
      spawn("c polls", poll(*standing_));
    });
    acts.emplace_back([this, weak] {
      // a is started anew: the first life was still delivering.
      spawn("a polls anew", serve(weak, &a2_));
      a1_.release();
    });
    acts.emplace_back([this, weak] {
      spawn("a replies", reply(weak, "a", {.request_id = "asked", .body = "done"}));
      spawn("a replies twice", reply(weak, "a", {.request_id = "asked", .body = "done"}));
      auto& request = requests_.emplace_back();
      request.accepted = true;  // a refusal goes to the handler too
      store_->send("a", make("posted"), request.ending.handler());
      a_->flush("1", true);
      cancel_last("asked with room");
    });
    acts.emplace_back([this, weak] {
      spawn("a polls on", serve(weak, &a3_));
      ManualClock::advance(6s);
    });
    acts.emplace_back([] { ManualClock::advance(30s); });
    acts.emplace_back([this] {
      try_send(*a_, "6");
      spawn("asked late", ask(a_->request(make("7"))));
      ManualClock::advance(10s);
    });
    acts.emplace_back([this] {
      try_send(*a_, "8");
      a3_.release();
      ManualClock::advance(10s);
    });
    acts.emplace_back([] { ManualClock::advance(40s); });
    acts.emplace_back([] { ManualClock::advance(40s); });
    return acts;
  }

  static awaitable<result<void>> poll(fedagent::NodeAgent<Transport, Message> agent) {
    const fedagent::NodeAgentAsync<Transport>& handle = agent;
    handle.set_active();
    auto task = co_await handle.get_task();
    if (task) {
      task->delivered();
    }
    handle.change_node_status_after_task();
    co_return result<void>();
  }

  bool run() {
    while (budget_ > 0) {
      io_->restart();
      if (io_->poll_one() == 0) {
        return true;
      }
      --budget_;
      ++handlers_;
    }
    return false;
  }

  MessagePtr make(std::string id) {
    auto made = message(id, id);
    made_.push_back(made);
    return made;
  }
  template <class Agent_>
  void try_send(const Agent_& agent, const std::string& id,
                const typename Agent_::send_options& options = {}) {
    auto& request = requests_.emplace_back();
    request.accepted = agent.try_send(make(id), request.ending.handler(), options).has_value();
  }
  void send(const std::string& id) {
    auto& request = requests_.emplace_back();
    spawn("sent " + id, ended_send(a_->send_async(make(id), request.ending.handler()), &request));
  }
  void spawn(std::string what, awaitable<result<void>> coroutine) {
    auto done = std::make_shared<bool>(false);
    auto& signal = signals_.emplace_back();
    boost::asio::co_spawn(
        *io_, std::move(coroutine),
        boost::asio::bind_cancellation_slot(
            signal.second.slot(), [done](std::exception_ptr, result<void>) { *done = true; }));
    signal.first = what;
    waits_.emplace_back(std::move(what), std::move(done));
  }
  void cancel_last(const std::string& what) {
    for (auto& [name, signal] : signals_) {
      if (name == what) {
        signal.emit(boost::asio::cancellation_type::terminal);
      }
    }
  }
  void call_released() {
    a1_.release();
    a3_.release();
  }
  // The handles that do not own the store.
  void let_go() {
    a_.reset();
    b_.reset();
    standing_.reset();
    events_.reset();
  }

  std::deque<Request> requests_{};
  std::vector<std::weak_ptr<const Message>> made_{};
  std::vector<std::pair<std::string, std::shared_ptr<bool>>> waits_{};
  std::deque<std::pair<std::string, boost::asio::cancellation_signal>> signals_{};
  Call a1_{"a", 1, Delivery::hangs};
  Call a2_{"a", 2};
  Call a3_{"a", 2, Delivery::hangs};
  Call b1_{"b"};
  Call b2_{"b"};
  std::size_t budget_ = 0;
  std::size_t handlers_ = 0;
  std::unique_ptr<boost::asio::io_context> io_ = std::make_unique<boost::asio::io_context>();
  StorePtr store_{};
  std::optional<ObservedStore::agent_type> a_{};
  std::optional<ObservedStore::agent_type> b_{};
  std::optional<Agent> standing_{};
  std::shared_ptr<ObservedStore::status_events_type> events_{};
};

/// Breaks the story off after 0, 1, 2 … handlers.
void break_off(End how) {
  bool complete = false;
  for (std::size_t k = 0; !complete; ++k) {
    CAPTURE(k);
    Scene scene;
    complete = scene.play(k);
    scene.end(how);
    if (how == End::stop || how == End::destroy || how == End::erase) {
      scene.check_ended(how != End::erase);
    }
    if (how == End::stop || how == End::erase) {
      scene.check_counters();
    }
    scene.clear();
    CHECK(scene.alive() == 0);
    if (complete) {
      CHECK(scene.handlers() > 60);
    }
  }
}

TEST_CASE("stop anywhere: the store is destroyed, then the loop") { break_off(End::store_first); }
TEST_CASE("stop anywhere: the loop is destroyed, then the store") { break_off(End::loop_first); }
TEST_CASE("stop anywhere: the loop is destroyed, and with it the coroutine that owns the store") {
  break_off(End::store_in_a_coroutine);
}
TEST_CASE("stop anywhere: the loop is destroyed, and with it the handler that owns the store") {
  break_off(End::store_in_a_handler);
}
TEST_CASE("stop anywhere: the store is stopped, and no wait and no request is left") {
  break_off(End::stop);
}
TEST_CASE("stop anywhere: the store is destroyed, and no wait and no request is left") {
  break_off(End::destroy);
}
TEST_CASE("stop anywhere: the agents are erased, and no request is left") { break_off(End::erase); }

}  // namespace
