#pragma once

#include <boost/system/error_code.hpp>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fedagent/error.hpp"
#include "fedagent/round_policy.hpp"
#include "fedagent/round_result.hpp"

namespace fedagent::detail {

/// The rows of a round: who is asked next, and when it is over.
/** It knows no agents and no time; `RoundEngine` tells it what has happened to a row. */
template <class M>
class RoundProgress {
 public:
  using Row = RoundRow<M>;

  /// What is due when rows have ended.
  enum class Step { goes_on, grace_begins, ends };

  RoundProgress(std::uint64_t number, const std::vector<std::string>& nodes,
                const RoundPolicy& policy)
      : policy_(&policy) {
    result_.number = number;
    result_.wanted = policy.quorum.of(nodes.size());
    // Rows stay where they are: whoever is told of one may bring another about.
    result_.rows.reserve(most_rows(nodes.size()));
    states_.reserve(most_rows(nodes.size()));
    for (const auto& node_id : nodes) {
      add_row(node_id, Row::nobody);
    }
  }

  /// How many rows there can be.
  std::size_t most_rows(std::size_t nodes) const noexcept {
    return nodes + policy_->substitutes.size();
  }
  const std::vector<Row>& rows() const noexcept { return result_.rows; }
  Row& row(std::size_t i) noexcept { return result_.rows[i]; }
  /// Whether this row has no outcome yet, and whether its node has been asked.
  bool open(std::size_t i) const noexcept { return states_[i] != State::ended; }
  bool asked(std::size_t i) const noexcept { return states_[i] == State::asked; }

  RoundResult<M>& result() noexcept { return result_; }
  const RoundResult<M>& result() const noexcept { return result_; }
  bool over() const noexcept { return over_; }

  /// The row to ask now, if there is one; from here on it is asked.
  std::optional<std::size_t> ask_next() noexcept {
    const auto limit = policy_->max_in_flight;
    if (over_ || stops() || asked_ == result_.rows.size() || (limit > 0 && in_flight_ >= limit)) {
      return std::nullopt;
    }
    states_[asked_] = State::asked;
    ++in_flight_;
    return asked_++;
  }

  /// A row that was asked has its outcome. A substitute may get a row for it.
  void end_row(std::size_t i, NodeOutcome outcome, boost::system::error_code error,
               MessagePtr<M> reply) {
    close(i, outcome, error);
    if (reply) {
      row(i).bytes_received = message_traits<M>::size(*reply);
      row(i).reply = std::move(reply);
    }
    result_.replied += outcome == NodeOutcome::reply ? 1U : 0U;
    if (!stops() && stopped_by(row(i))) {
      result_.ended_by = i;
    }
    const bool answered = outcome == NodeOutcome::reply || outcome == NodeOutcome::error_reply;
    if (!answered && !stops() && result_.replied < result_.wanted &&
        substituted_ < policy_->substitutes.size()) {
      add_row(policy_->substitutes[substituted_++], i);
    }
  }

  /// What is due now. The grace begins once.
  Step step() noexcept {
    if (stops() || open_ == 0) {
      return Step::ends;
    }
    if (grace_ || result_.replied < result_.wanted) {
      return Step::goes_on;
    }
    grace_ = true;
    return Step::grace_begins;
  }

  /// How the round ends when `step` says so.
  RoundEnd reason() const noexcept { return reason_; }

  /// The round is over, and so are its open rows.
  void end(RoundEnd reason) noexcept {
    over_ = true;
    result_.end = reason;
    const bool late = reason == RoundEnd::deadline;
    const errc error = late                          ? errc::deadline_passed
                       : reason == RoundEnd::stopped ? errc::stopped
                                                     : errc::round_ended;
    for (std::size_t i = 0; i < result_.rows.size(); ++i) {
      if (states_[i] == State::waiting) {
        row(i).error = error;
      } else if (states_[i] == State::asked) {
        close(i, late ? NodeOutcome::deadline_passed : NodeOutcome::withdrawn, error);
      }
    }
  }

 private:
  enum class State : std::uint8_t { waiting, asked, ended };

  void add_row(const std::string& node_id, std::size_t substitute_for) {
    result_.rows.emplace_back().node_id = node_id;
    result_.rows.back().substitute_for = substitute_for;
    states_.push_back(State::waiting);
    ++open_;
  }

  void close(std::size_t i, NodeOutcome outcome, boost::system::error_code error) noexcept {
    states_[i] = State::ended;
    row(i).outcome = outcome;
    row(i).error = error;
    --open_;
    --in_flight_;
  }

  bool stops() const noexcept { return reason_ != RoundEnd::complete; }

  bool stopped_by(const Row& row) {
    const auto& stop_on = policy_->stop_on;
    if (row.outcome == NodeOutcome::error_reply && stop_on.error.contains(row.node_id)) {
      reason_ = RoundEnd::node_error;
    } else if (row.error == errc::disconnected && stop_on.disconnect.contains(row.node_id)) {
      reason_ = RoundEnd::node_disconnected;
    } else if (row.outcome == NodeOutcome::deadline_passed &&
               stop_on.timeout.contains(row.node_id)) {
      reason_ = RoundEnd::node_timeout;
    }
    return stops();
  }

  const RoundPolicy* policy_;
  RoundResult<M> result_;
  std::vector<State> states_;
  /// How many rows have been asked; those before it.
  std::size_t asked_ = 0;
  std::size_t in_flight_ = 0;
  /// Rows without an outcome, asked or not.
  std::size_t open_ = 0;
  std::size_t substituted_ = 0;
  /// How the round ends when no row is open, or at once when it is another.
  RoundEnd reason_ = RoundEnd::complete;
  bool grace_ = false;
  bool over_ = false;
};

}  // namespace fedagent::detail
