// status_machine.hpp decides alone: no loop, no clock. The other header is here because the two
// once had a name in common, and compiled in one order only.
#include "fedagent/detail/status_machine.hpp"

#include <doctest/doctest.h>

#include "fedagent/status_events.hpp"
#include "support/printing.hpp"

using fedagent::NodeActiveStatus;
using fedagent::detail::NodeEvent;
using fedagent::detail::StatusMachine;
using fedagent::detail::TimerAction;

namespace {

StatusMachine after(std::initializer_list<NodeEvent> events) {
  StatusMachine machine;
  for (const auto event : events) {
    machine.on(event);
  }
  return machine;
}

constexpr auto opened = NodeEvent::poll_opened;
constexpr auto ended = NodeEvent::poll_ended;
constexpr auto life = NodeEvent::sign_of_life;
constexpr auto timeout = NodeEvent::timeout;

}  // namespace

TEST_CASE("status machine: a new node is ACTIVE and has not polled (B1)") {
  const StatusMachine machine;
  CHECK(machine.status() == NodeActiveStatus::active);
  CHECK_FALSE(machine.has_polled());
  CHECK(machine.open_polls() == 0);
}

TEST_CASE("status machine: polls are counted, and only the end of the last one starts the timer") {
  StatusMachine machine;
  CHECK(machine.on(opened) == TimerAction::cancel);
  CHECK(machine.on(opened) == TimerAction::cancel);
  CHECK(machine.open_polls() == 2);
  CHECK(machine.on(ended) == TimerAction::keep);
  CHECK(machine.status() == NodeActiveStatus::active);
  CHECK(machine.on(ended) == TimerAction::restart);
  CHECK(machine.status() == NodeActiveStatus::waiting);
  CHECK(machine.open_polls() == 0);
}

TEST_CASE("status machine: an end without an open poll does not count below zero") {
  auto machine = after({ended, ended});
  CHECK(machine.open_polls() == 0);
  CHECK(machine.status() == NodeActiveStatus::waiting);
  CHECK(machine.has_polled());
  CHECK(machine.on(opened) == TimerAction::cancel);
  CHECK(machine.open_polls() == 1);
  CHECK(machine.on(ended) == TimerAction::restart);
}

TEST_CASE("status machine: only WAITING times out (B11)") {
  CHECK(after({timeout}).status() == NodeActiveStatus::active);
  CHECK(after({opened, timeout}).status() == NodeActiveStatus::active);
  CHECK(after({opened, opened, ended, timeout}).status() == NodeActiveStatus::active);
  CHECK(after({opened, ended, timeout}).status() == NodeActiveStatus::disconnected);
  CHECK(after({opened, ended, timeout, timeout}).status() == NodeActiveStatus::disconnected);
}

TEST_CASE("status machine: a sign of life restarts a running timer and nothing else") {
  auto active = after({opened});
  CHECK(active.on(life) == TimerAction::keep);
  CHECK(active.status() == NodeActiveStatus::active);
  auto waiting = after({opened, ended});
  CHECK(waiting.on(life) == TimerAction::restart);
  CHECK(waiting.status() == NodeActiveStatus::waiting);
  auto disconnected = after({opened, ended, timeout});
  CHECK(disconnected.on(life) == TimerAction::keep);
  CHECK(disconnected.status() == NodeActiveStatus::disconnected);
}

TEST_CASE("status machine: every way into WAITING asks for a timer (B9)") {
  CHECK(after({opened, ended, timeout}).on(ended) == TimerAction::restart);
  CHECK(after({opened, ended}).on(ended) == TimerAction::restart);
  CHECK(StatusMachine().on(ended) == TimerAction::restart);
  // Out of DISCONNECTED by a poll, and back.
  auto back = after({opened, ended, timeout, opened});
  CHECK(back.status() == NodeActiveStatus::active);
  CHECK(back.on(ended) == TimerAction::restart);
}

TEST_CASE("status machine: each status is counted when it is entered, and not while it stays") {
  constexpr auto active = NodeActiveStatus::active;
  constexpr auto waiting = NodeActiveStatus::waiting;
  constexpr auto disconnected = NodeActiveStatus::disconnected;
  CHECK(StatusMachine().entered(active) == 0);
  const auto machine =
      after({opened, opened, ended, ended, ended, opened, ended, timeout, timeout, opened});
  CHECK(machine.entered(waiting) == 2);
  CHECK(machine.entered(disconnected) == 1);
  CHECK(machine.entered(active) == 2);
}
