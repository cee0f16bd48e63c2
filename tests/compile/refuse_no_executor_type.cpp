// expect: fedagent: Transport must provide executor_type, the executor its agents run on
#include <fedagent/fedagent.hpp>
#include <string>

struct Message {
  std::string request_id;
};

struct NoExecutorType {
  using message_type = Message;
  using wire_type = std::string;
  static boost::system::result<Message> decode(std::string wire) { return Message{wire}; }
};

template class fedagent::AgentStore<NoExecutorType>;
