#pragma once

#include <doctest/doctest.h>
#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "support/loop.hpp"
#include "support/printing.hpp"

namespace test {

using Task = Agent::task_type;
using SendOptions = Agent::send_options;
using fedagent::AgentOptions;
using fedagent::StoreOptions;

/// The outcomes that handlers were given, and the sends that are still due one.
class Outcomes {
 public:
  struct Ending {
    std::string request;
    boost::system::error_code error;
    std::string reply;
  };
  struct Handler {
    Outcomes* outcomes;
    std::string request;
    void operator()(const fedagent::Outcome<Message>& outcome) const {
      outcomes->endings_.push_back(outcome ? Ending{request, {}, (*outcome)->body}
                                           : Ending{request, outcome.error(), {}});
    }
  };

  Handler handler(std::string request) { return {this, std::move(request)}; }
  const std::vector<Ending>& all() const { return endings_; }
  std::size_t count(std::string_view request) const {
    return static_cast<std::size_t>(std::ranges::count(endings_, request, &Ending::request));
  }
  /// How the request ended; fails the test when it did not end exactly once.
  const Ending& of(std::string_view request) const {
    INFO("request ", std::string(request));
    REQUIRE(count(request) == 1);
    return *std::ranges::find(endings_, request, &Ending::request);
  }

 private:
  std::vector<Ending> endings_;
};

/// One agent on a driven loop, and what every story about it must come to.
/**
 * At its end: both sums of the counters hold, each accepted request has had exactly one outcome
 * once the agent is gone, and no message is left alive.
 */
class Story {
 public:
  explicit Story(const AgentOptions& options = {}, Agent::forwarder_type forward = {})
      : agent(std::in_place, "node", loop.executor(), std::move(forward), options) {}
  Story(const Story&) = delete;
  Story& operator=(const Story&) = delete;
  ~Story() {
    loop.drain();
    if (agent) {
      CHECK(agent->counters().balanced());
    }
    agent.reset();
    loop.drain();
    for (const auto& request : accepted_) {
      INFO("request ", request);
      CHECK(outcomes.count(request) ==
            static_cast<std::size_t>(std::ranges::count(accepted_, request)));
    }
    CHECK(alive() == 0);
  }

  /// A message that must be gone when the story ends.
  MessagePtr make(std::string request_id, std::string body = "work") {
    auto made = message(std::move(request_id), std::move(body));
    made_.push_back(made);
    return made;
  }
  std::size_t alive() const {
    return static_cast<std::size_t>(
        std::ranges::count_if(made_, [](const auto& weak) { return !weak.expired(); }));
  }

  /// Sends a request whose outcome is recorded.
  result<void> send(const std::string& request, const SendOptions& options = {}) {
    auto sent = agent->try_send(make(request), outcomes.handler(request), options);
    if (sent) {
      accepted_.push_back(request);
    }
    return sent;
  }
  /// As `send`, by a coroutine that may wait for room.
  Spawned<result<void>> send_async(const std::string& request, const SendOptions& options = {}) {
    return loop.spawn(agent->send_async(make(request), outcomes.handler(request), options));
  }
  /// Says that a request of `send_async` was accepted.
  void accepted(const std::string& request) { accepted_.push_back(request); }

  /// Takes the next task, which must be there.
  Task take() {
    auto taken = loop.run(agent->get_task());
    REQUIRE(taken.has_value());
    return *std::move(taken);
  }
  /// Takes the next task and delivers it. @return Its request id.
  std::string deliver() {
    auto task = take();
    auto id = task.message()->request_id;
    task.delivered();
    return id;
  }
  /// Takes the next task and loses it on the way to the node. @return Its request id.
  std::string lose() {
    const auto task = take();
    return task.message()->request_id;
  }
  ReplyDisposition reply(std::string request, std::string body = "done") {
    auto taken = loop.run(
        agent->on_reply(Message{.request_id = std::move(request), .body = std::move(body)}));
    REQUIRE(taken.has_value());
    return *taken;
  }
  /// Flushes at once; `Agent::flush` is the one for other threads.
  bool flush(std::string_view request, bool stopped = false) {
    return agent->Agent::NodeAgentAsync::flush(request, stopped);
  }
  NodeActiveStatus status() const { return agent->status(); }
  fedagent::Counters counters() const { return agent->counters(); }

  /// WAITING, then DISCONNECTED.
  void disconnect() {
    while (agent->open_polls() > 1) {
      agent->change_node_status_after_task();
    }
    agent->change_node_status_after_task();
    loop.advance(agent->disconnect_timeout());
    REQUIRE(status() == NodeActiveStatus::disconnected);
  }

  Loop loop;
  Outcomes outcomes;
  std::optional<Agent> agent;

 private:
  std::vector<std::string> accepted_;
  std::vector<std::weak_ptr<const Message>> made_;
};

}  // namespace test
