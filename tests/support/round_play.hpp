#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fedagent/round.hpp"
#include "fedagent/service.hpp"
#include "support/loop.hpp"
#include "support/round_oracle.hpp"

namespace test {

using Series = fedagent::Rounds<Transport>;
using RoundResult = fedagent::RoundResult<Message>;

/// A hash of what has happened, to compare two runs.
class Fingerprint {
 public:
  void add(std::uint64_t number) {
    for (int i = 0; i < 8; ++i, number >>= 8U) {
      hash_ = (hash_ ^ (number & 0xffU)) * 1099511628211U;
    }
  }
  std::uint64_t value() const { return hash_; }

 private:
  std::uint64_t hash_ = 14695981039346656037U;
};

/// Plays a scenario of rounds on a real store, tick by tick, and compares it with what is expected.
class RoundPlay {
 public:
  using Time = oracle::Time;

  RoundPlay(Loop& loop, const oracle::Scenario& scenario, const oracle::Expected& expected)
      : scenario_(scenario), expected_(expected), loop_(loop), devices_(scenario.nodes.size()) {
    fedagent::StoreOptions options;
    options.agent.disconnect_timeout = fedagent::Duration(scenario.disconnect_timeout);
    options.agent.poll_timeout = fedagent::Duration::zero();
    options.agent.max_age =
        fedagent::Duration(scenario.max_age == oracle::never ? 0 : scenario.max_age);
    options.agent.when_disconnected =
        scenario.hold ? fedagent::DisconnectedPolicy::hold : fedagent::DisconnectedPolicy::refuse;
    store_.emplace(loop_.executor(), options);
    series_.emplace(*store_, with_errors());
    rounds_.resize(scenario.rounds.size());
    sizes_.resize(scenario.rounds.size(), {std::size_t{1} << 20U, 0});
  }
  RoundPlay(const RoundPlay&) = delete;
  RoundPlay& operator=(const RoundPlay&) = delete;
  ~RoundPlay() {
    series_.reset();
    store_.reset();
    loop_.drain();
  }

  /// Plays scenarios side by side, each on a store of its own: they share the loop and the time,
  /// and the time that it takes to look. What is not as expected is in `differences`; empty:
  /// nothing.
  static void play(Loop& loop, std::span<const std::unique_ptr<RoundPlay>> plays) {
    Time lost = 0;
    for (const auto& play : plays) {
      lost = std::max(lost, play->lose_the_lost());
    }
    loop.advance(fedagent::Duration(lost));
    const auto base = Loop::now();
    for (const auto& play : plays) {
      play->prepare(base);
    }
    loop.drain();
    while (true) {
      Time next = oracle::never;
      for (const auto& play : plays) {
        next = std::min(next, play->next_stop());
      }
      if (next == oracle::never) {
        break;
      }
      ManualClock::advance(base + fedagent::Duration(next) - Loop::now());
      std::vector<RoundPlay*> here;
      for (const auto& play : plays) {
        if (play->next_stop() == next) {
          here.push_back(play.get());
          play->act(next);
        }
      }
      loop.drain();
      for (auto* const play : here) {
        play->look(next);
      }
    }
    loop.advance(std::chrono::hours{24});
    for (const auto& play : plays) {
      play->compare();
      play->let_go();
    }
    loop.drain();
    for (const auto& play : plays) {
      play->look_for_leftovers();
    }
  }
  const std::string& differences() const { return differences_; }

  std::uint64_t fingerprint() const { return fingerprint_.value(); }

 private:
  static std::string name(std::size_t node) { return "n" + std::to_string(node); }
  static std::size_t number(std::string_view text) {
    std::size_t value = 0;
    std::from_chars(text.data(), text.data() + text.size(), value);
    return value;
  }

  // ---- the nodes

  struct Device {
    fedagent::SessionId session = 1;
    std::optional<Spawned<bool>> polls{};
    bool polling() const { return polls && !polls->done(); }
  };

  struct Call {
    RoundPlay* play;
    std::size_t node;
    std::string id;
    fedagent::SessionId session_id;

    std::string_view node_id() const noexcept { return id; }
    fedagent::SessionId session() const noexcept { return session_id; }
    awaitable<result<void>> deliver(MessagePtr taken) {
      play->taken(node, *taken);
      co_return result<void>();
    }
  };

  // Takes task after task; a node that dies, only one.
  static awaitable<bool> poll_on(Store* store, Call call, bool dies) {
    do {
      auto served = co_await fedagent::serve_task_call(*store, call);
      if (!served) {
        co_return false;
      }
    } while (!dies);
    co_return true;
  }

  void poll(std::size_t node) {
    auto& device = devices_[node];
    device.polls = loop_.spawn(poll_on(&*store_, Call{this, node, name(node), device.session},
                                       scenario_.nodes[node].dies && device.session == 1));
  }

  void taken(std::size_t node, const Message& message) {
    const auto round = number(message.body);
    const auto before = std::ranges::count_if(
        taken_, [&](const oracle::Taken& one) { return one.node == node && one.round == round; });
    taken_.push_back({now(), node, round});
    fingerprint_.add(node);
    fingerprint_.add(static_cast<std::uint64_t>(now()));
    if (scenario_.nodes[node].dies && devices_[node].session == 1) {
      return;
    }
    const auto& work = scenario_.rounds[round].works[node];
    if (work.answer != oracle::Work::Answer::none) {
      const auto at = now() + work.after + before * work.more;
      plan({at, What::answer, node, round, message.request_id});
      plan({oracle::plus(at, work.again), What::answer, node, round, message.request_id});
    }
  }

  // ---- what happens from outside

  enum class What { start, cancel, stop, erase, leave, come_back, answer };
  struct Action {
    Time at;
    What what;
    std::size_t node = 0;
    std::size_t round = 0;
    std::string request{};
  };

  void plan(Action action) {
    if (action.at != oracle::never) {
      actions_.push_back(std::move(action));
      std::ranges::push_heap(actions_, later);
    }
  }
  static bool later(const Action& a, const Action& b) {
    return a.at != b.at ? a.at > b.at : a.what > b.what;
  }
  Time next_action() const { return actions_.empty() ? oracle::never : actions_.front().at; }

  Time lose_the_lost() {
    bool any = false;
    for (std::size_t i = 0; i < devices_.size(); ++i) {
      if (scenario_.nodes[i].start == oracle::NodeScript::Start::lost) {
        any = true;
        const auto agent = store_->retrieve(name(i));
        agent->set_active();
        agent->change_node_status_after_task();
      }
    }
    return any ? scenario_.disconnect_timeout : 0;
  }

  void prepare(ManualClock::time_point base) {
    base_ = base;
    for (std::size_t i = 0; i < devices_.size(); ++i) {
      const auto& script = scenario_.nodes[i];
      if (script.start == oracle::NodeScript::Start::polling) {
        poll(i);
      } else if (script.start == oracle::NodeScript::Start::away) {
        (void)store_->retrieve(name(i));
      }
      plan({script.leaves, What::leave, i});
      plan({script.returns, What::come_back, i});
      plan({script.erased, What::erase, i});
    }
    for (std::size_t i = 0; i < rounds_.size(); ++i) {
      const auto& script = scenario_.rounds[i];
      plan({script.starts, What::start, 0, i});
      const auto& round = expected_.rounds[i];
      plan({round.endless ? round.at : script.cancelled, What::cancel, 0, i});
      stop_before(round.at);
    }
    plan({scenario_.stopped, What::stop});
    for (const auto timer : expected_.timers) {
      stop_before(timer);
      stops_.push_back(timer);
    }
    std::ranges::sort(stops_);
    next_stop_ = stops_.begin();
  }

  // Nothing may happen one nanosecond too early.
  void stop_before(Time at) {
    if (at > 0 && at != oracle::never) {
      stops_.push_back(at - 1);
    }
  }
  Time next_stop() const {
    return std::min(next_action(), next_stop_ == stops_.end() ? oracle::never : *next_stop_);
  }

  // Posts all that is due at this time, for one turn of the loop.
  void act(Time at) {
    while (next_stop_ != stops_.end() && *next_stop_ <= at) {
      ++next_stop_;
    }
    if (next_action() == at) {
      boost::asio::post(loop_.io, [this, at] {
        while (next_action() == at) {
          std::ranges::pop_heap(actions_, later);
          const auto action = std::move(actions_.back());
          actions_.pop_back();
          perform(action);
        }
      });
    }
  }

  void perform(const Action& action) {
    auto& device = devices_[action.node];
    switch (action.what) {
      case What::start:
        return start(action.round);
      case What::cancel:
        if (rounds_[action.round]) {
          rounds_[action.round]->cancel();
        }
        return;
      case What::stop:
        return store_->stop();
      case What::erase:
        store_->erase(name(action.node));
        return;
      case What::leave:
        if (device.polling()) {
          device.polls->cancel();
        }
        return;
      case What::come_back:
        if (!device.polling()) {
          device.session += scenario_.nodes[action.node].dies ? 1U : 0U;
          poll(action.node);
        }
        return;
      case What::answer: {
        const bool error =
            scenario_.rounds[action.round].works[action.node].answer == oracle::Work::Answer::error;
        loop_.spawn(fedagent::serve_reply(
            *store_, name(action.node),
            Message{.request_id = action.request, .body = error ? "error" : "good"}));
        return;
      }
    }
  }

  MessagePtr make(std::size_t round, std::string id) {
    auto one = message(std::move(id), std::to_string(round));
    messages_.push_back(one);
    auto& [least, most] = sizes_[round];
    least = std::min(least, one->size());
    most = std::max(most, one->size());
    return one;
  }

  void start(std::size_t index) {
    const auto& script = scenario_.rounds[index];
    std::vector<std::string> nodes;
    for (const auto node : script.nodes) {
      nodes.push_back(name(node));
    }
    if (script.one_id) {
      rounds_[index] = loop_.spawn(series_->run(
          std::move(nodes), make(index, "r" + std::to_string(index)), policy(script.policy)));
    } else {
      rounds_[index] =
          loop_.spawn(series_->run(std::move(nodes), Make{this, index}, policy(script.policy)));
    }
  }

  /// A message with an id of its own each time.
  struct Make {
    RoundPlay* play;
    std::size_t round;
    std::size_t count = 0;
    MessagePtr operator()(std::string_view /*node_id*/) {
      return play->make(round, "r" + std::to_string(round) + "-" + std::to_string(count++));
    }
  };

  static fedagent::RoundsOptions<Message> with_errors() {
    fedagent::RoundsOptions<Message> options;
    options.is_error = [](const Message& reply) { return reply.body == "error"; };
    return options;
  }

  static fedagent::NodeSelection selection(const oracle::Selection& of) {
    if (of.every) {
      return fedagent::NodeSelection::every();
    }
    std::vector<std::string> names;
    for (const auto node : of.nodes) {
      names.push_back(name(node));
    }
    return fedagent::NodeSelection(std::move(names));
  }

  static fedagent::RoundPolicy policy(const oracle::Policy& of) {
    using fedagent::Duration;
    fedagent::RoundPolicy policy;
    if (of.wanted.kind == oracle::Wanted::Kind::count) {
      policy.quorum = of.wanted.count;
    } else if (of.wanted.kind == oracle::Wanted::Kind::part) {
      policy.quorum = fedagent::Quorum::fraction(static_cast<double>(of.wanted.count) /
                                                 static_cast<double>(of.wanted.parts));
    }
    policy.deadline = Duration(of.deadline);
    policy.grace = Duration(of.grace);
    if (of.per_node.kind == oracle::PerNode::Kind::fixed) {
      policy.per_node = Duration(of.per_node.fixed);
    } else if (of.per_node.kind == oracle::PerNode::Kind::adaptive) {
      policy.per_node =
          fedagent::AdaptiveDeadline{.k = static_cast<double>(of.per_node.halves_of_k) / 2.0,
                                     .floor = Duration(of.per_node.floor),
                                     .cap = Duration(of.per_node.cap),
                                     .min_replies = of.per_node.min_replies};
    }
    policy.reconnect = Duration(of.reconnect);
    policy.stop_on.error = selection(of.stop_on_error);
    policy.stop_on.disconnect = selection(of.stop_on_disconnect);
    policy.stop_on.timeout = selection(of.stop_on_timeout);
    for (const auto node : of.substitutes) {
      policy.substitutes.push_back(name(node));
    }
    policy.max_in_flight = of.max_in_flight;
    policy.late_for = Duration(of.late_for);
    return policy;
  }

  // ---- time, and what is looked at as it passes

  Time now() const { return (Loop::now() - base_).count(); }

  void look(Time at) {
    for (std::size_t i = 0; i < rounds_.size(); ++i) {
      const auto& round = expected_.rounds[i];
      const bool done = rounds_[i] && rounds_[i]->done();
      if (done != (round.at <= at) && !told_) {
        told_ = true;  // once: the rest would follow from it
        differ("round ", i, done ? " is done at " : " is not done at ", at, ", and should end at ",
               round.at, " with ", to_string(round.end));
      }
    }
    // With many nodes it takes long to add them up.
    if ((devices_.size() < 50 || ++looks_ % 16 == 0) && !store_->counters().balanced()) {
      differ("the counters are not balanced at ", at);
    }
  }

  // ---- the comparison

  void compare() {
    for (std::size_t i = 0; i < rounds_.size(); ++i) {
      if (!rounds_[i] || !rounds_[i]->done()) {
        differ("round ", i, " has no end");
      } else {
        compare(i, rounds_[i]->value(), expected_.rounds[i]);
      }
    }
    // Taken in the same turn: the order is that of the polls, which no rule tells.
    std::ranges::sort(taken_);
    if (taken_ != expected_.taken) {
      differ("taken are ", taken_.size(), " messages, expected ", expected_.taken.size());
    }
    compare_late();
  }

  void compare(std::size_t index, const RoundResult& is, const oracle::ExpectedRound& expected) {
    if (is.end != expected.end) {
      differ("round ", index, ": end ", to_string(is.end), ", expected ", to_string(expected.end));
    }
    same("ended_by", index, is.ended_by, expected.ended_by);
    same("wanted", index, is.wanted, expected.wanted);
    same("replied", index, is.replied, expected.replied);
    same("took", index, is.took.count(), expected.at - scenario_.rounds[index].starts);
    same("number", index, is.number, index + 1);
    same("rows", index, is.rows.size(), expected.rows.size());
    for (std::size_t i = 0; i < std::min(is.rows.size(), expected.rows.size()); ++i) {
      compare(index, i, is.rows[i], expected.rows[i]);
    }
    fingerprint_.add(static_cast<std::uint64_t>(is.end));
    fingerprint_.add(static_cast<std::uint64_t>(is.took.count()));
  }

  void compare(std::size_t round, std::size_t index, const fedagent::RoundRow<Message>& is,
               const oracle::ExpectedRow& expected) {
    fingerprint_.add(static_cast<std::uint64_t>(is.outcome));
    fingerprint_.add(static_cast<std::uint64_t>(is.took.count()));
    if (is.node_id != name(expected.node)) {
      differ("round ", round, " row ", index, ": node ", is.node_id, ", expected ",
             name(expected.node));
    }
    if (is.outcome != expected.outcome) {
      differ("round ", round, " row ", index, ": ", to_string(is.outcome), ", expected ",
             to_string(expected.outcome));
    }
    const auto error =
        expected.error ? fedagent::make_error_code(*expected.error) : boost::system::error_code();
    if (is.error != error) {
      differ("round ", round, " row ", index, ": error ", is.error.message(), ", expected ",
             error.message());
    }
    const auto answer = expected.outcome == fedagent::NodeOutcome::reply         ? "good"
                        : expected.outcome == fedagent::NodeOutcome::error_reply ? "error"
                                                                                 : "";
    if ((is.reply ? is.reply->body : "") != answer) {
      differ("round ", round, " row ", index, ": the reply is not '", answer, "'");
    }
    const auto at = [&](std::string_view what, auto a, auto b) {
      if (std::cmp_not_equal(a, b)) {
        differ("round ", round, " row ", index, ": ", what, " ", a, ", expected ", b);
      }
    };
    at("attempts", is.attempts, expected.attempts);
    at("took", is.took.count(), expected.took);
    at("queued", is.queued.count(), expected.queued);
    at("leased", is.leased.count(), expected.leased);
    at("working", is.working.count(), expected.working);
    at("substitute_for", is.substitute_for, expected.substitute_for);
    at("bytes_received", is.bytes_received, is.reply ? is.reply->size() : 0);
    if (const auto sizes = sizes_[round]; sizes.first == sizes.second) {
      at("bytes_sent", is.bytes_sent, expected.attempts * sizes.first);
    }
  }

  void compare_late() {
    auto& late = series_->late();
    if (late.size() != expected_.late.size()) {
      differ("late replies: ", late.size(), ", expected ", expected_.late.size());
      while (late.size() > 0) {
        const auto is = loop_.run(late.next());
        differ("  ", is->node_id, " in round ", is->round, ", took ", is->took.count());
      }
      for (const auto& one : expected_.late) {
        differ("  expected ", name(one.node), " in round ", one.round + 1, ", took ", one.took);
      }
      return;
    }
    for (const auto& expected : expected_.late) {
      const auto is = loop_.run(late.next());
      if (!is) {
        differ("a late reply cannot be read: ", is.error().message());
        return;
      }
      if (is->node_id != name(expected.node) || is->round != expected.round + 1 ||
          is->staleness != expected.staleness || is->took.count() != expected.took ||
          is->is_error != expected.is_error || is->missed != 0 ||
          is->message->body != (expected.is_error ? "error" : "good")) {
        differ("late reply of ", is->node_id, " to round ", is->round, ", staleness ",
               is->staleness, ", took ", is->took.count(), "; expected ", name(expected.node),
               " round ", expected.round + 1, " staleness ", expected.staleness, " took ",
               expected.took);
      }
    }
  }

  // Nothing is left of it.
  void let_go() {
    for (const auto& round : rounds_) {
      if (round && round->done()) {
        for (const auto& row : round->value().rows) {
          messages_.push_back(row.reply);
        }
      }
    }
    rounds_.clear();
    series_.reset();
    store_.reset();
  }
  void look_for_leftovers() {
    const auto alive = [](const std::weak_ptr<const Message>& one) { return !one.expired(); };
    if (const auto count = std::ranges::count_if(messages_, alive); count > 0) {
      differ("messages and replies that are alive at the end: ", count);
    }
    if (std::ranges::any_of(devices_, &Device::polling)) {
      differ("a poll is open at the end");
    }
  }

  template <class A, class B>
  void same(std::string_view what, std::size_t round, A is, B expected) {
    if (std::cmp_not_equal(is, expected)) {
      differ("round ", round, ": ", what, " ", is, ", expected ", expected);
    }
  }
  template <class... Parts>
  void differ(const Parts&... parts) {
    (put(parts), ...);
    differences_ += '\n';
  }
  void put(std::string_view text) { differences_ += text; }
  template <class Number>
    requires std::integral<Number>
  void put(Number value) {
    differences_ += std::to_string(value);
  }

  const oracle::Scenario& scenario_;
  const oracle::Expected& expected_;
  Loop& loop_;
  std::vector<Device> devices_;
  std::vector<Action> actions_{};
  std::vector<std::optional<Spawned<RoundResult>>> rounds_{};
  std::vector<std::weak_ptr<const Message>> messages_{};
  /// The smallest and the largest message of each round.
  std::vector<std::pair<std::size_t, std::size_t>> sizes_{};
  std::vector<oracle::Taken> taken_{};
  std::string differences_{};
  Fingerprint fingerprint_{};
  ManualClock::time_point base_{};
  /// When to look, besides the actions.
  std::vector<Time> stops_{};
  std::vector<Time>::const_iterator next_stop_{};
  bool told_ = false;
  std::size_t looks_ = 0;
  std::optional<Store> store_{};
  std::optional<Series> series_{};
};

}  // namespace test
