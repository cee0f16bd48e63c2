#pragma once

#include <boost/asio/buffer.hpp>
#include <boost/system/error_code.hpp>
#include <cstddef>
#include <memory>
#include <utility>

namespace test::stream {

/// Counts the operations of streams, and lets one of them fail.
struct FaultPlan {
  /// Which operation fails, from one; zero: none.
  std::size_t fails_at = 0;
  std::size_t operations = 0;

  bool next_fails() { return ++operations == fails_at; }
};

/// An AsyncStream whose n-th operation fails, a write after a part of its bytes.
template <class Socket>
class FaultyStream {
 public:
  using executor_type = typename Socket::executor_type;
  using lowest_layer_type = typename Socket::lowest_layer_type;

  FaultyStream(Socket socket, std::shared_ptr<FaultPlan> plan)
      : socket_(std::move(socket)), plan_(std::move(plan)) {}

  executor_type get_executor() { return socket_.get_executor(); }
  lowest_layer_type& lowest_layer() { return socket_.lowest_layer(); }

  template <class Buffers, class Token>
  auto async_read_some(const Buffers& buffers, Token&& token) {
    if (plan_->next_fails()) {
      socket_.close();
    }
    return socket_.async_read_some(buffers, std::forward<Token>(token));
  }
  template <class Buffers, class Token>
  auto async_write_some(const Buffers& buffers, Token&& token) {
    if (plan_->next_fails()) {
      const boost::asio::const_buffer first = *boost::asio::buffer_sequence_begin(buffers);
      boost::system::error_code ignored;
      socket_.write_some(boost::asio::buffer(first, first.size() / 2), ignored);
      socket_.close();
    }
    return socket_.async_write_some(buffers, std::forward<Token>(token));
  }

 private:
  Socket socket_;
  std::shared_ptr<FaultPlan> plan_;
};

}  // namespace test::stream
