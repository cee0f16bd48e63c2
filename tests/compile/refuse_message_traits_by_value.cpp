// expect: fedagent: message_traits must return views of strings that the message keeps
#include <cstddef>
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
  static std::string destination(const Foreign&) { return {}; }
  static std::string_view source(const Foreign&) { return {}; }
  static std::size_t size(const Foreign& message) { return message.rid.size(); }
};

fedagent::AgentStore<fedagent::memory::Transport<Foreign>>* store = nullptr;
std::size_t size() { return store->size(); }
