// expect: fedagent: Observer::on_dropped must take (std::string_view, MessagePtr<M>,
// boost::system::error_code)
#include <fedagent/fedagent.hpp>
#include <fedagent/transport/memory.hpp>
#include <string_view>

// Without this error the hook would be left out in silence.
struct Mistaken {
  void on_dropped(std::string_view /*node_id*/, int /*reason*/) {}
};

using Store =
    fedagent::AgentStore<fedagent::memory::Transport<>, fedagent::memory::Message, Mistaken>;

void stop(Store& store) { store.stop(); }
