// expect: fedagent: Transport must provide decode(wire_type) as a static function that returns
// boost::system::result<message_type>
#include <boost/asio/any_io_executor.hpp>
#include <fedagent/fedagent.hpp>
#include <string>

struct Message {
  std::string request_id;
};

struct DecodeWithoutResult {
  using executor_type = boost::asio::any_io_executor;
  using message_type = Message;
  using wire_type = std::string;
  static Message decode(std::string wire) { return {wire}; }
};

fedagent::NodeAgentAsync<DecodeWithoutResult>* agent = nullptr;
std::string_view id() { return agent->id(); }
