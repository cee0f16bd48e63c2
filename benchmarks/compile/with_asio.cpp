// W8: the Boost headers that fedagent's agent_store.hpp includes, and a channel and a timer in use.

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/basic_waitable_timer.hpp>
#include <boost/asio/cancellation_type.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/error.hpp>
#include <boost/asio/experimental/channel.hpp>
#include <boost/asio/experimental/channel_traits.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/circular_buffer.hpp>
#include <boost/intrusive/list.hpp>
#include <boost/intrusive/set.hpp>
#include <boost/smart_ptr/intrusive_ptr.hpp>
#include <boost/smart_ptr/intrusive_ref_counter.hpp>
#include <boost/system/result.hpp>
#include <boost/unordered/unordered_flat_map.hpp>
#include <chrono>
#include <functional>
#include <future>
#include <memory>
#include <string>
#include <utility>

namespace asio = boost::asio;
using Executor = asio::io_context::executor_type;

struct Message {
  std::string request_id, body;
};
using MessagePtr = std::shared_ptr<const Message>;
using Channel = asio::experimental::basic_channel<Executor, asio::experimental::channel_traits<>,
                                                  void(boost::system::error_code, MessagePtr)>;
using Timer = asio::basic_waitable_timer<std::chrono::steady_clock,
                                         asio::wait_traits<std::chrono::steady_clock>, Executor>;

asio::awaitable<void, Executor> node(Channel& tasks, Timer& timer, bool& answered) {
  const auto [error, task] = co_await tasks.async_receive(asio::as_tuple(asio::deferred));
  answered = !error && task;
  timer.expires_after(std::chrono::milliseconds(1));
  co_await timer.async_wait(asio::as_tuple(asio::deferred));
}

int main() {
  asio::io_context io;
  Channel tasks(io.get_executor(), 16);
  Timer timer(io.get_executor());
  bool answered = false;
  asio::co_spawn(io, node(tasks, timer, answered), asio::detached);
  Message task{"id", "task"};
  tasks.try_send(boost::system::error_code(), std::make_shared<const Message>(std::move(task)));
  io.run();
  return answered ? 0 : 1;
}
