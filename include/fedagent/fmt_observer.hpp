#pragma once

#include <fmt/format.h>

#include <array>
#include <boost/system/error_code.hpp>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <string_view>
#include <utility>

#include "fedagent/counters.hpp"
#include "fedagent/error.hpp"
#include "fedagent/message.hpp"
#include "fedagent/node_status.hpp"

namespace fedagent {

/// How grave a line of `FmtObserver` is.
enum class Severity { info, warning, error };

constexpr std::string_view to_string(Severity severity) noexcept {
  constexpr std::array<std::string_view, 3> names{"INFO", "WARNING", "ERROR"};
  const auto value = static_cast<std::size_t>(severity);
  return value < names.size() ? names[value] : "UNKNOWN";
}

/// An observer that words what happens, as the seed's log does, and hands each line to a sink.
/**
 * The lines that the seed logs have the seed's words; what the seed drops in silence has a line
 * too. Deliveries and confirmations are not worded: they are the rule.
 *
 * @tparam Sink Callable with `(Severity, std::string_view)`. It decides where a line goes.
 */
template <class Sink = std::function<void(Severity, std::string_view)>>
class FmtObserver {
 public:
  explicit FmtObserver(Sink sink) : sink_(std::move(sink)) {}

  void on_status(std::string_view node, NodeActiveStatus from, NodeActiveStatus to) {
    if (to == NodeActiveStatus::disconnected) {
      line(Severity::warning, "Node {} is disconnected.", node);
    } else if (from == NodeActiveStatus::disconnected && to == NodeActiveStatus::active) {
      line(Severity::info, "Node {} is back online!", node);
    }
  }

  void on_queued(std::string_view node, const auto& /*message*/, NodeActiveStatus status) {
    if (status == NodeActiveStatus::waiting) {
      line(Severity::info,
           "Node {} is in WAITING status. Server is waiting for receiving a request from this node "
           "to convert it as ACTIVE. Node will be updated as DISCONNECTED soon if no request "
           "received.",
           node);
    }
  }

  void on_refused(std::string_view node, const auto& message, boost::system::error_code error) {
    if (error == errc::disconnected) {
      line(Severity::info, "Node {} is disconnected. Discard message.", node);
    } else {
      line(Severity::warning, "Node {}: message {} refused: {}", node, name(*message),
           error.message());
    }
  }

  void on_requeued(std::string_view node, const auto& message, std::uint32_t retry_count) {
    line(Severity::info, "Node {}: message {} was not confirmed, back in the queue for retry {}",
         node, name(*message), retry_count);
  }

  void on_dropped(std::string_view node, const auto& message, boost::system::error_code error) {
    line(Severity::warning, "Node {}: message {} dropped: {}", node, name(*message),
         error.message());
  }

  void on_reply(std::string_view node, const auto& message, ReplyDisposition disposition) {
    const auto id = id_of(*message);
    switch (disposition) {
      case ReplyDisposition::delivered:
      case ReplyDisposition::forwarded:
        break;
      case ReplyDisposition::duplicate:
        return line(Severity::warning,
                    "Received multiple replies for request {}. Keep first reply, ignore subsequent "
                    "replies",
                    id);
      case ReplyDisposition::late:
        return line(Severity::warning, "Received a late reply from a request that has ended: {}",
                    id);
      case ReplyDisposition::stopped:
        return line(Severity::warning,
                    "Received a reply from a federated request that has been stopped: {}.", id);
      case ReplyDisposition::unexpected:
        return line(Severity::warning, "Received a reply from an unexpected request: {}", id);
      case ReplyDisposition::uncorrelated:
        return line(Severity::error,
                    "Server received a reply from the client {} that does not contains request id.",
                    node);
    }
  }

  void on_unknown_node(std::string_view node, const auto& message) {
    line(Severity::warning, "Received a reply from the unknown node {}, request {}", node,
         name(*message));
  }

  void on_wrong_node(std::string_view node, std::string_view claim) {
    line(Severity::warning, "Node {} refused: it names itself {}", node, claim);
  }

  void on_handler_error(std::string_view node, const std::exception_ptr& error) {
    try {
      std::rethrow_exception(error);
    } catch (const std::exception& e) {
      line(Severity::error, "Node {}: a handler threw: {}", node, e.what());
    } catch (...) {
      line(Severity::error, "Node {}: a handler threw", node);
    }
  }

 private:
  template <class M>
  static std::string_view id_of(const M& message) {
    return message_traits<M>::request_id(message);
  }
  static std::string_view name(const auto& message) {
    const auto id = id_of(message);
    return id.empty() ? "without id" : id;
  }

  template <class... Args>
  void line(Severity severity, fmt::format_string<Args...> text, Args&&... args) {
    sink_(severity, fmt::format(text, std::forward<Args>(args)...));
  }

  Sink sink_;
};

}  // namespace fedagent
