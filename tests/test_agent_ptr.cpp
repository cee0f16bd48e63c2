// detail/agent_ptr.hpp decides alone: who uses an agent, and who only keeps its memory.
#include "fedagent/detail/agent_ptr.hpp"

#include <doctest/doctest.h>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fedagent/detail/agent_core.hpp"
#include "support/story.hpp"

namespace {

using Log = std::vector<std::string>;

struct Core final : fedagent::detail::AgentCounts {
  explicit Core(Log& events) : log(&events) {}
  Core(const Core&) = delete;
  Core& operator=(const Core&) = delete;
  ~Core() { log->push_back("deleted"); }

  void unused() noexcept {
    log->push_back("unused");
    if (at_end) {
      at_end(*this);
    }
  }

  Log* log;
  std::function<void(Core&)> at_end{};
};
using Ptr = fedagent::detail::AgentPtr<Core>;
using Ref = fedagent::detail::AgentRef<Core>;

Ptr make(Log& log) { return Ptr(*new Core(log)); }

}  // namespace

TEST_CASE("agent ptr: the last user ends the agent, and without a ref its memory goes with it") {
  Log log;
  Ptr first = make(log);
  {
    const Ptr copy = first;
    CHECK(copy == first);
    CHECK(copy.get() == &*first);
    first.reset();
    CHECK_FALSE(first);
    first.reset();
    CHECK(log.empty());
  }
  CHECK(log == Log{"unused", "deleted"});
}

TEST_CASE(
    "agent ptr: a ref keeps the memory and no user; it finds the agent as long as it is used") {
  Log log;
  Ptr user = make(log);
  const Core* const core = user.get();
  std::optional<Ref> ref(user.ref());
  std::optional<Ref> other = ref;
  {
    const Ptr found = Ptr::lock(*ref);
    CHECK(found == user);
    user.reset();
    CHECK(log.empty());
  }
  CHECK(log == Log{"unused"});
  CHECK_FALSE(Ptr::lock(*ref));
  CHECK(core->log == &log);
  ref.reset();
  CHECK(log == Log{"unused"});
  other.reset();
  CHECK(log == Log{"unused", "deleted"});
}

TEST_CASE("agent ptr: null and moved-from ones are of nobody") {
  Log log;
  CHECK_FALSE(Ptr());
  CHECK_FALSE(Ptr::lock(nullptr));
  CHECK_FALSE(Ptr::lock(Ref()));
  CHECK_FALSE(Ptr::lock(Ptr().ref()));
  {
    Ptr user = make(log);
    Ptr moved = std::move(user);
    Ref ref = moved.ref();
    const Ref moved_ref = std::move(ref);
    CHECK(Ptr::lock(moved_ref) == moved);
    moved = Ptr();
    CHECK(log == Log{"unused"});
  }
  CHECK(log == Log{"unused", "deleted"});
}

TEST_CASE("agent ptr: assigned, the former one is let go of; assigned to itself, nothing") {
  Log one;
  Log two;
  Ptr a = make(one);
  Ptr b = make(two);
  const Ptr& same = a;
  a = same;
  CHECK(one.empty());
  a = b;
  CHECK(one == Log{"unused", "deleted"});
  CHECK(two.empty());
  Ref ref = a.ref();
  const Ref& same_ref = ref;
  ref = same_ref;
  ref = Ref();
  a.reset();
  CHECK(two.empty());
  b.reset();
  CHECK(two == Log{"unused", "deleted"});
}

TEST_CASE("agent ptr: while an agent ends nobody becomes its user again, and it ends once") {
  Log log;
  Ptr user = make(log);
  std::optional<Ref> ref(user.ref());
  user->at_end = [&](Core& core) {
    CHECK_FALSE(Ptr::lock(&core));
    CHECK_FALSE(Ptr::lock(*ref));
    ref.reset();  // the memory stays until the end has come to its end
    log.push_back("ended");
  };
  user.reset();
  CHECK(log == Log{"unused", "ended", "deleted"});
}

TEST_CASE("agent core: its id is kept behind it, of any length, also when all else is gone") {
  using namespace test;
  for (const std::size_t size : {0U, 1U, 7U, 8U, 41U, 5000U}) {
    CAPTURE(size);
    Loop loop;
    std::string given(size, 'n');
    std::optional<Agent> agent(std::in_place, given, loop.executor());
    const std::string was = given;
    given.assign(size, 'x');
    CHECK(agent->id() == was);
    const Agent copy = *agent;
    agent.reset();
    CHECK(copy.id() == was);
  }
}

TEST_CASE("agent core: an agent that has gone is let go of, whatever keeps its memory") {
  using namespace test;
  Loop loop;
  const auto forwarded = std::make_shared<int>(1);
  std::optional<Agent> agent(
      std::in_place, "node", loop.executor(), [forwarded](MessagePtr) -> awaitable<result<void>> {
        return [](int) -> awaitable<result<void>> { co_return errc::no_route; }(0);
      });
  fedagent::Poll<Transport, Message, fedagent::NoObserver> poll(*agent);
  const auto sent = message("r1");
  REQUIRE(agent->try_send(sent));
  agent.reset();
  CHECK(sent.use_count() == 1);       // the messages
  CHECK(forwarded.use_count() == 1);  // the context
  CHECK(loop.run(poll.get_task()).error() == errc::stopped);
}
