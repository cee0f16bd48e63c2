// expect: fedagent: source() must return a view of a string that the message keeps
#include <fedagent/message.hpp>
#include <string>

struct ByValue {
  std::string request_id;
  std::string source() const { return "a string that is gone when it is compared"; }
};

auto source(const ByValue& message) { return fedagent::message_traits<ByValue>::source(message); }
