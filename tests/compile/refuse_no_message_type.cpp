// expect: fedagent: Transport must provide message_type, the type of tasks and replies
#include <boost/asio/any_io_executor.hpp>
#include <fedagent/fedagent.hpp>
#include <string>

struct NoMessageType {
  using executor_type = boost::asio::any_io_executor;
  using wire_type = std::string;
};

fedagent::AgentStore<NoMessageType>* store = nullptr;
std::size_t size() { return store->size(); }
