// expect: fedagent: Transport::wire_type must not be MessagePtr<Message>, a reply that is decoded
// already
#include <fedagent/fedagent.hpp>
#include <fedagent/transport/memory.hpp>

struct Decoded : fedagent::memory::Transport<> {
  using wire_type = fedagent::MessagePtr<message_type>;
  static boost::system::result<message_type> decode(wire_type wire) { return *wire; }
};

fedagent::AgentStore<Decoded>* store = nullptr;
std::size_t size() { return store->size(); }
