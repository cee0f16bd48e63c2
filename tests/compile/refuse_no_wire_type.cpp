// expect: fedagent: Transport must provide wire_type, a reply as it came off the wire
#include <boost/asio/any_io_executor.hpp>
#include <fedagent/fedagent.hpp>
#include <string>

struct Message {
  std::string request_id;
};

struct NoWireType {
  using executor_type = boost::asio::any_io_executor;
  using message_type = Message;
};

fedagent::AgentStore<NoWireType>* store = nullptr;
std::size_t size() { return store->size(); }
