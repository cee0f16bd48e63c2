#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "fedagent/error.hpp"
#include "fedagent/round_result.hpp"

// What rounds must come to, from their policies and what their nodes do, and from nothing else: an
// event simulator without Asio, and without a line of the library's engine.
namespace test::oracle {

using fedagent::errc;
using fedagent::NodeOutcome;
using fedagent::RoundEnd;

/// Nanoseconds from the start of the scenario. All are multiples of a power of two, so that no
/// median and no half of one is a fraction.
using Time = std::int64_t;
inline constexpr Time never = std::numeric_limits<Time>::max();
inline constexpr std::size_t nobody = std::numeric_limits<std::size_t>::max();

inline Time plus(Time a, Time b) { return a == never || b == never ? never : a + b; }

/// The nodes of one member of `stop_on`, by number.
struct Selection {
  bool every = false;
  std::vector<std::size_t> nodes{};

  bool has(std::size_t node) const { return every || std::ranges::count(nodes, node) > 0; }
};

/// `fedagent::Quorum`: all, `count`, or `count` of `parts`.
struct Wanted {
  enum class Kind { all, count, part };
  Kind kind = Kind::all;
  std::size_t count = 0;
  std::size_t parts = 1;

  std::size_t of(std::size_t nodes) const {
    switch (kind) {
      case Kind::count:
        return count;
      case Kind::part:
        return (nodes * count + parts - 1) / parts;
      case Kind::all:
        break;
    }
    return nodes;
  }
};

/// `fedagent::NodeDeadline`.
struct PerNode {
  enum class Kind { none, fixed, adaptive };
  Kind kind = Kind::none;
  Time fixed = 0;
  /// Twice `AdaptiveDeadline::k`.
  Time halves_of_k = 6;
  Time floor = 0;
  Time cap = 0;
  std::size_t min_replies = 1;
};

/// `fedagent::RoundPolicy`.
struct Policy {
  Wanted wanted{};
  Time deadline = 0;
  Time grace = 0;
  PerNode per_node{};
  Time reconnect = 0;
  Selection stop_on_error{};
  Selection stop_on_disconnect{};
  Selection stop_on_timeout{};
  std::vector<std::size_t> substitutes{};
  std::size_t max_in_flight = 0;
  Time late_for = 0;
};

/// What a node does with the message of a round, from when it takes it.
struct Work {
  enum class Answer { good, error, none };
  Answer answer = Answer::good;
  Time after = 8;
  /// The same answer once more, so long after the first.
  Time again = never;
  /// How much longer each further message of the round takes: no two answers come together.
  Time more = 0;
};

/// When a node is there. While it is, it polls, and takes at once what there is for it.
struct NodeScript {
  enum class Start {
    polling,
    /// The store knows it and it is ACTIVE, but it has never polled.
    away,
    /// DISCONNECTED.
    lost,
    unknown,
  };
  Start start = Start::polling;
  /// Its poll ends.
  Time leaves = never;
  /// It polls again; known from then on. A node that has died is a new session.
  Time returns = never;
  /// The store erases its agent.
  Time erased = never;
  /// Its first session takes one task, and crashes before it polls again.
  bool dies = false;
};

struct RoundScript {
  Time starts = 0;
  Policy policy{};
  std::vector<std::size_t> nodes{};
  /// By the number of the node.
  std::vector<Work> works{};
  Time cancelled = never;
  /// Whether a node that is asked twice is asked under the same request id.
  bool one_id = true;
};

struct Scenario {
  Time disconnect_timeout = 0;
  Time max_age = never;
  /// `DisconnectedPolicy::hold`.
  bool hold = false;
  std::vector<NodeScript> nodes{};
  /// In the order of their starts.
  std::vector<RoundScript> rounds{};
  Time stopped = never;
};

struct ExpectedRow {
  std::size_t node = 0;
  NodeOutcome outcome = NodeOutcome::not_sent;
  std::optional<errc> error{};
  std::uint32_t attempts = 0;
  Time took = 0;
  Time queued = 0;
  Time leased = 0;
  Time working = 0;
  std::size_t substitute_for = nobody;
};

struct ExpectedRound {
  RoundEnd end = RoundEnd::complete;
  /// When it ends.
  Time at = never;
  /// It would never end: it is to be cancelled at `at`.
  bool endless = false;
  std::size_t ended_by = nobody;
  std::size_t wanted = 0;
  std::size_t replied = 0;
  std::vector<ExpectedRow> rows{};
};

struct ExpectedLate {
  std::size_t node = 0;
  /// From 0.
  std::size_t round = 0;
  std::size_t staleness = 0;
  Time took = 0;
  bool is_error = false;
};

/// A poll takes a message.
struct Taken {
  Time at = 0;
  std::size_t node = 0;
  std::size_t round = 0;
  auto operator<=>(const Taken&) const = default;
};

struct Expected {
  std::vector<ExpectedRound> rounds{};
  std::vector<ExpectedLate> late{};
  std::vector<Taken> taken{};
  /// When a timer of the store or of a policy is due.
  std::vector<Time> timers{};
  /// Something happens at the same time as something else, and no rule says what is first.
  bool tie = false;
};

/// Plays a scenario by the rules.
class Simulator {
 public:
  explicit Simulator(const Scenario& scenario) : scenario_(scenario) {
    for (const auto& script : scenario.nodes) {
      auto& node = nodes_.emplace_back();
      node.known = script.start != NodeScript::Start::unknown;
      node.polling = script.start == NodeScript::Start::polling;
      node.lost = script.start == NodeScript::Start::lost;
      node.leaves = script.leaves;
      node.returns = script.returns;
      node.erased = script.erased;
    }
    rounds_.resize(scenario.rounds.size());
  }

  Expected run() {
    while (true) {
      const Time next = next_time();
      if (next == never) {
        if (!cancel_endless()) {
          break;
        }
        continue;
      }
      now_ = next;
      step();
    }
    for (auto& round : rounds_) {
      expected_.rounds.push_back(std::move(round.expected));
    }
    std::ranges::sort(expected_.taken);
    return std::move(expected_);
  }

 private:
  enum class Where { queued, leased, working, gone };

  struct Task {
    std::size_t round = 0;
    std::size_t row = 0;
    std::size_t node = 0;
    Where where = Where::queued;
    Time sent = 0;
    Time since = 0;
    Time spent[3] = {0, 0, 0};
    Time answers = never;
    Time again = never;
    /// When the row has ended and its reply is still taken: until when.
    bool withdrawn = false;
    Time until = never;
    std::uint32_t attempts = 0;
  };

  struct Node {
    bool known = false;
    bool polling = false;
    bool lost = false;
    bool died = false;
    Time disconnects = never;
    Time leaves = never;
    Time returns = never;
    Time erased = never;
    /// Tasks, in the order of their sends.
    std::vector<std::size_t> queue{};
    std::vector<Time> reply_times{};
  };

  struct Row {
    bool open = false;
    std::size_t task = nobody;
    /// Its own deadline, and when it is lost for good.
    Time own = never;
    Time lost = never;
    /// Its node was lost and came back: no rule says when it ends among those of the same time.
    bool moved = false;
    Time due() const { return std::min(own, lost); }
  };

  struct Round {
    ExpectedRound expected{};
    std::vector<Row> rows{};
    std::size_t next = 0;
    std::size_t open = 0;
    std::size_t next_substitute = 0;
    Time deadline = never;
    Time grace = never;
    bool started = false;
    bool ended = false;
    Time due() const { return ended ? never : std::min(deadline, grace); }
  };

  const Policy& policy_of(std::size_t round) const { return scenario_.rounds[round].policy; }

  // ---- what comes next

  template <class Function>
  void for_each_time(Function function) const {
    // function(time, kind): 0 a start, 1 a return, 2 another thing from outside, 3 a timer of the
    // store, 4 a timer of a policy, 5 the end of the time for a late reply, 6 that of the age of a
    // task, which comes in the order of the sends
    for (std::size_t i = 0; i < rounds_.size(); ++i) {
      const auto& round = rounds_[i];
      if (!round.started) {
        function(scenario_.rounds[i].starts, 0);
        continue;
      }
      if (round.ended) {
        continue;
      }
      function(scenario_.rounds[i].cancelled, 2);
      function(round.due(), 4);
      for (const auto& row : round.rows) {
        if (row.open) {
          function(row.due(), 4);
        }
      }
    }
    for (const auto& node : nodes_) {
      function(node.leaves, 2);
      function(node.returns, 1);
      function(node.erased, 2);
      function(node.disconnects, 3);
    }
    for (const auto index : live_) {
      const auto& task = tasks_[index];
      function(task.answers, 2);
      function(task.again, 2);
      function(expiry_of(task), task.attempts == 0 ? 6 : 3);
      function(task.withdrawn && task.where != Where::gone ? task.until : never, 5);
    }
    if (!stopped_) {
      function(scenario_.stopped, 2);
    }
  }

  Time expiry_of(const Task& task) const {
    return task.where == Where::queued ? plus(task.sent, scenario_.max_age) : never;
  }

  Time next_time() const {
    Time next = never;
    for_each_time([&](Time at, int /*kind*/) { next = std::min(next, at); });
    return next;
  }

  void look_for_ties() {
    std::size_t count[7] = {0, 0, 0, 0, 0, 0, 0};
    for_each_time([&](Time at, int kind) { count[kind] += at == now_ ? 1U : 0U; });
    const auto outside = count[0] + count[1] + count[2];
    const bool back_at_start = count[0] == 1 && count[2] == 0;
    const auto timers = count[3] + count[4] + count[5] + count[6];
    expected_.tie = expected_.tie || (outside > 1 && !back_at_start) ||
                    (outside > 0 && timers > 0) || (count[3] > 0 && count[4] + count[6] > 0) ||
                    (count[4] > 0 && count[6] > 0) || count[3] > 1;
    if (timers > 0) {
      expected_.timers.push_back(now_);
    }
  }

  // ---- what happens

  void step() {
    look_for_ties();
    for (std::size_t i = 0; i < rounds_.size(); ++i) {
      if (!rounds_[i].started && scenario_.rounds[i].starts == now_) {
        start(i);
      }
    }
    for (std::size_t i = 0; i < rounds_.size(); ++i) {
      if (rounds_[i].started && !rounds_[i].ended && scenario_.rounds[i].cancelled == now_) {
        end(i, RoundEnd::cancelled);
      }
    }
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      move_node(i);
    }
    const auto live = live_;
    for (const auto index : live) {
      auto& task = tasks_[index];
      if (task.withdrawn && task.where != Where::gone && task.until <= now_) {
        task.where = Where::gone;
      }
      if (tasks_[index].answers == now_) {
        tasks_[index].answers = never;
        answer(index);
      } else if (tasks_[index].again == now_) {
        tasks_[index].again = never;
        sign_of_life(nodes_[tasks_[index].node]);
      }
    }
    if (!stopped_ && scenario_.stopped == now_) {
      stop();
    }
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      if (nodes_[i].disconnects == now_) {
        lose(i);
      }
    }
    const auto waiting = live_;
    for (const auto index : waiting) {
      if (expiry_of(tasks_[index]) <= now_) {
        expire(index);
      }
    }
    for (std::size_t i = 0; i < rounds_.size(); ++i) {
      run_timers(i);
    }
    // A poll takes its task when all of that is over.
    for (std::size_t i = 0; i < nodes_.size(); ++i) {
      take(i);
    }
    std::erase_if(live_, [&](std::size_t index) {
      return tasks_[index].where == Where::gone && tasks_[index].answers == never &&
             tasks_[index].again == never;
    });
  }

  void start(std::size_t number) {
    auto& round = rounds_[number];
    const auto& script = scenario_.rounds[number];
    round.started = true;
    ++begun_;
    for (const auto node : script.nodes) {
      add_row(round, node, nobody);
    }
    round.expected.wanted = script.policy.wanted.of(script.nodes.size());
    if (script.policy.deadline > 0) {
      round.deadline = now_ + script.policy.deadline;
    }
    if (stopped_) {
      return end(number, RoundEnd::stopped);
    }
    ask(number);
    settle(number);
  }

  static void add_row(Round& round, std::size_t node, std::size_t substitute_for) {
    round.rows.emplace_back();
    auto& row = round.expected.rows.emplace_back();
    row.node = node;
    row.substitute_for = substitute_for;
  }

  void ask(std::size_t number) {
    auto& round = rounds_[number];
    const auto limit = policy_of(number).max_in_flight;
    while (!round.ended && round.next < round.rows.size() && (limit == 0 || round.open < limit)) {
      ask_one(number, round.next++);
    }
  }

  void ask_one(std::size_t number, std::size_t index) {
    auto& round = rounds_[number];
    const auto name = round.expected.rows[index].node;
    auto& node = nodes_[name];
    std::optional<errc> refusal;
    if (stopped_) {
      refusal = errc::stopped;
    } else if (!node.known) {
      refusal = errc::unknown_node;
    } else if (scenario_.rounds[number].one_id && has_open(number, name)) {
      refusal = errc::duplicate_request_id;
    } else if (node.lost && !scenario_.hold) {
      refusal = errc::disconnected;
    }
    if (refusal) {
      row_over(number, index, NodeOutcome::not_sent, refusal);
      return;
    }
    auto& row = round.rows[index];
    row.open = true;
    ++round.open;
    row.task = tasks_.size();
    row.own = plus(now_, own_deadline(policy_of(number).per_node, node));
    live_.push_back(row.task);
    auto& task = tasks_.emplace_back();
    task.round = number;
    task.row = index;
    task.node = name;
    task.sent = task.since = now_;
    keeps_times_ = keeps_times_ || policy_of(number).per_node.kind == PerNode::Kind::adaptive;
    node.queue.push_back(row.task);
    if (node.lost) {
      row_lost(number, index);
    }
  }

  // Whether a request of this round is open at the node, wanted or withdrawn.
  bool has_open(std::size_t number, std::size_t node) const {
    return std::ranges::any_of(live_, [&](std::size_t index) {
      const auto& task = tasks_[index];
      return task.round == number && task.node == node && task.where != Where::gone;
    });
  }

  static Time own_deadline(const PerNode& per_node, const Node& node) {
    switch (per_node.kind) {
      case PerNode::Kind::none:
        break;
      case PerNode::Kind::fixed:
        return per_node.fixed;
      case PerNode::Kind::adaptive: {
        if (node.reply_times.size() < per_node.min_replies) {
          return per_node.cap;
        }
        const auto middle = median(node.reply_times);
        std::vector<Time> distances;
        for (const auto time : node.reply_times) {
          distances.push_back(time < middle ? middle - time : time - middle);
        }
        return std::clamp(middle + per_node.halves_of_k * median(distances) / 2, per_node.floor,
                          per_node.cap);
      }
    }
    return never;
  }

  static Time median(std::vector<Time> of) {
    std::ranges::sort(of);
    const auto half = of.size() / 2;
    return of.size() % 2 == 1 ? of[half] : (of[half - 1] + of[half]) / 2;
  }

  // The node of an open row is DISCONNECTED.
  void row_lost(std::size_t number, std::size_t index) {
    const auto reconnect = policy_of(number).reconnect;
    if (reconnect > 0) {
      rounds_[number].rows[index].lost = now_ + reconnect;
    } else {
      row_over(number, index, NodeOutcome::disconnected, errc::disconnected);
    }
  }

  // A row ends, with all that comes of it but the asking of more.
  void row_over(std::size_t number, std::size_t index, NodeOutcome outcome,
                std::optional<errc> error, bool own_time = false) {
    auto& round = rounds_[number];
    const auto& policy = policy_of(number);
    close(number, index, outcome, error);
    const auto node = round.expected.rows[index].node;
    const bool answered = outcome == NodeOutcome::reply || outcome == NodeOutcome::error_reply;
    round.expected.replied += outcome == NodeOutcome::reply ? 1U : 0U;
    if (outcome == NodeOutcome::error_reply && policy.stop_on_error.has(node)) {
      return end(number, RoundEnd::node_error, index);
    }
    if (error == errc::disconnected && policy.stop_on_disconnect.has(node)) {
      return end(number, RoundEnd::node_disconnected, index);
    }
    if (own_time && policy.stop_on_timeout.has(node)) {
      return end(number, RoundEnd::node_timeout, index);
    }
    if (!answered && round.expected.replied < round.expected.wanted && !stopped_ &&
        round.next_substitute < policy.substitutes.size()) {
      add_row(round, policy.substitutes[round.next_substitute++], index);
    }
  }

  // What follows when a row has ended.
  void go_on(std::size_t number) {
    ask(number);
    settle(number);
  }

  void settle(std::size_t number) {
    auto& round = rounds_[number];
    if (round.ended) {
      return;
    }
    if (round.open == 0) {
      return end(number, RoundEnd::complete);
    }
    if (round.expected.replied >= round.expected.wanted && round.grace == never) {
      round.grace = now_ + policy_of(number).grace;
      if (round.grace == now_) {
        end(number, RoundEnd::quorum);
      }
    }
  }

  // Fills in a row; its task is taken back, or waited for as a late one.
  void close(std::size_t number, std::size_t index, NodeOutcome outcome, std::optional<errc> error,
             bool late_ones = true) {
    auto& round = rounds_[number];
    auto& row = round.rows[index];
    auto& expected = round.expected.rows[index];
    expected.outcome = outcome;
    expected.error = error;
    if (row.open) {
      row.open = false;
      --round.open;
    }
    if (row.task == nobody) {
      return;
    }
    auto& task = tasks_[row.task];
    enter(task, task.where);
    expected.attempts = task.attempts;
    expected.took = now_ - task.sent;
    expected.queued = task.spent[0];
    expected.leased = task.spent[1];
    expected.working = task.spent[2];
    if (task.where == Where::queued) {
      drop(row.task);
    } else if (task.where != Where::gone) {
      const auto late_for = policy_of(number).late_for;
      if (late_for > 0 && late_ones) {
        task.withdrawn = true;
        task.until = now_ + late_for;
      } else {
        task.where = Where::gone;
      }
    }
  }

  void end(std::size_t number, RoundEnd why, std::size_t by = nobody) {
    auto& round = rounds_[number];
    round.ended = true;
    round.expected.end = why;
    round.expected.at = now_;
    round.expected.ended_by = by;
    const auto reason = why == RoundEnd::deadline  ? errc::deadline_passed
                        : why == RoundEnd::stopped ? errc::stopped
                                                   : errc::round_ended;
    for (std::size_t i = 0; i < round.rows.size(); ++i) {
      if (round.rows[i].open) {
        close(number, i,
              why == RoundEnd::deadline ? NodeOutcome::deadline_passed : NodeOutcome::withdrawn,
              reason, why != RoundEnd::cancelled && why != RoundEnd::stopped);
      } else if (i >= round.next) {
        close(number, i, NodeOutcome::not_sent, reason);
      }
    }
    if (why == RoundEnd::cancelled) {
      for (auto& task : tasks_) {
        if (task.round == number && task.withdrawn) {
          task.where = Where::gone;
        }
      }
    }
  }

  void run_timers(std::size_t number) {
    auto& round = rounds_[number];
    const bool is_due = round.started && round.due() <= now_;
    const auto due = [&](const Row& row) { return row.open && row.due() <= now_; };
    expected_.tie =
        expected_.tie ||
        (!is_due && std::ranges::count_if(round.rows, due) > 1 &&
         std::ranges::any_of(round.rows, [&](const Row& row) { return due(row) && row.moved; }));
    for (std::size_t i = 0; i < round.rows.size() && !round.ended; ++i) {
      const auto& row = round.rows[i];
      if (row.open && row.due() <= now_) {
        if (row.own <= row.lost) {
          row_over(number, i, NodeOutcome::deadline_passed, errc::deadline_passed, true);
        } else {
          row_over(number, i, NodeOutcome::disconnected, errc::disconnected);
        }
        go_on(number);
      }
    }
    if (is_due && !round.ended) {
      end(number, round.grace <= now_ ? RoundEnd::quorum : RoundEnd::deadline);
    }
  }

  // ---- the nodes

  void move_node(std::size_t index) {
    auto& node = nodes_[index];
    if (node.erased == now_) {
      node.erased = never;
      erase(index);
    }
    if (node.leaves == now_) {
      node.leaves = never;
      if (node.polling) {
        poll_ends(node);
      }
    }
    if (node.returns == now_) {
      node.returns = never;
      if (!node.polling) {
        come_back(index);
      }
    }
  }

  void poll_ends(Node& node) {
    node.polling = false;
    node.disconnects = now_ + scenario_.disconnect_timeout;
  }

  // A reply is one too: it puts the disconnection off.
  void sign_of_life(Node& node) {
    if (node.disconnects != never) {
      node.disconnects = now_ + scenario_.disconnect_timeout;
    }
  }

  void come_back(std::size_t index) {
    auto& node = nodes_[index];
    if (stopped_) {
      return;
    }
    node.known = true;
    node.polling = true;
    node.lost = false;
    node.died = true;  // this session lives
    node.disconnects = never;
    for_open_rows(index, [&](std::size_t round, std::size_t row) {
      auto& lost = rounds_[round].rows[row];
      lost.moved = lost.moved || lost.lost < lost.own;
      lost.lost = never;
    });
    leases_die(index);
  }

  void lose(std::size_t index) {
    auto& node = nodes_[index];
    node.disconnects = never;
    node.lost = true;
    for_open_rows(index, [&](std::size_t round, std::size_t row) {
      row_lost(round, row);
      if (!rounds_[round].rows[row].open) {
        go_on_unless_ended(round);
      }
    });
    leases_die(index);
  }

  void erase(std::size_t index) {
    auto& node = nodes_[index];
    node.known = false;
    node.polling = false;
    node.lost = false;
    node.disconnects = never;
    node.queue.clear();
    // No rule says in which order an agent's own requests end with it.
    for (std::size_t i = 0; i < rounds_.size(); ++i) {
      std::size_t open = 0;
      for_open_rows(index, [&](std::size_t round, std::size_t) { open += round == i ? 1U : 0U; });
      expected_.tie = expected_.tie || open > 1;
    }
    for (const auto task : std::vector<std::size_t>(live_)) {
      if (tasks_[task].node == index && tasks_[task].where != Where::gone) {
        // What was lost already stays lost, though the agent is gone now.
        if (rounds_[tasks_[task].round].rows[tasks_[task].row].lost != never) {
          fail(task, NodeOutcome::disconnected, errc::disconnected);
        } else {
          fail(task, NodeOutcome::failed, errc::removed);
        }
      }
    }
  }

  void go_on_unless_ended(std::size_t round) {
    if (!rounds_[round].ended) {
      go_on(round);
    }
  }

  template <class Function>
  void for_open_rows(std::size_t node, Function function) {
    for (std::size_t r = 0; r < rounds_.size(); ++r) {
      const auto count = rounds_[r].rows.size();  // what is asked meanwhile sees the new status
      for (std::size_t i = 0; i < count; ++i) {
        if (rounds_[r].rows[i].open && rounds_[r].expected.rows[i].node == node) {
          function(r, i);
        }
      }
    }
  }

  // What a session had taken that is no more.
  void leases_die(std::size_t node) {
    for (const auto index : std::vector<std::size_t>(live_)) {
      auto& task = tasks_[index];
      if (task.node != node || task.where != Where::leased) {
        continue;
      }
      task.answers = task.again = never;
      if (task.withdrawn) {
        task.where = Where::gone;
      } else if (now_ >= plus(task.sent, scenario_.max_age)) {
        fail(index, NodeOutcome::expired, errc::expired);
      } else {
        enter(task, Where::queued);
        nodes_[node].queue.push_back(index);
        std::ranges::sort(nodes_[node].queue);
      }
    }
  }

  void take(std::size_t index) {
    auto& node = nodes_[index];
    while (node.polling && !node.queue.empty()) {
      auto& task = tasks_[node.queue.front()];
      node.queue.erase(node.queue.begin());
      ++task.attempts;
      enter(task, Where::working);
      const auto& work = scenario_.rounds[task.round].works[index];
      const auto before = std::ranges::count_if(expected_.taken, [&](const Taken& one) {
        return one.node == index && one.round == task.round;
      });
      expected_.taken.push_back({now_, index, task.round});
      if (scenario_.nodes[index].dies && !node.died) {
        node.died = true;
        enter(task, Where::leased);
        poll_ends(node);
      } else if (work.answer != Work::Answer::none) {
        task.answers = now_ + work.after + before * work.more;
        task.again = plus(task.answers, work.again);
      }
    }
  }

  void answer(std::size_t index) {
    auto& task = tasks_[index];
    auto& node = nodes_[task.node];
    const auto number = task.round;
    const bool error = scenario_.rounds[number].works[task.node].answer == Work::Answer::error;
    sign_of_life(node);
    if (task.where == Where::gone || task.where == Where::queued) {
      return;
    }
    const bool late = task.withdrawn;
    if (!error && keeps_times_) {
      node.reply_times.push_back(now_ - task.sent);
      if (node.reply_times.size() > 16) {
        node.reply_times.erase(node.reply_times.begin());
      }
    }
    if (late) {
      expected_.late.push_back({task.node, number, begun_ - number - 1, now_ - task.sent, error});
      task.where = Where::gone;
      return;
    }
    enter(task, Where::working);
    task.where = Where::gone;
    row_over(number, task.row, error ? NodeOutcome::error_reply : NodeOutcome::reply, {});
    go_on_unless_ended(number);
  }

  void expire(std::size_t index) { fail(index, NodeOutcome::expired, errc::expired); }

  // A task ends without a reply.
  void fail(std::size_t index, NodeOutcome outcome, errc error) {
    auto& task = tasks_[index];
    enter(task, task.where);
    drop(index);
    if (!task.withdrawn) {
      const auto number = task.round;
      row_over(number, task.row, outcome, error);
      go_on_unless_ended(number);
    }
  }

  void drop(std::size_t index) {
    auto& task = tasks_[index];
    std::erase(nodes_[task.node].queue, index);
    task.where = Where::gone;
  }

  void enter(Task& task, Where next) {
    if (task.where != Where::gone) {
      task.spent[static_cast<std::size_t>(task.where)] += now_ - task.since;
    }
    task.since = now_;
    task.where = next;
  }

  void stop() {
    stopped_ = true;
    for (std::size_t i = 0; i < rounds_.size(); ++i) {
      if (rounds_[i].started && !rounds_[i].ended) {
        end(i, RoundEnd::stopped);
      }
    }
    for (auto& node : nodes_) {
      node = Node{};
    }
    for (auto& task : tasks_) {
      task.where = Where::gone;
    }
  }

  // Whatever still goes on when nothing is left to happen would go on for ever.
  bool cancel_endless() {
    bool any = false;
    now_ += Time{1} << 30U;
    for (std::size_t i = 0; i < rounds_.size(); ++i) {
      if (!rounds_[i].ended) {
        rounds_[i].expected.endless = true;
        end(i, RoundEnd::cancelled);
        any = true;
      }
    }
    return any;
  }

  const Scenario& scenario_;
  Expected expected_{};
  std::vector<Node> nodes_{};
  std::vector<Round> rounds_{};
  std::vector<Task> tasks_{};
  /// The tasks that can still do something, by number.
  std::vector<std::size_t> live_{};
  std::size_t begun_ = 0;
  Time now_ = 0;
  bool stopped_ = false;
  /// Reply times are kept once a node was asked with an adaptive deadline, those of all rounds.
  bool keeps_times_ = false;
};

}  // namespace test::oracle
