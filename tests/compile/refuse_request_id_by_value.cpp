// expect: fedagent: request_id() must return a view of a string that the message keeps
#include <fedagent/message.hpp>
#include <string>

struct ByValue {
  std::string request_id() const { return "a string that is gone when the table looks at it"; }
};

auto id(const ByValue& message) { return fedagent::message_traits<ByValue>::request_id(message); }
