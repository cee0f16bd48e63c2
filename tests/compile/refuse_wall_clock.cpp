// expect: fedagent: Transport::clock_type must be a steady clock: is_steady is true, and now()
// returns its time_point
#include <chrono>
#include <fedagent/fedagent.hpp>
#include <fedagent/transport/memory.hpp>

struct OnWallTime : fedagent::memory::Transport<> {
  using clock_type = std::chrono::system_clock;
};

fedagent::AgentStore<OnWallTime>* store = nullptr;
std::size_t size() { return store->size(); }
