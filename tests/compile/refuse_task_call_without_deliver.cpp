// expect: fedagent: TaskCall must provide node_id() and deliver(MessagePtr<Message>)
#include <fedagent/fedagent.hpp>
#include <fedagent/transport/memory.hpp>
#include <string_view>

struct WithoutDeliver {
  std::string_view node_id() const { return "node"; }
};

using Store = fedagent::AgentStore<fedagent::memory::Transport<>>;

auto serve(Store& store, WithoutDeliver& call) { return fedagent::serve_task_call(store, call); }
