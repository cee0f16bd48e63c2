// node_agent.hpp: a handler runs in many places, and may do anything there: send, flush, stop, let
// the last handle go, erase its agent, destroy the store, throw. Every place meets every deed.
#include <doctest/doctest.h>
#include <functional>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "fedagent/poll.hpp"
#include "support/story.hpp"

using namespace test;

namespace {

// An agent that stands alone or is in a store, and a request whose handler does the deed.
struct World {
  World(bool in_store, const AgentOptions& options) {
    if (in_store) {
      store = std::make_unique<Store>(loop.executor(),
                                      StoreOptions{.agent = options, .idle_expiry = 1min});
      agent.emplace(store->retrieve("node").value());
    } else {
      agent.emplace("node", loop.executor(), Agent::forwarder_type(), options);
    }
  }
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  // A request with a handler that counts, and does the deed when it is the first to end.
  bool send(const std::string& id) {
    auto made = message(id);
    alive.push_back(made);
    const bool accepted = agent
                              ->try_send(std::move(made),
                                         [this](const Agent::outcome_type&) {
                                           ++ended;
                                           if (!done) {
                                             done = true;
                                             deed(*this);
                                           }
                                         })
                              .has_value();
    sent += accepted ? 1 : 0;
    return accepted;
  }
  Task take() {
    auto task = loop.run(agent->get_task());
    REQUIRE(task.has_value());
    task->message();
    return *std::move(task);
  }

  Loop loop;
  std::function<void(World&)> deed;
  bool done = false;
  int sent = 0;
  int ended = 0;
  std::vector<std::weak_ptr<const Message>> alive;
  std::unique_ptr<Store> store;
  std::optional<Agent> agent;
};

struct Place {
  std::string name;
  AgentOptions options;
  std::function<void(World&)> reach;
  bool store_only = false;
};

struct Deed {
  std::string name;
  std::function<void(World&)> act;
};

std::vector<Place> places() {
  const auto lose_in = [](World& world) {
    world.send("r1");
    world.send("r2");
  };
  return {
      {"its reply",
       {},
       [=](World& world) {
         lose_in(world);
         world.take().delivered();
         auto replied = world.loop.spawn(world.agent->on_reply(Message{.request_id = "r1"}));
         world.loop.drain();
         CHECK(replied.value().value() == ReplyDisposition::delivered);
       }},
      {"flush",
       {},
       [=](World& world) {
         lose_in(world);
         CHECK(world.agent->Agent::NodeAgentAsync::flush("r1"));
       }},
      {"stop",
       {},
       [=](World& world) {
         lose_in(world);
         world.take().delivered();
         world.agent->stop();
       }},
      {"the end of the last handle",
       {},
       [=](World& world) {
         lose_in(world);
         auto last = *std::move(world.agent);
         world.agent.reset();
         world.store.reset();
       }},
      {"its age, in the queue",
       {.max_age = 10s},
       [=](World& world) {
         lose_in(world);
         world.loop.advance(10s);
       }},
      {"its age, as a poll comes before the timer",
       {.max_age = 10s},
       [=](World& world) {
         lose_in(world);
         ManualClock::advance(10s);
         auto polled = world.loop.spawn(world.agent->get_task());
         world.loop.drain();
       }},
      {"its age, as an unread task comes back",
       {.max_age = 10s},
       [=](World& world) {
         lose_in(world);
         auto task = world.loop.run(world.agent->get_task());
         ManualClock::advance(10s);
       }},
      {"its deadline",
       {},
       [=](World& world) {
         REQUIRE(world.agent->try_send(
             message("r1"),
             [&world](const Agent::outcome_type&) {
               ++world.ended;
               world.done = true;
               world.deed(world);
             },
             SendOptions{.deadline = world.loop.now() + 5s}));
         ++world.sent;
         world.send("r2");
         world.loop.advance(5s);
       }},
      {"its last attempt, as its task is destroyed",
       {.max_retries = 0},
       [=](World& world) {
         lose_in(world);
         const auto task = world.take();
       }},
      {"its encoding",
       {},
       [=](World& world) {
         lose_in(world);
         auto task = world.take();
         task.not_encodable();
       }},
      {"a send that displaces it",
       {.max_queued_messages = 2, .overflow = fedagent::OverflowPolicy::drop_oldest},
       [=](World& world) {
         lose_in(world);
         world.send("r3");
       }},
      {"a send of another thread that displaces it",
       {.max_queued_messages = 2, .overflow = fedagent::OverflowPolicy::drop_oldest},
       [=](World& world) {
         lose_in(world);
         ++world.sent;
         if (world.store) {
           world.store->send("node", message("r3"),
                             [&world](const Agent::outcome_type&) { ++world.ended; });
         } else {
           world.agent->send(message("r3"),
                             [&world](const Agent::outcome_type&) { ++world.ended; });
         }
         world.loop.drain();
       }},
      {"a refusal",
       {.max_queued_messages = 1},
       [=](World& world) {
         REQUIRE(world.agent->try_send(message("r0")));
         ++world.sent;
         world.agent->send(message("r1"), [&world](const Agent::outcome_type& outcome) {
           CHECK(outcome.error() == errc::queue_full);
           ++world.ended;
           world.done = true;
           world.deed(world);
         });
         world.loop.drain();
       }},
      {"a poll of another session",
       {.max_retries = 0},
       [=](World& world) {
         lose_in(world);
         fedagent::Poll first(*world.agent, 1);
         auto task = world.loop.run(first.get_task());
         task->message();
         // The handle that the poll is made of may go while it opens.
         fedagent::Poll second(*world.agent, 2);
       }},
      {"a disconnection, with the policy drop",
       {.queued_on_disconnect = fedagent::QueuedPolicy::drop},
       [=](World& world) {
         lose_in(world);
         world.agent->change_node_status_after_task();
         world.loop.advance(10s);
       }},
      {"a disconnection, as the last attempt",
       {.max_retries = 0},
       [=](World& world) {
         lose_in(world);
         world.take().delivered();
         world.agent->change_node_status_after_task();
         world.loop.advance(10s);
       }},
      {"erase",
       {},
       [=](World& world) {
         lose_in(world);
         world.take().delivered();
         world.store->erase("node");
       },
       true},
      {"the removal after a long disconnection",
       {},
       [=](World& world) {
         lose_in(world);
         world.agent->change_node_status_after_task();
         world.loop.advance(10s);
         world.loop.advance(1min);
       },
       true},
      {"the stop of the store",
       {},
       [=](World& world) {
         lose_in(world);
         world.store->retrieve("other").value().try_send(message("o1"));
         world.store->stop();
       },
       true},
      {"a broadcast that displaces it",
       {.max_queued_messages = 2, .overflow = fedagent::OverflowPolicy::drop_oldest},
       [=](World& world) {
         for (int i = 0; i < 20; ++i) {
           REQUIRE(world.store->retrieve("other" + std::to_string(i)));
         }
         lose_in(world);
         world.store->broadcast(message(""));
       },
       true},
  };
}

std::vector<Deed> deeds() {
  std::vector<Deed> deeds{
      {"nothing", [](World&) {}},
      {"send",
       [](World& world) {
         if (world.agent) {
           world.send("nested");
         }
       }},
      {"flush of another and of itself",
       [](World& world) {
         if (world.agent) {
           world.agent->Agent::NodeAgentAsync::flush("r1");
           world.agent->Agent::NodeAgentAsync::flush("r2");
         }
       }},
      {"stop",
       [](World& world) {
         if (world.agent) {
           world.agent->stop();
         }
       }},
      {"polls",
       [](World& world) {
         if (world.agent) {
           world.agent->set_active();
           world.agent->change_node_status_after_task();
           world.agent->touch();
         }
       }},
      {"letting the handle go", [](World& world) { world.agent.reset(); }},
      {"erase",
       [](World& world) {
         if (world.store) {
           world.store->erase("node");
         }
       }},
      {"erase, and letting the handle go",
       [](World& world) {
         if (world.store) {
           world.store->erase("node");
         }
         world.agent.reset();
       }},
      {"new agents",
       [](World& world) {
         for (int i = 0; world.store && i < 100; ++i) {
           (void)world.store->retrieve("new" + std::to_string(i));
         }
       }},
      {"stop of the store",
       [](World& world) {
         if (world.store) {
           world.store->stop();
         }
       }},
      {"the end of everything",
       [](World& world) {
         const auto store = std::move(world.store);
         world.agent.reset();
       }},
  };
  const auto plain = deeds.size();
  for (std::size_t i = 0; i < plain; ++i) {
    deeds.push_back({deeds[i].name + ", then a throw", [act = deeds[i].act](World& world) {
                       act(world);
                       throw std::runtime_error("the handler failed");
                     }});
  }
  return deeds;
}

}  // namespace

TEST_CASE(
    "handlers: wherever one runs it may do anything, and each request ends once (D4, D6, H14)") {
  for (const bool in_store : {false, true}) {
    for (const auto& place : places()) {
      if (place.store_only && !in_store) {
        continue;
      }
      for (const auto& deed : deeds()) {
        INFO("in a store: ", in_store, "; at ", place.name, ": ", deed.name);
        World world(in_store, place.options);
        world.deed = deed.act;
        place.reach(world);
        world.loop.drain();
        CHECK(world.done);
        if (world.agent) {
          CHECK(world.agent->counters().balanced());
        }
        if (world.store) {
          CHECK(world.store->counters().balanced());
        }
        world.store.reset();
        world.agent.reset();
        world.loop.drain();
        CHECK(world.ended == world.sent);
        for (const auto& message : world.alive) {
          CHECK(message.expired());
        }
      }
    }
  }
}

TEST_CASE("handlers: one that throws is counted and reported, wherever it runs") {
  for (const auto& place : places()) {
    if (place.name == "the end of the last handle") {
      continue;
    }
    INFO("at ", place.name);
    World world(true, place.options);
    world.deed = [](World&) { throw std::runtime_error("the handler failed"); };
    place.reach(world);
    CHECK(world.store->counters().handler_errors == 1);
  }
}

TEST_CASE(
    "handlers: one that sends again each time it is displaced does not keep the loop for ever") {
  Loop loop;
  int sent = 0;
  std::function<void()> again;
  const Agent agent(
      "node", loop.executor(), {},
      AgentOptions{.max_queued_messages = 2, .overflow = fedagent::OverflowPolicy::drop_oldest});
  again = [&] {
    if (++sent < 10000) {
      (void)agent.try_send(message("again" + std::to_string(sent)),
                           [&](const Agent::outcome_type& outcome) {
                             if (outcome.has_error() && outcome.error() == errc::displaced) {
                               again();
                             }
                           });
    }
  };
  again();
  again();
  REQUIRE(agent.counters().queued == 2);
  (void)agent.try_send(message("new"));
  CHECK(sent < 100);
  CHECK(agent.counters().queued <= 2);
  CHECK(agent.counters().balanced());
}

TEST_CASE(
    "handlers: with the policy drop, what a handler sends at the disconnection is not dropped by "
    "it") {
  Story story(AgentOptions{.when_disconnected = fedagent::DisconnectedPolicy::hold,
                           .queued_on_disconnect = fedagent::QueuedPolicy::drop});
  REQUIRE(story.agent->try_send(story.make("r1"), [&](const Agent::outcome_type& outcome) {
    CHECK(outcome.error() == errc::disconnected);
    CHECK(story.send("again"));
  }));
  story.disconnect();
  CHECK(story.outcomes.count("again") == 0);
  CHECK(story.counters().queued == 1);
}

TEST_CASE("handlers: a handler may own what it is given and need not be copyable") {
  Story story;
  struct Once {
    std::unique_ptr<int> calls;
    int* seen;
    void operator()(Agent::outcome_type) && { *seen = ++*calls; }
  };
  int seen = 0;
  REQUIRE(story.agent->try_send(story.make("r1"), Once{std::make_unique<int>(0), &seen}));
  CHECK(story.flush("r1"));
  CHECK(seen == 1);
  // A refused send leaves the handler unused; the caller may send with it again.
  story.agent->stop();
  CHECK(story.agent->try_send(story.make("r2"), Once{std::make_unique<int>(0), &seen}).error() ==
        errc::stopped);
  CHECK(seen == 1);
}

// ---- observers

namespace {

// Checks at each event what is to be true there, and counts them.
struct Watcher {
  struct State {
    const fedagent::NodeAgent<Transport, Message, Watcher>* agent = nullptr;
    std::vector<std::string> events{};
  };
  std::shared_ptr<State> state = std::make_shared<State>();

  void add(std::string event) const {
    state->events.push_back(std::move(event));
    if (state->agent != nullptr) {
      CHECK(state->agent->counters().balanced());
    }
  }
  void on_status(std::string_view, NodeActiveStatus, NodeActiveStatus to) const {
    add(std::string(to_string(to)));
    if (state->agent != nullptr) {
      CHECK(state->agent->status() == to);
    }
  }
  void on_queued(std::string_view, const MessagePtr& message, NodeActiveStatus) const {
    add("queued " + message->request_id);
  }
  void on_delivered(std::string_view, const MessagePtr& message) const {
    add("delivered " + message->request_id);
  }
  void on_confirmed(std::string_view, const MessagePtr& message) const {
    add("confirmed " + message->request_id);
  }
  void on_requeued(std::string_view, const MessagePtr& message, std::uint32_t retry) const {
    add("requeued " + message->request_id + " " + std::to_string(retry));
  }
  void on_dropped(std::string_view, const MessagePtr& message,
                  boost::system::error_code error) const {
    add("dropped " + message->request_id + " " + std::to_string(error.value()));
  }
  void on_refused(std::string_view, const MessagePtr& message, boost::system::error_code) const {
    add("refused " + message->request_id);
  }
  void on_reply(std::string_view, const MessagePtr& message, ReplyDisposition) const {
    add("reply " + message->request_id);
  }
  void on_handler_error(std::string_view, std::exception_ptr) const { add("handler error"); }
};

}  // namespace

TEST_CASE("observer: each step of a message is told, in order, with the counters in balance") {
  Loop loop;
  const Watcher watcher;
  const fedagent::NodeAgent<Transport, Message, Watcher> agent("node", loop.executor(), {}, {},
                                                               watcher);
  watcher.state->agent = &agent;
  REQUIRE(agent.try_send(message("r1"),
                         [](const Agent::outcome_type&) { throw std::runtime_error("x"); }));
  CHECK_FALSE(agent.try_send(message("r1")));
  agent.set_active();
  loop.run(agent.get_task())->message();
  loop.run(agent.get_task())->delivered();
  agent.set_active();
  CHECK(loop.run(agent.on_reply(Message{.request_id = "r1"})).has_value());
  CHECK(loop.run(agent.on_reply(Message{.request_id = "r1"})).has_value());
  REQUIRE(agent.try_send(message("r2")));
  auto flushed = agent.flush("r2");
  loop.drain();
  CHECK(flushed.get());
  agent.change_node_status_after_task();
  agent.change_node_status_after_task();
  loop.advance(10s);
  agent.set_active();
  CHECK(watcher.state->events ==
        std::vector<std::string>{"queued r1", "refused r1", "requeued r1 1", "delivered r1",
                                 "confirmed r1", "reply r1", "handler error", "reply r1",
                                 "queued r2", "dropped r2 4", "WAITING", "DISCONNECTED", "ACTIVE"});
  watcher.state->agent = nullptr;
}

TEST_CASE(
    "stop: a task in hand that a handler lets go meanwhile is not put back, it ends as well") {
  Story story;
  std::optional<Task> in_hand;
  const auto let_go = [&](const Agent::outcome_type&) { in_hand.reset(); };
  REQUIRE(story.agent->try_send(story.make("r1"), let_go));
  REQUIRE(story.agent->try_send(story.make("")));
  const auto first = story.take();
  in_hand.emplace(story.take());
  SUBCASE("looked at") { CHECK(in_hand->message()->request_id.empty()); }
  SUBCASE("not looked at") {}
  story.agent->stop();
  CHECK_FALSE(in_hand);
  CHECK(story.counters().dropped_for(errc::stopped) == 2);
  CHECK(story.counters().queued == 0);
}
