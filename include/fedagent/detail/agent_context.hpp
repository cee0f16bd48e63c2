#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <boost/system/result.hpp>
#include <chrono>
#include <functional>
#include <random>
#include <string_view>
#include <utility>

#include "fedagent/detail/record_memory.hpp"
#include "fedagent/detail/wait_list.hpp"
#include "fedagent/detail/watchdog.hpp"
#include "fedagent/observer.hpp"
#include "fedagent/options.hpp"
#include "fedagent/send_options.hpp"
#include "fedagent/status_events.hpp"
#include "fedagent/transport.hpp"

namespace fedagent::detail {

/// What the agents of one store share; an agent that stands alone has its own.
template <class T, class M, class O>
class AgentContext {
 public:
  using executor_type = typename T::executor_type;
  using clock_type = transport_clock_t<T>;
  using time_point = typename clock_type::time_point;
  using Forwarder =
      std::function<boost::asio::awaitable<boost::system::result<void>, executor_type>(
          MessagePtr<M>)>;

  AgentContext(const executor_type& the_executor, const StoreOptions& the_options,
               Forwarder forwarder, O observer)
      : executor(the_executor),
        store_options((check(the_options), the_options)),
        forward(std::move(forwarder)),
        hooks(std::move(observer)),
        watchdog(the_executor),
        record_memory(new RecordMemory()),
        random_(std::random_device{}()) {}
  virtual ~AgentContext() = default;

  /// Relays an overlay message where no forwarder was given.
  virtual boost::system::result<void> route(std::string_view /*source*/, MessagePtr<M> /*message*/,
                                            Receipt /*receipt*/) {
    return make_error_code(errc::no_route);
  }
  /// The agent has been DISCONNECTED for `idle_expiry`.
  virtual void expire(std::string_view /*node_id*/) {}

  void status_changed(std::string_view node, NodeActiveStatus from, NodeActiveStatus to) {
    hooks(hook::status, node, from, to);
    if (!status_feed.empty()) {
      status_feed.publish(node, from, to, clock_type::now());
    }
  }

  /// Nodes that have polled and are not DISCONNECTED.
  std::size_t present() const noexcept { return present_; }
  void count_present(int change) noexcept {
    present_ += static_cast<std::size_t>(change);
    present_changed.wake_all();
  }

  /// When a poll that opens now is to end.
  time_point poll_deadline(time_point now) {
    if (options.poll_timeout == Duration::zero()) {
      return time_point::max();
    }
    const double part =
        1.0 - std::uniform_real_distribution(0.0, 1.0)(random_) * options.poll_jitter;
    const auto time = static_cast<double>(options.poll_timeout.count()) * part;
    return time_after(now, Duration(static_cast<Duration::rep>(time)));
  }

  executor_type executor;
  const StoreOptions store_options;
  const AgentOptions& options = store_options.agent;
  Forwarder forward;
  Hooks<O, M> hooks;
  WaitList<clock_type> present_changed;
  StatusFeed<clock_type, executor_type> status_feed;
  Watchdog<clock_type, executor_type> watchdog;
  const boost::intrusive_ptr<RecordMemory> record_memory;

 private:
  std::size_t present_ = 0;
  std::minstd_rand random_;
};

}  // namespace fedagent::detail
