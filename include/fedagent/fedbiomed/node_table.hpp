#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "fedagent/fedbiomed/version.hpp"
#include "fedagent/transport.hpp"

namespace fedagent::fedbiomed::detail {

/// What a server remembers of its nodes from one poll to the next: the version, and the session.
/**
 * gRPC does not tell whether a node has read what was written to it. A node polls again at once
 * after a poll that ended well, on the same connection; then it has read all that came before. In
 * any other case a new session begins, and what the node has not confirmed is delivered again.
 */
class NodeTable {
  struct Node {
    Version version{};
    SessionId session = 0;
    std::size_t open = 0;
    /// The last poll has ended well.
    bool well = false;
    std::string connection{};
  };

 public:
  /// An open poll of a node.
  /**
   * @par Lifetimes
   * The table must outlive it.
   */
  class OpenPoll {
   public:
    OpenPoll(NodeTable& table, std::string_view node_id, Version version, std::string connection)
        : node_(&table.nodes_.try_emplace(std::string(node_id)).first->second) {
      Node& node = *node_;
      if (!node.well || node.open > 0 || node.connection != connection) {
        node.session = ++table.last_session_;
      }
      node.version = version;
      node.connection = std::move(connection);
      node.well = false;
      ++node.open;
      session_ = node.session;
    }
    OpenPoll(const OpenPoll&) = delete;
    OpenPoll& operator=(const OpenPoll&) = delete;
    ~OpenPoll() { --node_->open; }

    SessionId session() const noexcept { return session_; }
    /// The server ends the poll, and the node will see it end well.
    void ends_well() noexcept { node_->well = node_->open == 1; }

   private:
    Node* node_;
    SessionId session_ = 0;
  };

  /// The version that the node gave when it polled last.
  std::optional<Version> version_of(std::string_view node_id) const {
    const auto found = nodes_.find(node_id);
    return found == nodes_.end() ? std::nullopt : std::optional(found->second.version);
  }

  /// Forgets nodes that are not there any more, now and then.
  template <class IsThere>
  void tidy(std::size_t agents, IsThere is_there) {
    constexpr std::size_t slack = 64;
    if (nodes_.size() > 2 * agents + slack) {
      std::erase_if(nodes_, [&](const auto& entry) {
        return entry.second.open == 0 && !is_there(entry.first);
      });
    }
  }

 private:
  struct Hash : std::hash<std::string_view> {
    using is_transparent = void;
  };

  // Nodes stay where they are.
  std::unordered_map<std::string, Node, Hash, std::equal_to<>> nodes_;
  SessionId last_session_ = 0;
};

}  // namespace fedagent::fedbiomed::detail
