#pragma once

#include <cstddef>
#include <optional>

#include "fedagent/detail/agent_core.hpp"
#include "fedagent/report.hpp"

namespace fedagent::detail {

/// How long from now to a time; none when that is never.
template <class TimePoint>
std::optional<Duration> time_to(TimePoint at, TimePoint now) {
  if (at == TimePoint::max()) {
    return std::nullopt;
  }
  return at > now ? Duration(at - now) : Duration::zero();
}

/// What is to say of a record that has no outcome yet.
/** @param behind How many messages are before it, when it is queued. */
template <class T, class M, class O>
TaskReport report_of(const Ledger<T, M, O>& ledger,
                     const TaskRecord<M, transport_clock_t<T>>& record,
                     typename transport_clock_t<T>::time_point now, std::size_t behind) {
  TaskReport report;
  report.request_id = message_traits<M>::request_id(*record.message);
  report.stage = record.state;
  report.in_stage = now - record.since;
  report.age = now - record.first_send_time;
  report.attempts = record.lease;
  if (record.state == TaskStage::queued) {
    report.behind = behind;
    if (behind > 0) {
      report.behind_request = message_traits<M>::request_id(*ledger.queue.front().message);
    }
  } else {
    report.session = record.session;
  }
  report.ends_in = time_to(ledger.ends_at(record), now);
  return report;
}

}  // namespace fedagent::detail
