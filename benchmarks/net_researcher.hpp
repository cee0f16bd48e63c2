#pragma once

// The researcher of the network benchmarks on the library's servers, whatever the transport.
#include <boost/asio/awaitable.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <exception>
#include <functional>
#include <utility>

#include "fedagent/agent_store.hpp"
#include "net_server.hpp"

namespace net {

/// Keeps so many requests to each node open.
template <class Store>
class Researcher {
  using Agent = typename Store::agent_type;

 public:
  using MakeRequest = std::function<typename Store::message_ptr()>;
  using IsWhole = std::function<bool(const typename Store::message_type& reply)>;

  /**
   * @param make_request The next request, with an id of its own.
   * @param is_whole Whether a reply has the bytes that it should have.
   */
  Researcher(boost::asio::io_context& io, Store& store, const ServerArguments& arguments,
             MakeRequest make_request, IsWhole is_whole)
      : arguments_(arguments),
        meter_(arguments),
        make_request_(std::move(make_request)),
        is_whole_(std::move(is_whole)),
        io_(io),
        store_(store) {}

  /// To be called when the server listens: the memory of now is what it takes without connections.
  void start() {
    before_ = Memory::now();
    boost::asio::co_spawn(store_.get_executor(), run(), [](std::exception_ptr thrown) {
      if (thrown) {
        std::rethrow_exception(thrown);
      }
    });
  }
  /// To be called when the loop has ended.
  void print() {
    if (!arguments_.idle()) {
      meter_.print();
    }
  }

 private:
  typename Store::template awaitable<void> run() {
    const auto there = co_await store_.wait_for_nodes(arguments_.nodes);
    if (!there) {
      give_up(there.error().message());
    }
    if (arguments_.idle()) {
      boost::asio::steady_timer timer(store_.get_executor(), settle);
      co_await timer.async_wait(boost::asio::deferred);
      print_idle(before_, arguments_.nodes);
      io_.stop();
      co_return;
    }
    store_.for_each([this](const Agent& agent) {
      for (std::size_t i = 0; i < arguments_.outstanding; ++i) {
        send(agent);
      }
    });
  }

  void send(Agent agent) {
    const auto sent = agent.try_send(
        make_request_(),
        [this, agent, at = Clock::now()](const typename Store::outcome_type& outcome) {
          replied(agent, at, outcome);
        });
    if (!sent) {
      give_up(sent.error().message());
    }
  }

  void replied(const Agent& agent, Clock::time_point sent,
               const typename Store::outcome_type& outcome) {
    if (finished_) {
      return;
    }
    if (!outcome) {
      give_up(outcome.error().message());
    }
    if (!is_whole_(**outcome)) {
      give_up("a reply of another size");
    }
    if (meter_.count(sent)) {
      send(agent);
    } else {
      finished_ = true;
      io_.stop();
    }
  }

  const ServerArguments& arguments_;
  Meter meter_;
  Memory before_{};
  MakeRequest make_request_;
  IsWhole is_whole_;
  boost::asio::io_context& io_;
  Store& store_;
  bool finished_ = false;
};

}  // namespace net
