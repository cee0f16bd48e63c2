// Threads that are lent to a loop, as those of gRPC are. ThreadSanitizer runs these.

#include <doctest/doctest.h>

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

#include "fedagent/transport/grpc/mailbox.hpp"
#include "fedagent/transport/grpc/shared_loop.hpp"

namespace {

namespace asio = boost::asio;
using fedagent::grpc::SharedLoop;
using Box = fedagent::grpc::detail::Mailbox<SharedLoop::executor_type>;

struct News final : fedagent::grpc::detail::Mail {
  explicit News(std::function<void()> then) : on_arrival(std::move(then)) {}
  void arrive() noexcept override { on_arrival(); }
  void come_back() noexcept override {}

  std::function<void()> on_arrival;
};

struct Fixture {
  Fixture() = default;
  Fixture(const Fixture&) = delete;
  Fixture& operator=(const Fixture&) = delete;
  ~Fixture() {
    stop();
    box->close();
  }

  /// Runs the loop in a thread of its own. When this returns it runs, and the strand is idle.
  void start() {
    running = std::thread([this] {
      loop.run();
      returned = true;
    });
    std::promise<void> runs;
    asio::post(io, [&runs] { runs.set_value(); });
    runs.get_future().wait();
  }
  void stop() {
    io.stop();
    if (running.joinable()) {
      running.join();
    }
  }
  /// Brings news in a thread of its own.
  std::thread bring(std::function<void()> then) {
    return std::thread(
        [box = box, news = std::make_shared<News>(std::move(then))] { box->send(news); });
  }

  asio::io_context io{};
  SharedLoop loop{io};
  std::shared_ptr<Box> box = std::make_shared<Box>(loop.get_executor());
  asio::executor_work_guard<asio::io_context::executor_type> work{io.get_executor()};
  std::atomic<bool> returned = false;
  std::thread running{};
};

}  // namespace

TEST_CASE("A shared loop: who brings news runs it, and what is posted on the way") {
  Fixture fixture;
  fixture.start();
  std::promise<std::thread::id> ran;
  auto bringing = fixture.bring([&] {
    asio::post(fixture.loop.get_executor(), [&] { ran.set_value(std::this_thread::get_id()); });
  });
  const auto bringer = bringing.get_id();
  CHECK(ran.get_future().get() == bringer);
  bringing.join();
}

TEST_CASE("A shared loop: news that comes while another thread runs handlers is left to that one") {
  Fixture fixture;
  fixture.start();
  std::promise<void> inside;
  std::promise<void> leave;
  auto slow = fixture.bring([&] {
    inside.set_value();
    leave.get_future().wait();
  });
  const auto slow_id = slow.get_id();
  inside.get_future().wait();
  std::promise<std::thread::id> ran;
  fixture.bring([&] { ran.set_value(std::this_thread::get_id()); }).join();  // does not wait
  leave.set_value();
  CHECK(ran.get_future().get() == slow_id);
  slow.join();
}

TEST_CASE("A shared loop: no thread is lent before it runs") {
  Fixture fixture;
  bool arrived = false;  // written by this thread only, as ThreadSanitizer sees
  fixture.bring([&] { arrived = true; }).join();
  CHECK_FALSE(arrived);
  fixture.work.reset();
  CHECK(fixture.loop.run() > 0);
  CHECK(arrived);
}

TEST_CASE("A shared loop: run returns when the handlers in lent threads have, and lends no more") {
  Fixture fixture;
  fixture.start();
  std::promise<void> inside;
  bool returned_before = true;
  bool rest_ran = false;
  auto bringing = fixture.bring([&] {
    asio::post(fixture.loop.get_executor(), [&] { rest_ran = true; });
    inside.set_value();
    while (!fixture.io.stopped()) {
      std::this_thread::yield();
    }
    for (int i = 0; i < 1000; ++i) {
      std::this_thread::yield();
    }
    returned_before = fixture.returned;
  });
  inside.get_future().wait();
  fixture.stop();
  CHECK_FALSE(returned_before);
  CHECK_FALSE(rest_ran);
  bringing.join();
  CHECK_FALSE(rest_ran);

  fixture.work.reset();
  fixture.io.restart();
  fixture.loop.run();
  CHECK(rest_ran);
}

TEST_CASE("A shared loop: what is thrown in a lent thread comes out of run, and the rest goes on") {
  std::function<void(Fixture&)> before_it;
  SUBCASE("while there is other work") {
    before_it = [](Fixture&) {};
  }
  SUBCASE("by the last work") {
    before_it = [](Fixture& fixture) { fixture.work.reset(); };
  }
  SUBCASE("when the loop is stopped") {
    before_it = [](Fixture& fixture) { fixture.io.stop(); };
  }
  Fixture fixture;
  bool rest_ran = false;
  std::thread::id thrown_in;
  std::promise<void> runs;
  asio::post(fixture.io, [&] { runs.set_value(); });
  auto bringing = std::thread([&] {
    runs.get_future().wait();
    fixture
        .bring([&] {
          asio::post(fixture.loop.get_executor(), [&] {
            thrown_in = std::this_thread::get_id();
            before_it(fixture);
            throw std::runtime_error("thrown there");
          });
        })
        .join();
  });
  CHECK_THROWS_WITH_AS(fixture.loop.run(), "thrown there", std::runtime_error);
  bringing.join();
  CHECK(thrown_in != std::this_thread::get_id());
  asio::post(fixture.loop.get_executor(), [&] { rest_ran = true; });
  fixture.work.reset();
  fixture.io.restart();
  fixture.loop.run();
  CHECK(rest_ran);
}

TEST_CASE("A shared loop: a thread is lent for a few rounds, however much there is to do") {
  Fixture fixture;
  fixture.start();
  const auto loop_thread = fixture.running.get_id();
  int in_loop_thread = 0;
  int in_lent_thread = 0;
  std::promise<void> done;
  std::function<void()> again = [&] {
    ++(std::this_thread::get_id() == loop_thread ? in_loop_thread : in_lent_thread);
    if (in_loop_thread + in_lent_thread < 10'000) {
      asio::post(fixture.loop.get_executor(), again);
    } else {
      done.set_value();
    }
  };
  fixture.bring(again).join();
  done.get_future().wait();
  fixture.stop();
  CHECK(in_lent_thread > 1);
  CHECK(in_lent_thread < 100);
}

TEST_CASE("A shared loop: a lent thread has nothing to do with other loops") {
  Fixture one;
  Fixture other;
  one.start();
  other.start();
  std::promise<std::thread::id> ran;
  bool in_time = false;
  auto bringing = one.bring([&] {
    asio::post(other.loop.get_executor(), [&] { ran.set_value(std::this_thread::get_id()); });
    auto future = ran.get_future();  // a handler should not wait, but this one tells
    in_time = future.wait_for(std::chrono::seconds(30)) == std::future_status::ready;
    CHECK((!in_time || future.get() == other.running.get_id()));
  });
  bringing.join();
  CHECK(in_time);
}

TEST_CASE("A shared loop: it may end while threads bring news, and the loop may be destroyed") {
  for (int i = 0; i < 30; ++i) {
    auto io = std::make_unique<asio::io_context>();
    auto loop = std::make_unique<SharedLoop>(*io);
    const auto box = std::make_shared<Box>(loop->get_executor());
    int arrived = 0;
    std::atomic<bool> over = false;
    std::vector<std::thread> bringing;
    for (int thread = 0; thread < 2; ++thread) {
      bringing.emplace_back([&, box] {
        while (!over) {
          box->send(std::make_shared<News>([&] {
            if (++arrived == 200) {
              io->stop();
            }
          }));
        }
      });
    }
    {
      const auto work = asio::make_work_guard(loop->get_executor());
      loop->run();
    }
    CHECK(arrived >= 200);
    loop.reset();
    io.reset();
    over = true;
    for (auto& thread : bringing) {
      thread.join();
    }
  }
}

TEST_CASE("A shared loop: handlers run one at a time, with many threads and timers") {
  constexpr int threads = 4;
  constexpr int news_of_each = 500;
  Fixture fixture;
  fixture.start();
  int arrived = 0;  // not atomic: ThreadSanitizer looks
  int fired = 0;
  std::promise<void> all;
  const auto count = [&](int& number) {
    ++number;
    if (arrived + fired == 2 * threads * news_of_each) {
      all.set_value();
    }
  };
  std::vector<std::thread> bringing;
  for (int i = 0; i < threads; ++i) {
    bringing.emplace_back([&] {
      for (int n = 0; n < news_of_each; ++n) {
        fixture.box->send(std::make_shared<News>([&] {
          count(arrived);
          auto timer = std::make_shared<asio::steady_timer>(fixture.loop.get_executor(),
                                                            std::chrono::microseconds(1));
          timer->async_wait([&count, &fired, timer](auto) { count(fired); });
        }));
      }
    });
  }
  for (auto& thread : bringing) {
    thread.join();
  }
  all.get_future().wait();
  fixture.stop();
  CHECK(arrived == threads * news_of_each);
  CHECK(fired == threads * news_of_each);
}
