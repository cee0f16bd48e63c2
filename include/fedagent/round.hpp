#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/this_coro.hpp>
#include <concepts>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fedagent/agent_store.hpp"
#include "fedagent/detail/round_engine.hpp"
#include "fedagent/detail/waiter.hpp"
#include "fedagent/round_policy.hpp"
#include "fedagent/round_result.hpp"

namespace fedagent {

/// How the rounds of one `Rounds` are held.
template <class M>
struct RoundsOptions {
  /// The most late replies that wait to be read; the oldest are dropped. Zero: none is taken.
  std::size_t late_capacity = 1024;
  /// Whether a reply tells of an error; empty: none does. A reply for which it throws does, and
  /// what it throws goes to `on_handler_error`.
  std::function<bool(const M&)> is_error = detail::is_error_reply<M>;
};

/// Rounds over the nodes of a store: one after another, or several at a time.
/**
 * A round sends a message to many nodes and ends when enough have answered, by its `RoundPolicy`.
 * The rounds are numbered, and share the late replies and the reply times of the nodes. A cheap
 * handle: copies are the same rounds.
 *
 * @par Lifetimes
 * The store may go first: rounds that go on end with `RoundEnd::stopped`. The last handle may go
 * while a round goes on.
 * @par Thread safety
 * Unsafe: all calls on the store's executor.
 */
template <class Transport_, class Message_ = typename detail::message_of<Transport_>::type,
          class Observer_ = NoObserver>
class Rounds {
  using Series = detail::RoundSeries<Transport_, Message_, Observer_>;
  using Engine = detail::RoundEngine<Transport_, Message_, Observer_>;

 public:
  using store_type = AgentStore<Transport_, Message_, Observer_>;
  using message_type = Message_;
  using message_ptr = MessagePtr<message_type>;
  using row_type = RoundRow<message_type>;
  using result_type = RoundResult<message_type>;
  using late_type = typename Series::LateStream;
  template <class T>
  using awaitable = typename store_type::template awaitable<T>;

  explicit Rounds(const store_type& store, RoundsOptions<message_type> options = {})
      : series_(std::make_shared<Series>(store.context(), options.late_capacity,
                                         std::move(options.is_error))) {}

  /// Asks the nodes and waits for the end of the round.
  /**
   * @param nodes One that is named twice is asked twice, which takes two request ids.
   * @param message What every node is sent, in one copy, under one request id.
   * @return A row for each node, whatever became of it.
   * @par Cancellation
   * All types; the result says `RoundEnd::cancelled`. What is queued is taken back; replies to what
   * is out are late ones to the agents.
   * @par Errors
   * `std::invalid_argument` when the policy is out of range. All else is in the rows.
   * @par Source
   * F1 to F6, F8.
   */
  awaitable<result_type> run(std::vector<std::string> nodes, Sendable<message_type> message,
                             RoundPolicy policy = {}) const {
    return run(
        std::move(nodes),
        [shared = std::move(message).share()](std::string_view /*node_id*/) { return shared; },
        std::move(policy));
  }

  /// As above, with a message for each node.
  /**
   * @param make `make(node_id)` or `make(node_id, rows)`, where the rows are those of the round so
   * far. Called when the node is asked. Returns the message or a pointer to it; a null pointer
   * leaves the node out, as `no_message`. What it throws goes to `on_handler_error` and leaves the
   * node out, as `handler_failed`.
   * @par Source
   * F7.
   */
  template <class Make>
    requires std::invocable<Make&, std::string_view> ||
             std::invocable<Make&, std::string_view, std::span<const row_type>>
  awaitable<result_type> run(std::vector<std::string> nodes, Make make,
                             RoundPolicy policy = {}) const {
    detail::check(policy);
    return await_end(series_, std::move(nodes), maker(std::move(make)), std::move(policy));
  }

  /// Replies that come after the round has ended, or after it gave the node up. Read them or not.
  /** The reference is valid as long as a handle is. */
  late_type& late() const noexcept { return series_->late; }

  /// For `explain`: a report of each round that goes on.
  std::vector<RoundReport> reports() const {
    std::vector<RoundReport> reports;
    for (const auto& round : series_->running) {
      reports.push_back(round.report());
    }
    return reports;
  }

 private:
  template <class Make>
  static typename Engine::MakeMessage maker(Make make) {
    // Behind a pointer, for it may be one that can only be moved.
    return [make = std::make_shared<Make>(std::move(make))](
               std::string_view node_id, std::span<const row_type> rows) -> message_ptr {
      const auto made = [&] {
        if constexpr (std::invocable<Make&, std::string_view>) {
          return (*make)(node_id);
        } else {
          return (*make)(node_id, rows);
        }
      };
      if constexpr (std::convertible_to<decltype(made()), message_ptr>) {
        return made();
      } else {
        return std::make_shared<const message_type>(made());
      }
    };
  }

  static awaitable<result_type> await_end(std::shared_ptr<Series> series,
                                          std::vector<std::string> nodes,
                                          typename Engine::MakeMessage make, RoundPolicy policy) {
    Engine round(std::move(series), nodes, std::move(make), std::move(policy));
    round.start();
    if (detail::is_cancelled(co_await boost::asio::this_coro::cancellation_state)) {
      round.end(RoundEnd::cancelled);
    }
    while (!round.over()) {
      co_await round.waiter.wait();
      if (round.waiter.verdict()) {
        round.end(RoundEnd::cancelled);
      }
    }
    co_return round.take_result();
  }

  std::shared_ptr<Series> series_;
};

/// One round by itself: as `Rounds::run`, without late replies and without a history.
template <class T, class M, class O, class Message>
typename AgentStore<T, M, O>::template awaitable<RoundResult<M>> round(
    const AgentStore<T, M, O>& store, std::vector<std::string> nodes, Message message,
    RoundPolicy policy = {}) {
  RoundsOptions<M> options;
  options.late_capacity = 0;
  return Rounds<T, M, O>(store, std::move(options))
      .run(std::move(nodes), std::move(message), std::move(policy));
}

}  // namespace fedagent
