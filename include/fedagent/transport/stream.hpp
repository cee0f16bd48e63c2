#pragma once

/// Agents over any Asio AsyncStream: TCP, Unix sockets, TLS. `docs/stream-protocol.md` describes
/// what travels.
#include "fedagent/transport/stream/client.hpp"
#include "fedagent/transport/stream/connector.hpp"
#include "fedagent/transport/stream/error.hpp"
#include "fedagent/transport/stream/message.hpp"
#include "fedagent/transport/stream/options.hpp"
#include "fedagent/transport/stream/server.hpp"
