// expect: fedagent: message_traits must provide destination(message), source(message) and
// size(message)
#include <fedagent/fedagent.hpp>
#include <fedagent/transport/memory.hpp>
#include <string>
#include <string_view>

struct Foreign {
  std::string rid;
};

template <>
struct fedagent::message_traits<Foreign> {
  static std::string_view request_id(const Foreign& message) { return message.rid; }
  static std::string_view destination(const Foreign&) { return {}; }
  static std::string_view source(const Foreign&) { return {}; }
};

fedagent::AgentStore<fedagent::memory::Transport<Foreign>>* store = nullptr;
std::size_t size() { return store->size(); }
