// detail/task_queue.hpp, detail/task_record.hpp and task.hpp: a task on its way, with an owner that
// only writes down what it is told.
#include "fedagent/detail/task_queue.hpp"

#include <doctest/doctest.h>
#include <memory>
#include <string>
#include <vector>

#include "fedagent/task.hpp"
#include "support/loop.hpp"
#include "support/printing.hpp"

using test::awaitable;
using test::errc;
using test::Executor;
using test::Loop;
using test::ManualClock;
using test::Message;
using test::MessagePtr;

namespace {

using Queue = fedagent::detail::TaskQueue<Message, ManualClock>;
using Record = fedagent::detail::TaskRecord<Message, ManualClock>;
using RecordPtr = boost::intrusive_ptr<Record>;
using Task = fedagent::Task<Message, ManualClock>;
using fedagent::TaskStage;
using Log = std::vector<std::string>;

struct Handler {
  int* calls = nullptr;
  void operator()(const fedagent::Outcome<Message>&) const {
    if (calls != nullptr) {
      ++*calls;
    }
  }
};

RecordPtr record(std::string id, std::uint64_t sequence, Handler handler = {}) {
  const auto message = test::message(std::move(id), "12345678");
  auto made = fedagent::detail::HandledTaskRecord<Message, ManualClock, Handler>::make(
      new fedagent::detail::RecordMemory(), message, message->request_id, std::move(handler));
  made->sequence = sequence;
  return made;
}

std::string order(Queue& queue) {
  std::string ids;
  while (!queue.empty()) {
    ids += queue.front().message->request_id;
    queue.remove(queue.front());
  }
  return ids;
}

struct Owner final : fedagent::detail::TaskOwner<Message, ManualClock> {
  void delivered(Record& record) noexcept override {
    record.state = TaskStage::delivered;
    log.push_back("delivered");
  }
  void lease_died(Record& record) noexcept override {
    record.state = TaskStage::queued;
    log.push_back(record.seen == fedagent::detail::Seen::in_this_lease ? "lease died" : "untaken");
  }
  void end_unconfirmed(Record& record, errc reason) noexcept override {
    record.state = TaskStage::ended;
    log.push_back(make_error_code(reason).message());
  }
  void deadline_reached(Record&) noexcept override { log.push_back("deadline"); }
  void withdraw(Record&, ManualClock::time_point, fedagent::QueuedPolicy) noexcept override {
    log.push_back("withdrawn");
  }

  Task lease(const RecordPtr& record) {
    record->owner = this;
    record->state = TaskStage::leased;
    ++record->lease;
    record->seen = fedagent::detail::Seen::never;
    return Task(record);
  }

  Log log;
};

}  // namespace

// ---- task_queue.hpp

TEST_CASE(
    "task queue: new tasks go to the end, and what is there is counted in messages and bytes") {
  Queue::Waiters takers;
  Queue queue{takers};
  auto a = record("a", 0);
  auto b = record("b", 1);
  CHECK(queue.empty());
  queue.push_back(*a);
  queue.push_back(*b);
  CHECK(queue.size() == 2);
  CHECK(queue.bytes() == 18);
  CHECK(&queue.front() == a.get());
  queue.remove(*a);
  CHECK(queue.size() == 1);
  CHECK(queue.bytes() == 9);
  CHECK(&queue.front() == b.get());
  queue.remove(*b);
  CHECK(queue.empty());
  CHECK(queue.bytes() == 0);
}

TEST_CASE(
    "H7: what is put back goes to the front in the order of acceptance, whatever comes first") {
  auto a = record("a", 0);
  auto b = record("b", 1);
  auto c = record("c", 2);
  auto d = record("d", 3);
  Queue::Waiters takers;
  Queue queue{takers};
  queue.push_back(*c);
  queue.push_back(*d);
  SUBCASE("in order") {
    queue.put_back(*a);
    queue.put_back(*b);
  }
  SUBCASE("in reverse") {
    queue.put_back(*b);
    queue.put_back(*a);
  }
  CHECK(order(queue) == "abcd");
}

TEST_CASE(
    "task queue: room is for messages and for bytes, up to the limit itself; zero is no limit") {
  Queue::Waiters takers;
  Queue queue{takers};
  auto a = record("a", 0);
  queue.push_back(*a);
  using Options = fedagent::AgentOptions;
  CHECK(queue.has_room(1, Options{.max_queued_messages = 2}));
  CHECK_FALSE(queue.has_room(1, Options{.max_queued_messages = 1}));
  CHECK(queue.has_room(91, Options{.max_queued_bytes = 100}));
  CHECK_FALSE(queue.has_room(92, Options{.max_queued_bytes = 100}));
  CHECK(queue.has_room(std::size_t{1} << 40, Options{.max_queued_messages = 0}));
  CHECK_FALSE(queue.has_room(91, Options{.max_queued_messages = 1, .max_queued_bytes = 100}));
  queue.remove(*a);
}

namespace {

awaitable<int> count_wake_ups(Executor executor, Queue::Waiters& line) {
  fedagent::detail::Waiter<ManualClock, Executor> waiter(executor);
  int woken = 0;
  line.push_back(waiter);
  while (!waiter.verdict()) {
    co_await waiter.wait();
    ++woken;
  }
  co_return woken - 1;
}

}  // namespace

TEST_CASE(
    "task queue: as many takers look as there are tasks, the first in line; one sender for room") {
  Loop loop;
  Queue::Waiters takers;
  Queue queue{takers};
  auto a = record("a", 0);
  auto b = record("b", 1);
  auto first = loop.spawn(count_wake_ups(loop.executor(), queue.takers));
  auto second = loop.spawn(count_wake_ups(loop.executor(), queue.takers));
  auto third = loop.spawn(count_wake_ups(loop.executor(), queue.takers));
  auto sender = loop.spawn(count_wake_ups(loop.executor(), queue.senders));
  auto patient = loop.spawn(count_wake_ups(loop.executor(), queue.senders));
  loop.drain();
  queue.push_back(*a);
  loop.drain();
  queue.put_back(*b);
  loop.drain();
  queue.remove(*a);
  loop.drain();
  queue.remove(*b);
  queue.takers.dismiss(make_error_code(errc::stopped));
  queue.senders.dismiss(make_error_code(errc::stopped));
  loop.drain();
  CHECK(first.value() == 2);
  CHECK(second.value() == 1);
  CHECK(third.value() == 0);
  CHECK(sender.value() >= 1);
  CHECK(patient.value() == 0);
}

// ---- task_record.hpp

TEST_CASE("task record: the outcome goes to its handler; without an id it is not tracked") {
  int calls = 0;
  auto tracked = record("r", 0, Handler{&calls});
  CHECK(tracked->tracked());
  tracked->complete(make_error_code(errc::stopped));
  CHECK(calls == 1);
  CHECK_FALSE(record("", 0)->tracked());
}

TEST_CASE("task record: destroyed, it leaves its queue's list and lets go of its message") {
  std::weak_ptr<const Message> alive;
  {
    auto a = record("a", 0);
    alive = a->message;
    CHECK_FALSE(alive.expired());
  }
  CHECK(alive.expired());
}

// ---- task.hpp

TEST_CASE("task: not looked at, it goes back as if never taken; looked at, as a failed attempt") {
  Owner owner;
  auto a = record("a", 0);
  { const auto task = owner.lease(a); }
  CHECK(owner.log == Log{"untaken"});
  {
    const auto task = owner.lease(a);
    CHECK(task.message()->request_id == "a");
  }
  CHECK(owner.log == Log{"untaken", "lease died"});
}

TEST_CASE("task: how often and when it was sent is read without it counting as an attempt") {
  Owner owner;
  auto a = record("a", 0);
  a->retry_count = 3;
  a->first_send_time = ManualClock::time_point(std::chrono::seconds(5));
  {
    const auto task = owner.lease(a);
    CHECK(task.retry_count() == 3);
    CHECK(task.first_send_time() == a->first_send_time);
  }
  CHECK(owner.log == Log{"untaken"});
}

TEST_CASE("task: delivered or not encodable, it says so once and never goes back") {
  Owner owner;
  auto a = record("a", 0);
  {
    auto task = owner.lease(a);
    task.message();
    task.delivered();
    task.delivered();
    task.not_encodable();
  }
  CHECK(owner.log == Log{"delivered"});
  owner.log.clear();
  {
    auto task = owner.lease(a);
    task.not_encodable();
    task.delivered();
  }
  CHECK(owner.log == Log{make_error_code(errc::not_encodable).message()});
}

TEST_CASE("task: of a lease that another one has replaced it says nothing") {
  Owner owner;
  auto a = record("a", 0);
  {
    auto old = owner.lease(a);
    old.message();
    {
      auto current = owner.lease(a);
      old.delivered();
      CHECK(owner.log.empty());
      old = Task();
      CHECK(owner.log.empty());
      current.message();
    }
    CHECK(owner.log == Log{"lease died"});
  }
  CHECK(owner.log.size() == 1);
}

TEST_CASE("task: moved, there is still one; assigned to, the old one goes back") {
  Owner owner;
  auto a = record("a", 0);
  auto b = record("b", 1);
  {
    auto one = owner.lease(a);
    one.message();
    Task other(std::move(one));
    CHECK(owner.log.empty());
    other = owner.lease(b);
    CHECK(owner.log == Log{"lease died"});
    other.delivered();
  }
  CHECK(owner.log == Log{"lease died", "delivered"});
}

TEST_CASE("task: that its message was looked at moves with it") {
  Owner owner;
  auto a = record("a", 0);
  {
    auto one = owner.lease(a);
    one.message();
    Task constructed(std::move(one));
    Task assigned;
    assigned = std::move(constructed);
  }
  CHECK(owner.log == Log{"lease died"});
}

TEST_CASE("task: it may outlive its agent, and an empty one is no task") {
  Owner owner;
  auto a = record("a", 0);
  std::weak_ptr<const Message> message = a->message;
  {
    auto task = owner.lease(a);
    a->owner = nullptr;
    a.reset();
    CHECK(task.message()->request_id == "a");
    task.delivered();
    task.not_encodable();
    Task empty;
    empty.delivered();
    empty = std::move(task);
    CHECK_FALSE(message.expired());
  }
  CHECK(message.expired());
  CHECK(owner.log.empty());
}

TEST_CASE("task record: its deadline goes to its owner, and to nobody when there is none") {
  Owner owner;
  auto a = record("a", 0);
  fedagent::detail::Deadlines<ManualClock> deadlines;
  const ManualClock::time_point now{std::chrono::hours(1)};
  a->owner = &owner;
  deadlines.arm(*a, now);
  CHECK(deadlines.run_one(now));
  CHECK(owner.log == Log{"deadline"});
  a->owner = nullptr;
  deadlines.arm(*a, now);
  CHECK(deadlines.run_one(now));
  CHECK(owner.log.size() == 1);
}
