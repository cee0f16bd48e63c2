#pragma once

#include <cstdint>

#include "fedagent/detail/watchdog.hpp"
#include "fedagent/transport/stream/inbox.hpp"
#include "fedagent/transport/stream/joiner.hpp"
#include "fedagent/transport/stream/options.hpp"

namespace fedagent::stream::detail {

/// What the connections of a server, or of a client, share.
/**
 * @par Lifetimes
 * Each connection holds it by `shared_ptr`; the state of a server or a client is one.
 * @par Thread safety
 * Unsafe: on one executor.
 */
template <class Executor_, class Clock>
struct Context {
  using executor_type = Executor_;

  Context(const Executor_& the_executor, const ConnectionOptions& the_options,
          std::uint64_t max_incoming_bytes)
      : executor(the_executor),
        connection_options(the_options),
        incoming{.limit = max_incoming_bytes},
        watchdog(the_executor) {}

  Executor_ executor;
  ConnectionOptions connection_options;
  /// For the half-received messages of all of them together.
  Budget incoming;
  SharedSpace read_space;
  SharedSpace write_space;
  fedagent::detail::Watchdog<Clock, Executor_> watchdog;
};

}  // namespace fedagent::stream::detail
