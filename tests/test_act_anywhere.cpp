// A story in which every call of code of the user, one after the other, does something: stops the
// store, erases an agent, sends, polls, throws …

#include <doctest/doctest.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fedagent/parked_poll.hpp"
#include "fedagent/poll.hpp"
#include "fedagent/round.hpp"
#include "fedagent/service.hpp"
#include "support/user_code.hpp"

namespace {

using namespace test;
using fedagent::OverflowPolicy;
using fedagent::PollPolicy;
using fedagent::QueuedPolicy;
using fedagent::serve_feedback;
using fedagent::serve_reply;
using fedagent::StoreOptions;
using fedagent::try_serve_reply;

using Observer = ActingObserver<Message>;
using ActingStore = fedagent::AgentStore<Transport, Message, Observer>;
using ActingAgent = ActingStore::agent_type;
using Rounds = fedagent::Rounds<Transport, Message, Observer>;
using ParkedPoll = fedagent::ParkedPoll<Transport, Message, Observer>;

/// How the store behaves, and how its nodes poll.
struct Manner {
  bool parked = false;
  bool forwards = false;
  OverflowPolicy overflow = OverflowPolicy::wait;
  QueuedPolicy queued = QueuedPolicy::keep;
  PollPolicy polls = PollPolicy::newest_wins;
};

/// What a node does with a task.
enum class Takes { delivers, loses, cannot_encode };

void take(ActingAgent::task_type task, Takes how) {
  if (how != Takes::loses) {
    task.message();
  }
  if (how == Takes::delivers) {
    task.delivered();
  } else if (how == Takes::cannot_encode) {
    task.not_encodable();
  } else {
    task.message();  // an attempt
  }
}

/// A poll without a coroutine.
class Parked final : public ParkedPoll {
 public:
  Parked(Loop& loop, Takes how, int tasks) : loop_(&loop), how_(how), tasks_(tasks) {}

  void open_at(const ActingAgent& agent, fedagent::SessionId session) {
    if (!this->open(agent, session)) {
      look();
    }
  }

 private:
  void on_ready() noexcept override {
    boost::asio::post(loop_->io, [this] {
      if (this->is_open()) {
        look();
      }
    });
  }
  void look() {
    for (; tasks_ > 0 && this->is_open(); --tasks_) {
      auto got = this->try_get_task();
      if (!got) {
        return;
      }
      if (!*got) {
        break;
      }
      take(*std::move(*got), how_);
    }
    this->close();
  }

  Loop* loop_;
  Takes how_;
  int tasks_;
};

class Scene {
 public:
  static constexpr std::size_t least_calls = 15;

  Scene(const Deed<Scene>& deed, std::size_t n, const Manner& manner)
      : code(deed.effect, n, [this, act = deed.act] { act(*this); }), manner_(manner) {
    auto options = acting_options(code);
    options.idle_expiry = 40s;
    options.relay_quota = 2;
    options.agent.overflow = manner.overflow;
    options.agent.queued_on_disconnect = manner.queued;
    options.agent.polls = manner.polls;
    options.agent.max_queued_messages = 4;
    ActingStore::forwarder_type forwarder;
    if (manner.forwards) {
      forwarder = acting_forwarder(code);
    }
    store_.emplace(loop_.executor(), options, Observer{&code, &tally_}, std::move(forwarder));
    fedagent::RoundsOptions<Message> rounds;
    rounds.is_error = [this](const Message& reply) {
      code.called(Place::handler);
      return reply.body == "error";
    };
    rounds_.emplace(*store_, std::move(rounds));
  }
  Scene(const Scene&) = delete;
  Scene& operator=(const Scene&) = delete;
  ~Scene() = default;

  void play() {
    for (const auto& act : acts()) {
      try {
        act();
      } catch (const Thrown&) {  // by an admission, or there is no way to go on
      }
      loop_.drain();
      if (stopped_) {
        check_ended();
      }
    }
    for (int i = 0; i < 4; ++i) {
      ManualClock::advance(40s);
      loop_.drain();
    }
    code.over();
    end();
  }

  // ---- deeds

  void stop() {
    if (store_) {
      store_->stop();
      stopped_ = true;
    }
  }
  void destroy() {
    stopped_ = true;
    store_.reset();
  }
  void erase() { erase_agents(store_, {"a", "b", "c"}); }
  void send_more() {
    for (const auto* const node : {"a", "b"}) {
      send(node, "more");
      send(node, "2");
      note(node);
    }
  }
  void flush() {
    for (const auto* const id : {"1", "2", "3", "asked", "round"}) {
      if (const auto agent = known("a")) {
        agent->ActingAgent::NodeAgentAsync::flush(id);
      }
    }
  }
  void poll_more() {
    poll("a", 9, Takes::delivers);
    poll("b", 9, Takes::loses);
  }
  void close_polls() {
    for (auto& poll : parked_) {
      poll.close();
    }
  }
  void cancel_all() {
    for (const auto& wait : waits_) {
      wait.cancel();
    }
  }
  void reply_more() {
    for (const auto* const id : {"1", "2", "3", "asked", "round"}) {
      for (const auto* const node : {"a", "b"}) {
        reply(node, {.request_id = id, .body = "done"});
      }
    }
  }
  void leave() {
    for (const auto* const node : {"a", "b"}) {
      if (const auto agent = known(node)) {
        agent->disconnect_timeout(0s);
        agent->change_node_status_after_task();
      }
    }
  }
  void begin_round() {
    if (!store_) {
      return;
    }
    fedagent::RoundPolicy policy;
    policy.deadline = 5s;
    policy.stop_on.disconnect = fedagent::NodeSelection::every();
    ask({"b", "a", "nobody"}, policy);
  }

 private:
  struct Wait {
    std::string what;
    std::function<bool()> done;
    std::function<void()> cancel;
  };
  struct Reply {
    std::size_t receipt;
    Spawned<result<ReplyDisposition>> taken;
  };

  static awaitable<int> poll_once(std::optional<ActingAgent> agent, fedagent::SessionId session,
                                  Takes how, int tasks) {
    fedagent::Poll poll(*agent, session);
    agent.reset();
    for (bool more = true; more && tasks > 0; --tasks) {
      auto getting = poll.get_task();
      auto task = co_await std::move(getting);
      more = task.has_value();
      if (more) {
        take(*std::move(task), how);
      }
    }
    co_return 0;
  }
  static awaitable<int> read(std::shared_ptr<ActingStore::status_events_type> events) {
    while (true) {
      auto event = co_await events->next();
      if (!event) {
        co_return 0;
      }
    }
  }

  std::vector<std::function<void()>> acts() {
    return {
        [this] {
          spawn("events",
                read(std::make_shared<ActingStore::status_events_type>(store().status_events(2))));
          spawn("nodes", store().wait_for_nodes(9));
          poll("a", 1, Takes::delivers);
          poll("b", 1, Takes::delivers);
        },
        [this] {
          spawn("lost", agent("a").wait_for(NodeActiveStatus::disconnected));
          spawn("joined", agent("a").join());
          spawn("asked", agent("a").request(requests_.make({.request_id = "asked"})));
          send("a", "1");
          note("a");
          spawn("sent", agent("a").send_async(requests_.make({.body = "another note"})));
          send("a", "2");
          send("a", "2");  // refused
          send("a", "3");
          send("a", "4", {.deadline = Loop::now() + 25s});
          store().send("a", requests_.make({.request_id = "posted"}), requests_.accepted_handler());
        },
        [this] {
          reply("a", {.request_id = "asked", .body = "done"});
          reply("a", {.request_id = "asked", .body = "again"});
          reply("a", {.request_id = "never sent"});
          reply("a", {.body = "uncorrelated"});
          reply("nobody", {.request_id = "asked"});
          reply("a", {.request_id = "1", .source = "b"});
        },
        // Each session loses what the one before it was given, at last for good.
        [this] { poll("a", 1, Takes::delivers, 2); },
        [this] { poll("a", 2, Takes::delivers, 2); },
        [this] { poll("a", 3, Takes::loses, 2); },
        [this] { poll("a", 3, Takes::cannot_encode); },
        [this] { store().broadcast(requests_.make({.body = "to all"})); },
        [this] {
          reply("b", {.request_id = "of b", .body = "share", .destination = "a"});
          reply("b", {.body = "another", .destination = "a"});
          reply("b", {.body = "above the quota", .destination = "a"});
          reply("a", {.body = "no such node", .destination = "nobody"});
        },
        [this] {
          for (int i = 0; i < 5; ++i) {
            poll("a", 3, Takes::delivers);
          }
        },
        [this] { serve_feedback(store(), "a", std::string("feedback")); },
        [this] {
          if (const auto there = known("a")) {
            there->ActingAgent::NodeAgentAsync::flush("2", true);
          }
          reply("a", {.request_id = "2", .body = "late"});
          reply("a", {.request_id = "3", .body = "done"});
        },
        [this] {
          agent("c");
          fedagent::RoundPolicy policy;
          policy.quorum = 2;
          policy.grace = 1s;
          policy.per_node = fedagent::AdaptiveDeadline{};
          policy.substitutes = {"c", "nobody"};
          policy.max_in_flight = 2;
          ask({"a", "b", "c"}, policy);
        },
        [this] {
          poll("a", 3, Takes::delivers);
          poll("b", 1, Takes::delivers);
          poll("b", 1, Takes::delivers);
          reply("a", {.request_id = "round", .body = "error"});
          reply("b", {.request_id = "round", .body = "done"});
        },
        [this] {
          poll("c", 1, Takes::delivers);
          reply("c", {.request_id = "round", .body = "done"});
          loop_.advance(1s);
        },
        [this] { begin_round(); },
        // DISCONNECTED, and the end of the agents.
        [this] { loop_.advance(10s); },
        [this] {
          send("b", "refused");
          loop_.advance(50s);
        },
        [this] {
          send("a", "to the new agent");
          poll("a", 4, Takes::delivers);
          poll("a", 4, Takes::delivers);
        },
    };
  }

  ActingStore& store() {
    if (!store_) {
      throw Thrown("there is no store");
    }
    return *store_;
  }
  ActingAgent agent(std::string_view node) {
    auto agent = store().retrieve(node);
    if (!agent) {
      throw Thrown("there is no agent");
    }
    return *agent;
  }
  std::optional<ActingAgent> known(std::string_view node) const {
    return store_ ? store_->get(node) : std::nullopt;
  }

  void send(const std::string& node, const std::string& id,
            const ActingAgent::send_options& options = {}) {
    if (store_ && store_->retrieve(node)) {
      if (const auto there = known(node)) {
        requests_.send(*there, {.request_id = id, .body = "work"}, options);
      }
    }
  }
  void note(const std::string& node) {
    if (const auto there = known(node)) {
      (void)there->try_send(requests_.make({.body = "note"}));
    }
  }
  void poll(const std::string& node, fedagent::SessionId session, Takes how, int tasks = 1) {
    if (!store_) {
      return;
    }
    const auto there = store_->retrieve(node);
    if (!there) {
      return;
    }
    if (manner_.parked) {
      parked_.emplace_back(loop_, how, tasks).open_at(*there, session);
    } else {
      spawn("poll of " + node, poll_once(*there, session, how, tasks));
    }
  }
  void reply(const std::string& node, Message message) {
    if (!store_) {
      return;
    }
    std::size_t receipt = 0;
    auto told = requests_.receipt(receipt);
    if (manner_.parked) {
      const auto taken = try_serve_reply(*store_, node, std::move(message), std::move(told));
      if (taken && *taken == ReplyDisposition::forwarded) {
        requests_.forwarded(receipt);
      }
      return;
    }
    auto reply = serve_reply(*store_, node, std::move(message), std::move(told));
    replies_.push_back({receipt, spawn("reply of " + node, std::move(reply))});
  }
  void ask(std::vector<std::string> nodes, const fedagent::RoundPolicy& policy) {
    const auto make = [this](std::string_view node, std::span<const Rounds::row_type>) {
      code.called(Place::handler);
      return node == "none" ? nullptr : requests_.make({.request_id = "round", .body = "train"});
    };
    spawn("round", rounds_->run(std::move(nodes), make, policy));
  }
  // Timers are not looked at: that takes its time.
  void go_on() {
    if (!code.acts()) {
      loop_.io.restart();
      loop_.io.poll();
    }
  }
  template <class T>
  Spawned<T> spawn(std::string what, awaitable<T> coroutine) {
    auto spawned = loop_.spawn(std::move(coroutine));
    go_on();
    waits_.push_back(
        {std::move(what), [spawned] { return spawned.done(); }, [spawned] { spawned.cancel(); }});
    return spawned;
  }

  /// What must hold as soon as the store has stopped.
  void check_ended() const {
    for (const auto& wait : waits_) {
      if (!wait.done()) {
        FAIL_CHECK("this wait has not ended: ", wait.what);
      }
    }
    CHECK(std::ranges::none_of(parked_, &Parked::is_open));
  }
  void end() {
    check_no_poll(store_);
    if (store_ && stopped_) {
      CHECK(store_->size() == 0);
    }
    stop_and_check(store_);
    check_out_of_work(loop_);
    check_ended();
    for (const auto& reply : replies_) {
      if (reply.taken.done() && !reply.taken.threw() && reply.taken.value() &&
          *reply.taken.value() == ReplyDisposition::forwarded) {
        requests_.forwarded(reply.receipt);
      }
    }
    requests_.check_ended();
    CHECK(tally_.balanced());
    store_.reset();
    rounds_.reset();
    waits_.clear();
    CHECK(requests_.alive() == 0);
  }

  Loop loop_;

 public:
  UserCode code;

 private:
  Manner manner_;
  Tally tally_;
  Requests<Message> requests_{code};
  std::deque<Parked> parked_{};
  std::vector<Wait> waits_{};
  std::vector<Reply> replies_{};
  std::optional<ActingStore> store_{};
  std::optional<Rounds> rounds_{};
  bool stopped_ = false;
};

constexpr Deed<Scene> deeds[] = {
    {"stop the store", Effect::ends_agents, [](Scene& scene) { scene.stop(); }},
    {"destroy the store", Effect::destroys_the_store, [](Scene& scene) { scene.destroy(); }},
    {"erase the agents", Effect::ends_agents, [](Scene& scene) { scene.erase(); }},
    {"send", Effect::calls_the_store, [](Scene& scene) { scene.send_more(); }},
    {"flush", Effect::calls_the_store, [](Scene& scene) { scene.flush(); }},
    {"poll", Effect::calls_the_store, [](Scene& scene) { scene.poll_more(); }},
    {"close the polls", Effect::calls_the_store, [](Scene& scene) { scene.close_polls(); }},
    {"cancel", Effect::calls_the_store, [](Scene& scene) { scene.cancel_all(); }},
    {"reply", Effect::calls_the_store, [](Scene& scene) { scene.reply_more(); }},
    {"leave", Effect::calls_the_store, [](Scene& scene) { scene.leave(); }},
    {"begin a round", Effect::calls_the_store, [](Scene& scene) { scene.begin_round(); }},
    {"take long", Effect::calls_the_store, [](Scene&) { ManualClock::advance(61s); }},
    {"throw", Effect::throws, [](Scene&) { throw Thrown("by code of the user"); }},
};

}  // namespace

TEST_CASE("act anywhere: code of the user may do anything, whoever polls with a coroutine") {
  for (const auto& deed : deeds) {
    act_in_every_call(deed, Manner{.forwards = true});
  }
}

TEST_CASE("act anywhere: code of the user may do anything, whoever polls without a coroutine") {
  for (const auto& deed : deeds) {
    act_in_every_call(deed, Manner{.parked = true,
                                   .overflow = OverflowPolicy::drop_oldest,
                                   .queued = QueuedPolicy::drop,
                                   .polls = PollPolicy::oldest_first});
  }
}
