#pragma once

/// The core: agents, their store, and what a transport calls. Transports are included by
/// themselves.
#include "fedagent/agent_store.hpp"
#include "fedagent/coarse_clock.hpp"
#include "fedagent/counters.hpp"
#include "fedagent/error.hpp"
#include "fedagent/message.hpp"
#include "fedagent/node_agent.hpp"
#include "fedagent/node_status.hpp"
#include "fedagent/observer.hpp"
#include "fedagent/options.hpp"
#include "fedagent/parked_poll.hpp"
#include "fedagent/poll.hpp"
#include "fedagent/round.hpp"
#include "fedagent/seed_policies.hpp"
#include "fedagent/send_options.hpp"
#include "fedagent/service.hpp"
#include "fedagent/status_events.hpp"
#include "fedagent/task.hpp"
#include "fedagent/transport.hpp"
#include "fedagent/version.hpp"
