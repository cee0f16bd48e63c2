#pragma once

// A client of gRPC for tests, and a loop that is driven until something has happened.
#include <doctest/doctest.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/security/credentials.h>

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <source_location>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace test {

/// Runs the loop until `there()`; fails the test when that takes too long.
template <class There>
void drive(boost::asio::io_context& io, There there,
           std::source_location where = std::source_location::current()) {
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (!there()) {
    INFO("called at line ", where.line());
    REQUIRE(std::chrono::steady_clock::now() < limit);
    io.restart();
    io.run_one_for(std::chrono::milliseconds(5));
  }
}

/// One call. Everything happens on gRPC's threads; the test looks at what has come.
class ClientCall final : public ::grpc::ClientBidiReactor<::grpc::ByteBuffer, ::grpc::ByteBuffer> {
 public:
  /// @param reads Whether it reads what comes, or leaves it to the flow control until `read`.
  ClientCall(const std::shared_ptr<::grpc::Channel>& channel, const std::string& method,
             bool reads = true)
      : stub_(channel) {
    stub_.PrepareBidiStreamingCall(&context_, method, {}, this);
    AddHold();  // until `end_writes`
    if (reads) {
      StartRead(&incoming_);
    }
    StartCall();
  }
  ClientCall(const ClientCall&) = delete;
  ClientCall& operator=(const ClientCall&) = delete;
  /// Waits for gRPC, which must not wait for the loop of the test any more.
  ~ClientCall() override {
    context_.TryCancel();
    end_writes();
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return status_.has_value(); });
  }

  /// Waits until gRPC has taken the message before.
  void write(std::string_view bytes) {
    const ::grpc::Slice slice(bytes.data(), bytes.size());
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return !writing_; });
      writing_ = true;
    }
    outgoing_ = ::grpc::ByteBuffer(&slice, 1);
    StartWrite(&outgoing_);
  }
  /// Begins to read. @pre `end_writes` has not been called.
  void read() { StartRead(&incoming_); }
  void end_writes() {
    if (!ended_.exchange(true)) {
      StartWritesDone();
      RemoveHold();
    }
  }
  void cancel() { context_.TryCancel(); }

  std::vector<std::string> messages() const {
    const std::lock_guard lock(mutex_);
    return messages_;
  }
  bool written() const {
    const std::lock_guard lock(mutex_);
    return !writing_;
  }
  bool done() const {
    const std::lock_guard lock(mutex_);
    return status_.has_value();
  }
  ::grpc::Status status() const {
    const std::lock_guard lock(mutex_);
    REQUIRE(status_);
    return *status_;
  }

  void OnReadDone(bool ok) override {
    if (!ok) {  // the server has ended the call
      if (!ended_.exchange(true)) {
        RemoveHold();
      }
      return;
    }
    ::grpc::Slice slice;
    (void)incoming_.DumpToSingleSlice(&slice);
    {
      const std::lock_guard lock(mutex_);
      messages_.emplace_back(reinterpret_cast<const char*>(slice.begin()), slice.size());
    }
    StartRead(&incoming_);
  }
  void OnWriteDone(bool) override {
    const std::lock_guard lock(mutex_);
    writing_ = false;
    changed_.notify_all();
  }
  void OnDone(const ::grpc::Status& status) override {
    const std::lock_guard lock(mutex_);
    status_ = status;
    changed_.notify_all();
  }

 private:
  ::grpc::GenericStub stub_;
  ::grpc::ClientContext context_;
  ::grpc::ByteBuffer incoming_;
  ::grpc::ByteBuffer outgoing_;
  std::atomic<bool> ended_ = false;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> messages_;
  std::optional<::grpc::Status> status_;
  bool writing_ = false;
};

/// A connection of its own, on which flow control lets through what is read and 64 KiB more.
inline std::shared_ptr<::grpc::Channel> connect(int port) {
  ::grpc::ChannelArguments arguments;
  arguments.SetInt("grpc.use_local_subchannel_pool", 1);
  arguments.SetInt("grpc.http2.bdp_probe", 0);
  return ::grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(port),
                                     ::grpc::InsecureChannelCredentials(), arguments);
}

}  // namespace test
