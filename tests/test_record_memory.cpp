// detail/record_memory.hpp, and that records live in it.
#include "fedagent/detail/record_memory.hpp"

#include <doctest/doctest.h>
#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <cstddef>
#include <cstring>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "support/story.hpp"

using namespace test;
using fedagent::detail::RecordMemory;

namespace {

boost::intrusive_ptr<RecordMemory> make() { return new RecordMemory(); }

// Takes so many pieces, which are then all in use.
std::vector<void*> take(RecordMemory& memory, std::size_t count, std::size_t size) {
  std::vector<void*> pieces;
  for (std::size_t i = 0; i < count; ++i) {
    pieces.push_back(memory.take(size));
    std::memset(pieces.back(), 0x5a, size);
  }
  return pieces;
}
void give_back(RecordMemory& memory, const std::vector<void*>& pieces, std::size_t size) {
  for (void* const piece : pieces) {
    memory.give_back(piece, size);
  }
}

}  // namespace

TEST_CASE("record memory: what is given back is the next that is taken, for every size") {
  const auto memory = make();
  for (std::size_t size = 1; size <= 512; ++size) {
    CAPTURE(size);
    const auto pieces = take(*memory, 2, size);
    give_back(*memory, pieces, size);
    CHECK(memory->take(size) == pieces[1]);
    CHECK(memory->take(size) == pieces[0]);
    give_back(*memory, pieces, size);
  }
}

TEST_CASE("record memory: a piece serves its own sizes, those up to the next multiple of 32") {
  const auto memory = make();
  const auto piece = take(*memory, 1, 65);
  give_back(*memory, piece, 65);
  const auto smaller = take(*memory, 1, 64);
  const auto larger = take(*memory, 1, 97);
  CHECK(smaller != piece);
  CHECK(larger != piece);
  const auto same = take(*memory, 1, 96);  // the sanitizer sees whether it is large enough
  CHECK(same == piece);
  give_back(*memory, smaller, 64);
  give_back(*memory, larger, 97);
  give_back(*memory, same, 96);
}

TEST_CASE("record memory: it keeps a bounded number of pieces of each size") {
  const auto memory = make();
  give_back(*memory, take(*memory, 3000, 100), 100);
  CHECK(memory->kept(100) == 1024);
  CHECK(memory->kept(200) == 0);
  give_back(*memory, take(*memory, 24, 100), 100);
  CHECK(memory->kept(100) == 1024);
  const auto pieces = take(*memory, 1024, 100);
  CHECK(memory->kept(100) == 0);
  CHECK(std::set<void*>(pieces.begin(), pieces.end()).size() == pieces.size());
  give_back(*memory, pieces, 100);
}

TEST_CASE("record memory: what is larger than all of its sizes is not kept") {
  const auto memory = make();
  for (const std::size_t size : {513U, 4096U}) {
    give_back(*memory, take(*memory, 2, size), size);
    CHECK(memory->kept(size) == 0);
  }
  give_back(*memory, take(*memory, 1, 512), 512);
  CHECK(memory->kept(512) == 1);
}

TEST_CASE(
    "record memory: a task that outlives its agent, its store and the loop gives back to it") {
  std::optional<Task> task;
  const fedagent::MessagePtr<Message> sent = message("r1");
  {
    Loop loop;
    Store store(loop.executor());
    REQUIRE(store.retrieve("node")->try_send(sent));
    task.emplace(*loop.run(store.get("node")->get_task()));
  }
  CHECK(task->message() == sent);
  CHECK(sent.use_count() == 2);
  task.reset();
  CHECK(sent.use_count() == 1);
}

TEST_CASE("record memory: a handler's own things are gone when its record has ended, not kept") {
  Loop loop;
  const Agent agent("node", loop.executor());
  const auto kept = std::make_shared<int>(1);
  REQUIRE(agent.try_send(message("r1"), [kept](const Agent::outcome_type&) {}));
  CHECK(kept.use_count() == 2);
  agent.stop();
  CHECK(kept.use_count() == 1);
}
