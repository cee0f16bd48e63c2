#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/strand.hpp>
#include <cstddef>

#include "fedagent/transport/grpc/lending.hpp"

namespace fedagent::grpc {

/// A loop whose handlers gRPC's threads run too, one at a time, so that news does not wake its own.
/**
 * The executor is a strand. The thread of gRPC that brings news to a server on it runs its handlers
 * for a while, unless another thread is at that; all else that the loop has to do, such as timers,
 * is done by `run`. It pays with few nodes, where each round trip would wake the loop's thread.
 *
 * @par Lifetimes
 * The `io_context` must outlive it, and have no other `SharedLoop`.
 * @par Executor
 * All that belongs to the store must be spawned on this executor, not on that of the `io_context`.
 * A handler that takes long keeps a thread of gRPC from its calls.
 * @par Thread safety
 * Safe.
 */
class SharedLoop {
 public:
  using executor_type =
      boost::asio::strand<detail::Borrower<boost::asio::io_context::executor_type>>;

  explicit SharedLoop(boost::asio::io_context& loop)
      : loop_(&loop),
        lending_(&boost::asio::use_service<detail::LendingService>(loop)),
        executor_(detail::Borrower(loop.get_executor(), *lending_)) {}

  executor_type get_executor() const noexcept { return executor_; }

  /// Runs the loop, as `io_context::run`; threads of gRPC help as long as it lasts, and no longer.
  /**
   * So handlers run nowhere before it, nor after it, when the store may be destroyed.
   *
   * @return The number of handlers that ran in this thread.
   * @par Errors What a handler throws, in whatever thread.
   */
  std::size_t run() { return lending_->run(*loop_); }

 private:
  boost::asio::io_context* loop_;
  detail::LendingService* lending_;
  executor_type executor_;
};

}  // namespace fedagent::grpc
