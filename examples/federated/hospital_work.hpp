// What a hospital does with a task. It knows nothing of where the task comes from.
#pragma once

#include <string_view>

#include "dataset.hpp"
#include "payload.hpp"

namespace federated {

/// Does the task in `bytes` on the hospital's own rows.
/**
 * @return The reply. For a task that cannot be done (not a payload, of a kind that hospitals do not
 * do, a model for other features) a Refusal that says why: the researcher is to know, and the
 * hospital goes on.
 */
Payload do_task(const Dataset& rows, std::string_view bytes);

}  // namespace federated
