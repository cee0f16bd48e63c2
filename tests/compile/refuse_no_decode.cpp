// expect: fedagent: Transport must provide decode(wire_type) as a static function that returns
// boost::system::result<message_type>
#include <boost/asio/any_io_executor.hpp>
#include <fedagent/fedagent.hpp>
#include <string>

struct Message {
  std::string request_id;
};

struct NoDecode {
  using executor_type = boost::asio::any_io_executor;
  using message_type = Message;
  using wire_type = std::string;
};

fedagent::AgentStore<NoDecode>* store = nullptr;
std::size_t size() { return store->size(); }
