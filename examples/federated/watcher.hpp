// Watches the agents for the researcher: keeps the journal and says on the terminal what is out of
// the ordinary.
#pragma once

#include <fmt/core.h>

#include <cstdint>
#include <memory>
#include <string_view>

#include "fedagent/counters.hpp"
#include "fedagent/message.hpp"
#include "fedagent/node_status.hpp"
#include "journal.hpp"

namespace federated {

/// An observer of the store. The journal must outlive the store.
struct Watcher {
  Journal* journal;

  void on_status(std::string_view node, fedagent::NodeActiveStatus from,
                 fedagent::NodeActiveStatus to) const {
    journal->status(node, to, Journal::Clock::now());
    if (to == fedagent::NodeActiveStatus::disconnected) {
      fmt::print("          {} is DISCONNECTED\n", node);
    } else if (from == fedagent::NodeActiveStatus::disconnected) {
      fmt::print("          {} is back\n", node);
      journal->mark(node, "back", Journal::Clock::now());
    }
  }

  template <class M>
  void on_requeued(std::string_view node, const std::shared_ptr<const M>& message,
                   std::uint32_t retries) const {
    fmt::print("          {} lost {}: it goes out again, retry {}\n", node,
               fedagent::message_traits<M>::request_id(*message), retries);
    journal->mark(node, "redelivered", Journal::Clock::now());
  }

  template <class M>
  void on_reply(std::string_view node, const std::shared_ptr<const M>& message,
                fedagent::ReplyDisposition disposition) const {
    if (disposition == fedagent::ReplyDisposition::late) {
      fmt::print("          {} answers {} too late\n", node,
                 fedagent::message_traits<M>::request_id(*message));
    }
  }
};

}  // namespace federated
