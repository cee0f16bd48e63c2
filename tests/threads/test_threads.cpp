// What other threads may call while the loop runs in its own. ThreadSanitizer runs these.

#include <doctest/doctest.h>

#include <array>
#include <atomic>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_future.hpp>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "fedagent/fedagent.hpp"
#include "fedagent/transport/memory.hpp"
#include "support/printing.hpp"

namespace {

using namespace std::chrono_literals;
using fedagent::errc;
using fedagent::memory::Message;
using MessagePtr = fedagent::MessagePtr<Message>;
using Outcome = fedagent::Outcome<Message>;

using LoopExecutor = boost::asio::io_context::executor_type;
using Strand = boost::asio::strand<LoopExecutor>;
template <class Executor>
using StoreOn = fedagent::AgentStore<fedagent::memory::Transport<Message, Executor>>;
template <class Executor>
using AgentOn = fedagent::NodeAgent<fedagent::memory::Transport<Message, Executor>>;

constexpr int threads = 4;
constexpr int sends_of_each = 200;

MessagePtr message(std::string id, std::string body = "work") {
  return std::make_shared<const Message>(
      Message{.request_id = std::move(id), .body = std::move(body)});
}

fedagent::AgentOptions roomy() {
  fedagent::AgentOptions options;
  options.max_queued_messages = 0;
  return options;
}
fedagent::StoreOptions roomy_store() {
  fedagent::StoreOptions options;
  options.agent = roomy();
  return options;
}

/// A loop that runs in threads of its own until this is destroyed.
class Running {
 public:
  explicit Running(int count = 1) {
    for (int i = 0; i < count; ++i) {
      threads_.emplace_back([this] { io.run(); });
    }
  }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;
  ~Running() { join(); }

  /// Lets the loop run out of work, and ends it.
  void join() {
    work_.reset();
    for (auto& thread : threads_) {
      if (thread.joinable()) {
        thread.join();
      }
    }
  }
  /// Runs a function on an executor and waits for what it returns.
  template <class Executor, class Function>
  static auto on(const Executor& executor, Function function) {
    std::packaged_task<std::invoke_result_t<Function>()> task(std::move(function));
    auto future = task.get_future();
    boost::asio::post(executor, [task = std::move(task)]() mutable { task(); });
    return future.get();
  }

  boost::asio::io_context io;

 private:
  boost::asio::executor_work_guard<LoopExecutor> work_{io.get_executor()};
  std::vector<std::thread> threads_;
};

void in_threads(int count, const std::function<void(int)>& function) {
  std::vector<std::thread> all;
  for (int i = 0; i < count; ++i) {
    all.emplace_back(function, i);
  }
  for (auto& thread : all) {
    thread.join();
  }
}

// A node that polls and replies until it has worked off so many requests.
template <class Store>
typename Store::template awaitable<int> work_off(Store* store, std::string id, int requests,
                                                 std::vector<std::string>* order) {
  fedagent::memory::Node<Store> node(*store, std::move(id));
  int done = 0;
  while (done < requests) {
    auto task = co_await node.poll();
    if (!task) {
      if (task.error() == errc::poll_ended) {
        continue;
      }
      break;
    }
    if (order != nullptr) {
      order->push_back((*task)->body);
    }
    Message answer;
    answer.request_id = (*task)->request_id;
    answer.body = "done";
    auto replied = co_await node.reply(std::move(answer));
    done += replied && *replied == fedagent::ReplyDisposition::delivered ? 1 : 0;
  }
  co_return done;
}

TEST_CASE("threads: sends, flushes and status of several threads while the loop runs in another") {
  Running loop;
  std::atomic<int> outcomes = 0;
  std::atomic<int> accepted = 0;
  std::atomic<int> flushed = 0;
  {
    auto agent = std::make_optional<AgentOn<LoopExecutor>>(
        "n", loop.io.get_executor(), AgentOn<LoopExecutor>::forwarder_type(), roomy());
    in_threads(threads, [&](int thread) {
      for (int i = 0; i < sends_of_each; ++i) {
        const auto id = std::to_string(thread) + " " + std::to_string(i);
        auto sent = agent->send(message(id), [&](const Outcome& outcome) {
          CHECK(outcome.has_error());
          ++outcomes;
        });
        if (i % 4 == 0) {
          flushed += agent->flush(id, i % 8 == 0).get() ? 1 : 0;
        }
        const auto status = agent->status();
        accepted += static_cast<int>(status) > 0 && sent.get() ? 1 : 0;
      }
    });
    CHECK(accepted == threads * sends_of_each);
    CHECK(flushed == threads * sends_of_each / 4);
    CHECK(outcomes == flushed);
    // The last handle goes on the loop.
    Running::on(loop.io.get_executor(), [&] { agent.reset(); });
  }
  CHECK(outcomes == accepted);
}

TEST_CASE("threads, C16: the sends of one thread keep their order") {
  Running loop;
  StoreOn<LoopExecutor> store(loop.io.get_executor(), roomy_store());
  const auto agent =
      Running::on(loop.io.get_executor(), [&] { return store.retrieve("n").value(); });
  std::atomic<int> outcomes = 0;
  in_threads(threads, [&](int thread) {
    for (int i = 0; i < sends_of_each; ++i) {
      // By the agent and by the store, in turn: one order for both.
      const auto body = std::to_string(thread) + " " + std::to_string(i);
      const auto count = [&](const Outcome& outcome) { outcomes += outcome ? 1 : 0; };
      if (i % 2 == 0) {
        agent.send(message(body, body), count);
      } else {
        store.send("n", message(body, body), count);
      }
    }
  });
  std::vector<std::string> order;
  auto worked = boost::asio::co_spawn(
      loop.io, work_off(&store, "n", threads * sends_of_each, &order), boost::asio::use_future);
  CHECK(worked.get() == threads * sends_of_each);
  CHECK(outcomes == threads * sends_of_each);
  std::array<int, threads> next{};
  for (const auto& body : order) {
    const auto thread = static_cast<std::size_t>(body.front() - '0');
    CHECK(std::stoi(body.substr(2)) == next[thread]++);
  }
  Running::on(loop.io.get_executor(), [&] { store.stop(); });
  loop.join();  // the last handles go when the loop no longer runs
}

TEST_CASE("threads: a node works while other threads send to it and watch its status") {
  Running loop;
  StoreOn<LoopExecutor> store(loop.io.get_executor(), roomy_store());
  const auto agent =
      Running::on(loop.io.get_executor(), [&] { return store.retrieve("n").value(); });
  auto worked = boost::asio::co_spawn(
      loop.io, work_off(&store, "n", threads * sends_of_each, nullptr), boost::asio::use_future);
  std::atomic<int> outcomes = 0;
  in_threads(threads, [&](int thread) {
    const auto mine = agent;  // each thread has a handle
    for (int i = 0; i < sends_of_each; ++i) {
      const auto id = std::to_string(thread) + " " + std::to_string(i);
      mine.send(message(id), [&](const Outcome& outcome) { outcomes += outcome ? 1 : 0; });
      CHECK(mine.status() != fedagent::NodeActiveStatus::disconnected);
      CHECK(mine.id() == "n");
    }
  });
  CHECK(worked.get() == threads * sends_of_each);
  CHECK(outcomes == threads * sends_of_each);
  const auto counters = Running::on(loop.io.get_executor(), [&] { return store.counters(); });
  CHECK(counters.balanced());
  CHECK(counters.replied == threads * sends_of_each);
  Running::on(loop.io.get_executor(), [&] { store.stop(); });
  loop.join();  // the last handles go when the loop no longer runs
}

TEST_CASE("threads: a refusal reaches the future and the handler") {
  Running loop;
  StoreOn<LoopExecutor> store(loop.io.get_executor());
  const auto agent =
      Running::on(loop.io.get_executor(), [&] { return store.retrieve("n").value(); });
  std::atomic<int> refusals = 0;
  const auto refused = [&](const Outcome& outcome) { refusals += outcome.has_error() ? 1 : 0; };
  CHECK(agent.send(message("r")).get());
  CHECK(agent.send(message("r"), refused).get().error() == errc::duplicate_request_id);
  CHECK(agent.send(message(""), refused).get().error() == errc::request_id_missing);
  store.send("unknown", message("r"), refused);
  Running::on(loop.io.get_executor(), [&] { store.stop(); });
  CHECK(agent.send(message("r2"), refused).get().error() == errc::stopped);
  CHECK_FALSE(agent.flush("r").get());
  CHECK(refusals == 4);
  loop.join();
}

TEST_CASE("threads: status does not block and does not deadlock, on the loop's own thread too") {
  Running loop;
  const AgentOn<LoopExecutor> agent("n", loop.io.get_executor());
  CHECK(agent.status() == fedagent::NodeActiveStatus::active);
  CHECK(Running::on(loop.io.get_executor(), [&] { return agent.status(); }) ==
        fedagent::NodeActiveStatus::active);
  Running::on(loop.io.get_executor(), [&] {
    agent.set_active();
    agent.change_node_status_after_task();
  });
  CHECK(agent.status() == fedagent::NodeActiveStatus::waiting);
  Running::on(loop.io.get_executor(), [&] { agent.stop(); });
  loop.join();  // the last handles go when the loop no longer runs
}

TEST_CASE("threads: a send whose loop ends before it runs is a broken promise, not a hang") {
  std::future<boost::system::result<void>> sent;
  {
    boost::asio::io_context io;
    const AgentOn<LoopExecutor> agent("n", io.get_executor());
    sent = agent.send(message("r"));
  }
  CHECK_THROWS_AS(sent.get(), std::future_error);
}

TEST_CASE("threads: a strand on a loop with two threads is as good as a loop with one") {
  Running loop(2);
  const auto strand = boost::asio::make_strand(loop.io);
  StoreOn<Strand> store(strand, roomy_store());
  const auto agent = Running::on(strand, [&] { return store.retrieve("n").value(); });
  std::vector<std::string> order;
  auto worked = boost::asio::co_spawn(
      strand, work_off(&store, "n", threads * sends_of_each, &order), boost::asio::use_future);
  std::atomic<int> outcomes = 0;
  std::atomic<bool> on_strand = true;
  in_threads(threads, [&](int thread) {
    for (int i = 0; i < sends_of_each; ++i) {
      const auto body = std::to_string(thread) + " " + std::to_string(i);
      agent.send(message(body, body), [&](const Outcome& outcome) {
        outcomes += outcome ? 1 : 0;
        on_strand = on_strand && strand.running_in_this_thread();
      });
    }
  });
  CHECK(worked.get() == threads * sends_of_each);
  CHECK(outcomes == threads * sends_of_each);
  CHECK(on_strand);
  Running::on(strand, [&] { store.stop(); });
  loop.join();  // the last handles go when the loop no longer runs
}

TEST_CASE("threads: waits, deadlines and status events on a strand") {
  Running loop(2);
  const auto strand = boost::asio::make_strand(loop.io);
  auto options = roomy_store();
  options.agent.disconnect_timeout = 1ms;
  options.agent.poll_timeout = 1ms;
  StoreOn<Strand> store(strand, options);
  const auto agent = Running::on(strand, [&] { return store.retrieve("n").value(); });
  fedagent::memory::Node<StoreOn<Strand>> node(store, "n");
  auto lost = boost::asio::co_spawn(
      strand, agent.wait_for(fedagent::NodeActiveStatus::disconnected), boost::asio::use_future);
  auto there = boost::asio::co_spawn(strand, store.wait_for_nodes(1), boost::asio::use_future);
  auto polled = boost::asio::co_spawn(strand, node.poll(), boost::asio::use_future);
  CHECK(there.get());
  CHECK(polled.get().error() == errc::poll_ended);
  CHECK(lost.get());
  CHECK(agent.status() == fedagent::NodeActiveStatus::disconnected);
  auto request =
      boost::asio::co_spawn(strand, agent.request(message("r")), boost::asio::use_future);
  CHECK(request.get().error() == errc::disconnected);
  Running::on(strand, [&] { store.stop(); });
  loop.join();  // the last handles go when the loop no longer runs
}

TEST_CASE("threads: two stores on two strands of one loop know nothing of each other") {
  Running loop(2);
  std::array strands{boost::asio::make_strand(loop.io), boost::asio::make_strand(loop.io)};
  std::array<std::unique_ptr<StoreOn<Strand>>, 2> stores;
  std::array<std::future<int>, 2> worked;
  for (std::size_t i = 0; i < 2; ++i) {
    stores[i] = std::make_unique<StoreOn<Strand>>(strands[i], roomy_store());
    Running::on(strands[i], [&] { return stores[i]->retrieve("n").has_value(); });
    worked[i] = boost::asio::co_spawn(
        strands[i], work_off(stores[i].get(), "n", threads * sends_of_each / 2, nullptr),
        boost::asio::use_future);
  }
  in_threads(threads, [&](int thread) {
    for (int i = 0; i < sends_of_each; ++i) {
      stores[static_cast<std::size_t>(i % 2)]->send(
          "n", message(std::to_string(thread) + " " + std::to_string(i)));
    }
  });
  for (std::size_t i = 0; i < 2; ++i) {
    CHECK(worked[i].get() == threads * sends_of_each / 2);
    Running::on(strands[i], [&] { stores[i].reset(); });
  }
}

TEST_CASE("threads: two stores, each on a thread of its own, that send to each other") {
  std::array<Running, 2> loops;
  std::array<std::unique_ptr<StoreOn<LoopExecutor>>, 2> stores;
  std::array<std::future<int>, 2> worked;
  for (std::size_t i = 0; i < 2; ++i) {
    stores[i] = std::make_unique<StoreOn<LoopExecutor>>(loops[i].io.get_executor(), roomy_store());
    Running::on(loops[i].io.get_executor(), [&] { return stores[i]->retrieve("n").has_value(); });
    worked[i] =
        boost::asio::co_spawn(loops[i].io, work_off(stores[i].get(), "n", sends_of_each, nullptr),
                              boost::asio::use_future);
  }
  // One shared message for both, and the handler of the one sends to the other.
  std::atomic<int> outcomes = 0;
  for (int i = 0; i < sends_of_each; ++i) {
    const auto shared = message(std::to_string(i));
    stores[0]->send("n", shared, [&, shared](const Outcome& first) {
      CHECK(first);
      stores[1]->send("n", shared, [&](const Outcome& second) {
        CHECK(second);
        ++outcomes;
      });
    });
  }
  CHECK(worked[0].get() == sends_of_each);
  CHECK(worked[1].get() == sends_of_each);
  CHECK(outcomes == sends_of_each);
  for (std::size_t i = 0; i < 2; ++i) {
    Running::on(loops[i].io.get_executor(), [&] { stores[i].reset(); });
  }
}

TEST_CASE("threads: a message is read by several agents, its count kept by any thread") {
  std::array<Running, 2> loops;
  auto shared = message("r");
  const std::weak_ptr<const Message> alive = shared;
  {
    std::array<std::optional<AgentOn<LoopExecutor>>, 2> agents;
    for (std::size_t i = 0; i < 2; ++i) {
      agents[i].emplace("n", loops[i].io.get_executor());
    }
    in_threads(2, [&](int i) { CHECK(agents[static_cast<std::size_t>(i)]->send(shared).get()); });
    shared.reset();
    CHECK_FALSE(alive.expired());
    for (std::size_t i = 0; i < 2; ++i) {
      Running::on(loops[i].io.get_executor(), [&] { agents[i].reset(); });
    }
  }
  CHECK(alive.expired());
}

}  // namespace
