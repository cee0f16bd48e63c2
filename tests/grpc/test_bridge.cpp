#include <doctest/doctest.h>
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <source_location>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "fedagent/transport/grpc.hpp"
#include "support/grpc_client.hpp"

namespace {

namespace asio = boost::asio;

using Executor = asio::any_io_executor;
using Call = fedagent::grpc::Call<Executor>;
using CallPtr = std::shared_ptr<Call>;
using test::ClientCall;
using test::drive;

/// Waits for what other threads do; fails the test when that takes too long.
template <class There>
void await(There there, std::source_location where = std::source_location::current()) {
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!there() && std::chrono::steady_clock::now() < limit) {
    std::this_thread::yield();
  }
  INFO("called at line ", where.line());
  REQUIRE(there());
}

/// What a service does with a call, by the method that is called.
enum Route : int {
  echo,
  wait,
  flood,
  rest,
  fail,
  begun_late,
  // What needs no coroutine.
  at_once,
  slow_rest,
  forgotten,
  thrown,
};

struct Service {
  static int route(std::string_view method) noexcept {
    return method == "/test/echo"         ? echo
           : method == "/test/wait"       ? wait
           : method == "/test/flood"      ? flood
           : method == "/test/rest"       ? rest
           : method == "/test/fail"       ? fail
           : method == "/test/at_once"    ? at_once
           : method == "/test/slow_rest"  ? slow_rest
           : method == "/test/forgotten"  ? forgotten
           : method == "/test/thrown"     ? thrown
           : method == "/test/begun_late" ? begun_late
                                          : -1;
  }

  std::optional<asio::awaitable<void>> serve(CallPtr call) {
    served_in.insert(std::this_thread::get_id());
    if (call->route() == begun_late) {
      meanwhile();
    } else if (call->route() > begun_late) {
      serve_at_once(*call);
      return std::nullopt;
    }
    return run(this, std::move(call));
  }
  void serve_at_once(Call& call) {
    const Begun serving(this);
    switch (call.route()) {
      case at_once:
        return answer_at_once(call);
      case slow_rest:
        if (begun > 1) {
          return echo_at_once(call);
        }
        answer_at_once(call);
        meanwhile();
        await([&] { return call.due(); });  // until its next message has come; for tests only
        return;
      case thrown:
        throw std::runtime_error("a secret");
      default:
        return;
    }
  }
  void answer_at_once(Call& call) {
    ::grpc::ByteBuffer message;
    if (errors.emplace_back(call.try_read(message))) {
      return;
    }
    ::grpc::ByteBuffer no_message;
    errors.push_back(call.try_read(no_message));
    CHECK(call.rest(message));
  }
  void echo_at_once(Call& call) {
    ::grpc::ByteBuffer message;
    errors.push_back(call.try_read(message));
    errors.push_back(call.try_write(message));
    CHECK_FALSE(message.Valid());
  }

  /// Tells that a call is served, and that it is no more, in whatever way.
  struct Begun {
    explicit Begun(Service* by) : service(by) { ++service->begun; }
    Begun(const Begun&) = delete;
    Begun& operator=(const Begun&) = delete;
    ~Begun() { ++service->ended; }

    Service* service;
  };

  static asio::awaitable<void> run(Service* self, CallPtr call) {
    const Begun serving(self);
    auto reading = Call::read(call);
    auto message = co_await std::move(reading);
    self->errors.push_back(message.error());
    switch (call->route()) {
      case echo:
        while (message) {
          auto writing = Call::write(call, *message);
          co_await std::move(writing);
          auto next = Call::read(call);
          message = co_await std::move(next);
        }
        self->errors.push_back(message.error());
        break;
      case wait: {
        asio::steady_timer timer(co_await asio::this_coro::executor, std::chrono::hours(1));
        co_await timer.async_wait(asio::use_awaitable);
        break;
      }
      case flood: {
        const std::string megabyte(1 << 20, 'x');
        const ::grpc::Slice slice(megabyte);
        for (self->flooded = 0;; ++self->flooded) {
          auto writing = Call::write(call, ::grpc::ByteBuffer(&slice, 1));
          if (const auto written = co_await std::move(writing); !written) {
            self->errors.push_back(written.error());
            break;
          }
        }
        break;
      }
      case rest:
        while (message) {
          const std::string answer = "answer";
          const ::grpc::Slice slice(answer);
          if (call->rest(::grpc::ByteBuffer(&slice, 1))) {
            co_return;
          }
          auto next = Call::read(call);
          message = co_await std::move(next);
        }
        break;
      default:
        throw std::runtime_error("a secret");
    }
  }

  std::function<void()> meanwhile{};
  int begun = 0;
  int ended = 0;
  int flooded = 0;
  std::set<std::thread::id> served_in{};
  std::vector<boost::system::error_code> errors{};
};

using Server = fedagent::grpc::Server<Executor, Service>;

/// A loop and a server, each of which a test can end before the other.
struct Fixture {
  Fixture() {
    server.emplace(io->get_executor(), service);
    const auto listening = server->listen("127.0.0.1:0", ::grpc::InsecureServerCredentials());
    REQUIRE(listening);
    channel = test::connect(*listening);
  }

  template <class There>
  void until(There there, std::source_location where = std::source_location::current()) {
    drive(*io, there, where);
  }
  /// A call whose coroutine waits: for a read, for a timer, or for room to write.
  std::unique_ptr<ClientCall> waiting(const std::string& method) {
    auto call = std::make_unique<ClientCall>(channel, method, method != "/test/flood");
    call->write("first");
    const int before = service->begun;
    until([&] { return service->begun > before; });
    if (method == "/test/flood") {
      // It has written what the client has room for, and no more.
      for (int quiet = 0, last = -1; quiet < 5;) {
        io->run_for(std::chrono::milliseconds(20));
        quiet = service->flooded == last ? quiet + 1 : 0;
        last = service->flooded;
      }
      CHECK(service->flooded < 64);
    }
    return call;
  }

  std::shared_ptr<Service> service = std::make_shared<Service>();
  std::optional<asio::io_context> io{std::in_place};
  std::optional<Server> server{};
  std::shared_ptr<::grpc::Channel> channel{};
};

const std::string waiting_methods[] = {"/test/echo", "/test/wait", "/test/flood"};

}  // namespace

TEST_CASE("Messages go in and out, and the end of the stream ends the call with OK") {
  Fixture f;
  ClientCall call(f.channel, "/test/echo");
  for (std::size_t i = 1; i <= 3; ++i) {
    call.write("message " + std::to_string(i));
    f.until([&] { return call.messages().size() == i; });
  }
  call.end_writes();
  f.until([&] { return call.done(); });
  CHECK(call.status().ok());
  CHECK(call.messages() == std::vector<std::string>{"message 1", "message 2", "message 3"});
  CHECK(f.service->errors.back() == asio::error::eof);
  f.until([&] { return f.server->open() == 0; });
}

TEST_CASE("A large message arrives whole, and so does an empty one") {
  Fixture f;
  ClientCall call(f.channel, "/test/echo");
  const std::string large(3 << 20, 'x');
  call.write(large);
  f.until([&] { return call.messages().size() == 1; });
  call.write("");
  f.until([&] { return call.messages().size() == 2; });
  CHECK(call.messages().front() == large);
  CHECK(call.messages().back().empty());
}

TEST_CASE("A message larger than the server takes ends its call with RESOURCE_EXHAUSTED") {
  Fixture f;
  ClientCall call(f.channel, "/test/echo");
  call.write(std::string(5 << 20, 'x'));
  f.until([&] { return call.done(); });
  CHECK(call.status().error_code() == ::grpc::StatusCode::RESOURCE_EXHAUSTED);
  f.until([&] { return f.server->open() == 0; });
}

TEST_CASE("A method without a route is UNIMPLEMENTED, and needs no executor") {
  Fixture f;
  ClientCall call(f.channel, "/test/none");
  await([&] { return call.done(); });  // the loop does not run
  CHECK(call.status().error_code() == ::grpc::StatusCode::UNIMPLEMENTED);
  CHECK(f.service->begun == 0);
}

TEST_CASE("What a coroutine throws ends its call with INTERNAL, and is not told") {
  Fixture f;
  ClientCall call(f.channel, "/test/fail");
  call.write("go");
  f.until([&] { return call.done(); });
  CHECK(call.status().error_code() == ::grpc::StatusCode::INTERNAL);
  CHECK(call.status().error_message() == "internal error");
}

TEST_CASE("A service may serve a call at once, without a coroutine, and let it rest") {
  Fixture f;
  ClientCall call(f.channel, "/test/at_once");
  for (int i = 1; i <= 2; ++i) {
    call.write("message " + std::to_string(i));
    f.until([&] { return f.service->begun == i; });
    CHECK(f.server->open() == 0);
  }
  const boost::system::error_code none;
  const boost::system::error_code would_block = asio::error::would_block;
  CHECK(f.service->errors == std::vector{none, would_block, none, would_block});
  call.end_writes();
  await([&] { return call.done(); });  // the loop does not run
  CHECK(call.status().ok());
  CHECK(call.messages() == std::vector<std::string>{"message 2"});
}

TEST_CASE("Messages that come while nobody reads arrive in their order, and so does their end") {
  Fixture f;
  ClientCall call(f.channel, "/test/echo");
  std::vector<std::string> sent;
  for (int i = 0; i < 21; ++i) {
    sent.push_back("message " + std::to_string(i));
    call.write(sent.back());
  }
  call.end_writes();
  f.until([&] { return call.done(); });
  CHECK(call.status().ok());
  CHECK(call.messages() == sent);
}

TEST_CASE("The next message of a call may come while the service still lets it rest") {
  Fixture f;
  ClientCall call(f.channel, "/test/slow_rest");
  f.service->meanwhile = [&] { call.write("message 2"); };
  call.write("message 1");
  f.until([&] { return call.done(); });
  CHECK(call.status().ok());
  CHECK(call.messages() == std::vector<std::string>{"message 2"});
}

TEST_CASE("A service may stop the server before it returns the coroutine of a call") {
  Fixture f;
  f.service->meanwhile = [&] { f.server->stop(); };
  ClientCall call(f.channel, "/test/begun_late");
  call.write("hello");
  f.until([&] { return call.done(); });
  CHECK(call.status().error_message() == "the server has stopped");
  f.io->run();
  CHECK(f.service->errors.empty());  // it has not begun
}

TEST_CASE(
    "The server may stop before a coroutine starts, on an executor that never starts one at once") {
  asio::io_context io;
  auto service = std::make_shared<Service>();
  Server server(asio::require(io.get_executor(), asio::execution::blocking.never), service);
  const auto port = server.listen("127.0.0.1:0", ::grpc::InsecureServerCredentials());
  REQUIRE(port);
  service->meanwhile = [&] { asio::post(io, [&] { server.stop(); }); };
  ClientCall call(test::connect(*port), "/test/begun_late");
  call.write("hello");
  drive(io, [&] { return call.done(); });
  CHECK(call.status().error_message() == "the server has stopped");
  io.restart();
  io.run();
  CHECK(service->errors.empty());
}

TEST_CASE("A call that its service has forgotten ends with OK") {
  Fixture f;
  ClientCall call(f.channel, "/test/forgotten");
  call.write("hello");
  f.until([&] { return call.done(); });
  CHECK(call.status().ok());
  CHECK(f.service->begun == 1);
}

TEST_CASE("What a service throws before there is a coroutine ends the call with INTERNAL too") {
  Fixture f;
  ClientCall call(f.channel, "/test/thrown");
  call.write("go");
  f.until([&] { return call.done(); });
  CHECK(call.status().error_code() == ::grpc::StatusCode::INTERNAL);
  CHECK(call.status().error_message() == "internal error");
  CHECK(f.server->open() == 0);
}

TEST_CASE("A call without a message is served at its end") {
  Fixture f;
  ClientCall call(f.channel, "/test/echo");
  call.end_writes();
  f.until([&] { return call.done(); });
  CHECK(call.status().ok());
  CHECK(f.service->errors.front() == asio::error::eof);
}

TEST_CASE("A call at rest ends without the executor") {
  Fixture f;
  ClientCall call(f.channel, "/test/rest");
  call.write("one");
  f.until([&] { return f.service->ended == 1; });
  f.until([&] { return f.server->open() == 0; });
  CHECK(!call.done());
  call.end_writes();
  await([&] { return call.done(); });  // the loop does not run
  CHECK(call.status().ok());
  CHECK(call.messages() == std::vector<std::string>{"answer"});
  CHECK(f.service->begun == 1);
}

TEST_CASE("A call at rest is served anew when another message comes") {
  Fixture f;
  ClientCall call(f.channel, "/test/rest");
  for (int i = 1; i <= 3; ++i) {
    call.write("message");
    f.until([&] { return f.service->ended == i && f.server->open() == 0; });
  }
  call.end_writes();
  f.until([&] { return call.done(); });
  CHECK(call.status().ok());
}

TEST_CASE("A call at rest that is cancelled, or whose server stops, is over") {
  Fixture f;
  ClientCall cancelled(f.channel, "/test/rest");
  ClientCall stopped(f.channel, "/test/rest");
  cancelled.write("one");
  stopped.write("one");
  f.until([&] { return f.service->ended == 2 && f.server->open() == 0; });
  cancelled.cancel();
  f.until([&] { return cancelled.done(); });
  f.server->stop();
  f.until([&] { return stopped.done(); });
  CHECK(!stopped.status().ok());
  f.io->run();
}

TEST_CASE("A client that cancels cancels the coroutine, whatever that waits for") {
  for (const auto& method : waiting_methods) {
    CAPTURE(method);
    Fixture f;
    const auto call = f.waiting(method);
    CHECK(f.service->ended == 0);
    call->cancel();
    f.until([&] { return f.service->ended == 1 && f.server->open() == 0; });
  }
}

TEST_CASE("A client that is gone cancels the coroutine, whatever that waits for") {
  for (const auto& method : waiting_methods) {
    CAPTURE(method);
    Fixture f;
    f.waiting(method).reset();
    f.until([&] { return f.service->ended == 1 && f.server->open() == 0; });
  }
}

TEST_CASE("A client may cancel after any number of the loop's steps") {
  for (int steps = 0; steps < 12; ++steps) {
    for (const auto* method : {"/test/echo", "/test/wait", "/test/rest", "/test/at_once"}) {
      CAPTURE(steps);
      CAPTURE(method);
      Fixture f;
      ClientCall call(f.channel, method);
      call.write("first");
      for (int i = 0; i < steps; ++i) {
        f.io->run_one_for(std::chrono::milliseconds(1));
      }
      call.cancel();
      f.until([&] { return call.done() && f.server->open() == 0; });
      CHECK(f.service->begun == f.service->ended);
    }
  }
}

TEST_CASE("A client may be gone before the loop looks at its call") {
  for (const auto* method : {"/test/echo", "/test/wait", "/test/rest", "/test/at_once"}) {
    CAPTURE(method);
    Fixture f;
    ClientCall call(f.channel, method);
    call.write("first");
    ClientCall written(f.channel, "/test/none");  // comes after it, and needs no loop
    await([&] { return written.done(); });
    call.cancel();
    ClientCall cancelled(f.channel, "/test/none");
    await([&] { return call.done() && cancelled.done(); });
    ClientCall later(f.channel, "/test/echo");
    later.write("hello");
    f.until([&] { return !later.messages().empty() && f.server->open() == 1; });
    later.end_writes();
    f.until([&] { return later.done() && f.server->open() == 0; });
    CHECK(f.service->begun == f.service->ended);
    // gRPC ends when the last of its calls has.
    bool stopped = false;
    f.server->stop();
    asio::co_spawn(*f.io, f.server->wait_stopped(),
                   [&](const std::exception_ptr&) { stopped = true; });
    f.until([&] { return stopped; });
  }
}

TEST_CASE("Stop ends all calls with UNAVAILABLE, and then the loop runs out of work") {
  for (const auto& method : waiting_methods) {
    CAPTURE(method);
    Fixture f;
    const auto call = f.waiting(method);
    ClientCall silent(f.channel, method);  // has sent nothing
    f.server->stop();
    bool waited = false;
    asio::co_spawn(*f.io, f.server->wait_stopped(),
                   [&](const std::exception_ptr&) { waited = true; });
    f.io->restart();
    f.io->run();  // ends by itself
    CHECK(waited);
    CHECK(f.service->begun == f.service->ended);
    if (method != "/test/flood") {  // whose client has not read so far
      f.until([&] { return call->done(); });
      CHECK(call->status().error_code() == ::grpc::StatusCode::UNAVAILABLE);
    }
  }
}

TEST_CASE("A loop that is destroyed ends the calls, and the server may be destroyed later") {
  for (const auto& method : waiting_methods) {
    CAPTURE(method);
    Fixture f;
    const auto call = f.waiting(method);
    ClientCall silent(f.channel, method);
    ClientCall late(f.channel, method);
    late.write("nobody looks");
    f.io.reset();
    CHECK(f.service->begun == f.service->ended);
    if (method != "/test/flood") {
      await([&] { return call->done(); });  // gRPC's own threads tell it
      CHECK(call->status().error_code() == ::grpc::StatusCode::UNAVAILABLE);
    }
    ClientCall after(f.channel, method);
    after.write("too late");
    f.server.reset();
  }
}

TEST_CASE(
    "The server may be destroyed in the middle of calls, and the loop after any of its steps") {
  for (int steps = 0; steps < 8; ++steps) {
    for (const auto& method : waiting_methods) {
      CAPTURE(steps);
      CAPTURE(method);
      Fixture f;
      const auto call = f.waiting(method);
      ClientCall late(f.channel, method);
      late.write("nobody looks");
      f.server.reset();
      f.io->restart();
      for (int i = 0; i < steps; ++i) {
        f.io->poll_one();
      }
      f.io.reset();
      CHECK(f.service->begun == f.service->ended);
    }
  }
}

TEST_CASE("A loop that stands still, with clients that come and go, goes on when it runs again") {
  Fixture f;
  {
    std::vector<std::unique_ptr<ClientCall>> calls;
    for (int i = 0; i < 20; ++i) {
      calls.push_back(std::make_unique<ClientCall>(f.channel, "/test/echo"));
      calls.back()->write("into the void");
    }
  }
  ClientCall call(f.channel, "/test/echo");
  call.write("hello");
  f.until([&] { return call.messages().size() == 1; });
}

TEST_CASE("The executor may be a strand") {
  asio::io_context io;
  auto service = std::make_shared<Service>();
  Server server(asio::make_strand(io), service);
  const auto port = server.listen("127.0.0.1:0", ::grpc::InsecureServerCredentials());
  REQUIRE(port);
  ClientCall call(test::connect(*port), "/test/echo");
  call.write("hello");
  drive(io, [&] { return call.messages().size() == 1; });
  server.stop();
  io.restart();
  io.run();
}

TEST_CASE(
    "The executor may be a shared loop: gRPC's threads serve calls, and it ends as any loop") {
  // [shared_loop]
  asio::io_context io;
  fedagent::grpc::SharedLoop loop(io);
  auto service = std::make_shared<Service>();
  Server server(loop.get_executor(), service);
  // [/shared_loop]
  const auto port = server.listen("127.0.0.1:0", ::grpc::InsecureServerCredentials());
  REQUIRE(port);
  std::thread running([&] { loop.run(); });
  const auto loop_thread = running.get_id();
  const auto end = [&] {
    if (running.joinable()) {
      asio::post(loop.get_executor(), [&] { server.stop(); });
      running.join();
    }
  };
  const std::shared_ptr<void> when_a_check_fails(nullptr, [&](void*) { end(); });
  const auto channel = test::connect(*port);
  constexpr std::size_t rounds = 50;
  for (std::size_t i = 0; i < rounds; ++i) {
    ClientCall left(channel, waiting_methods[i % 3]);  // its end cancels it, whatever it waits for
    left.write("first");
    ClientCall call(channel, "/test/echo");
    ClientCall at_rest(channel, "/test/at_once");
    at_rest.write("hello");
    at_rest.end_writes();
    await([&] { return at_rest.done(); });
    CHECK(at_rest.status().ok());
    for (std::size_t answers = 1; answers <= 3; ++answers) {
      call.write("hello");
      await([&] { return call.messages().size() == answers; });
    }
    call.end_writes();
    await([&] { return call.done(); });
    CHECK(call.status().ok());
  }
  end();
  CHECK(service->begun == service->ended);
  CHECK(service->begun >= static_cast<int>(rounds));
  service->served_in.erase(loop_thread);
  CHECK_FALSE(service->served_in.empty());
}

TEST_CASE("A port is never shared, and the error says so (E23)") {
  Fixture f;
  asio::io_context io;
  Server first(io.get_executor(), std::make_shared<Service>());
  const auto port = first.listen("127.0.0.1:0", ::grpc::InsecureServerCredentials());
  REQUIRE(port);
  Server second(io.get_executor(), std::make_shared<Service>());
  const auto refused =
      second.listen("127.0.0.1:" + std::to_string(*port), ::grpc::InsecureServerCredentials());
  CHECK(refused.error() == asio::error::address_in_use);
  CHECK(first.listen("127.0.0.1:0", ::grpc::InsecureServerCredentials()).error() ==
        asio::error::already_open);
  first.stop();
  CHECK(first.listen("127.0.0.1:0", ::grpc::InsecureServerCredentials()).error() ==
        fedagent::errc::stopped);
  io.run();
}

TEST_CASE("Addresses and credentials that gRPC cannot use are errors") {
  asio::io_context io;
  Server server(io.get_executor(), std::make_shared<Service>());
  CHECK(server.listen("999.1.2.3:0", ::grpc::InsecureServerCredentials()).has_error());
  CHECK(server.listen("192.0.2.1:0", ::grpc::InsecureServerCredentials()).error() ==
        boost::system::errc::address_not_available);
  const auto nonsense =
      fedagent::grpc::credentials({.certificate_chain = "no", .private_key = "no"});
  CHECK(server.listen("127.0.0.1:0", nonsense).error() == boost::system::errc::invalid_argument);
  CHECK(server.listen("127.0.0.1:0", ::grpc::InsecureServerCredentials()).has_value());
}
