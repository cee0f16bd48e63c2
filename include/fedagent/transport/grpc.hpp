#pragma once

// The server side of gRPC, bridged to Asio: calls of the callback API served on an executor. It
// knows nothing of any service.

#include "fedagent/transport/grpc/bytes.hpp"
#include "fedagent/transport/grpc/call.hpp"
#include "fedagent/transport/grpc/identity.hpp"
#include "fedagent/transport/grpc/options.hpp"
#include "fedagent/transport/grpc/server.hpp"
#include "fedagent/transport/grpc/shared_loop.hpp"
