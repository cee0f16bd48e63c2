// expect: fedagent: Message must be movable
#include <boost/asio/any_io_executor.hpp>
#include <fedagent/fedagent.hpp>
#include <fedagent/transport/memory.hpp>
#include <string>

struct Immovable {
  Immovable(const Immovable&) = delete;
  Immovable& operator=(const Immovable&) = delete;
  std::string request_id;
};

// The transport's own messages move; these are the store's.
fedagent::AgentStore<fedagent::memory::Transport<>, Immovable>* store = nullptr;
std::size_t size() { return store->size(); }
