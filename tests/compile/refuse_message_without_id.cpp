// expect: fedagent: Message must provide request_id, or message_traits must be specialised for it
// with request_id(message)
#include <fedagent/fedagent.hpp>
#include <fedagent/transport/memory.hpp>
#include <string>

struct WithoutId {
  std::string name;
};

fedagent::AgentStore<fedagent::memory::Transport<WithoutId>>* store = nullptr;
std::size_t size() { return store->size(); }
