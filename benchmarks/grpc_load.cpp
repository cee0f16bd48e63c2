// The nodes of the gRPC benchmark, in one process: each polls, and answers each task with a reply
// of the same size, by a call of its own, as Fed-BioMed's nodes do. Two connections for each node.
#include <grpcpp/generic/generic_stub.h>

#include <boost/system/result.hpp>
#include <list>
#include <memory>
#include <mutex>
#include <semaphore>
#include <string>
#include <vector>

#include "fedagent/fedbiomed/message.hpp"
#include "grpc_messages.hpp"

namespace {

namespace fedbiomed = fedagent::fedbiomed;

std::binary_semaphore ended{0};

std::string joined(const ::grpc::ByteBuffer& buffer) {
  ::grpc::Slice slice;
  (void)buffer.DumpToSingleSlice(&slice);
  return {reinterpret_cast<const char*>(slice.begin()), slice.size()};
}

class Reply final : public ::grpc::ClientBidiReactor<::grpc::ByteBuffer, ::grpc::ByteBuffer> {
 public:
  Reply(::grpc::GenericStub& stub, const std::string& message) : bytes_(bench::as_chunk(message)) {
    stub.PrepareBidiStreamingCall(&context_, std::string(bench::reply_method), {}, this);
    StartWriteLast(&bytes_, ::grpc::WriteOptions());
    StartRead(&answer_);
    StartCall();
  }
  void OnDone(const ::grpc::Status& status) override {
    if (!status.ok()) {
      ended.release();
    }
    delete this;
  }

 private:
  ::grpc::ClientContext context_;
  ::grpc::ByteBuffer bytes_;
  ::grpc::ByteBuffer answer_;
};

class Node final : public ::grpc::ClientBidiReactor<::grpc::ByteBuffer, ::grpc::ByteBuffer> {
 public:
  Node(std::string id, std::shared_ptr<::grpc::Channel> polls,
       std::shared_ptr<::grpc::Channel> replies, std::size_t payload)
      : id_(std::move(id)), payload_(payload), polls_(polls), replies_(replies) {
    poll();
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      return;
    }
    const auto bytes = joined(incoming_);
    incoming_.Clear();
    StartRead(&incoming_);
    const auto chunk = fedbiomed::decode_chunk(bytes);
    const auto task = fedbiomed::Message::parse(std::string(chunk.value().bytes));
    // It deletes itself.
    new Reply(replies_, bench::encoded("PingReply", task.value().request_id(), id_, payload_));
  }
  void OnDone(const ::grpc::Status& status) override {
    if (!status.ok()) {
      return ended.release();
    }
    poll();
  }

 private:
  void poll() {
    context_ = std::make_unique<::grpc::ClientContext>();
    const ::grpc::Slice slice(fedbiomed::encode(fedbiomed::TaskRequest{id_, "7"}));
    request_ = ::grpc::ByteBuffer(&slice, 1);
    polls_.PrepareBidiStreamingCall(context_.get(), std::string(bench::poll_method), {}, this);
    StartWriteLast(&request_, ::grpc::WriteOptions());
    StartRead(&incoming_);
    StartCall();
  }

  std::string id_;
  std::size_t payload_;
  ::grpc::GenericStub polls_;
  ::grpc::GenericStub replies_;
  std::unique_ptr<::grpc::ClientContext> context_;
  ::grpc::ByteBuffer request_;
  ::grpc::ByteBuffer incoming_;
};

std::shared_ptr<::grpc::Channel> channel(std::size_t port, const std::string& root) {
  ::grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetMaxReceiveMessageSize(100 << 20);
  auto credentials = ::grpc::InsecureChannelCredentials();
  if (!root.empty()) {
    credentials = ::grpc::SslCredentials({root, {}, {}});
  }
  return ::grpc::CreateCustomChannel("localhost:" + std::to_string(port), credentials, arguments);
}

}  // namespace

int main(int argc, char** argv) {
  const net::ServerArguments arguments(argc, argv);
  const auto root = bench::file_argument(argc, argv, "--cert");
  std::list<Node> nodes;
  for (std::size_t i = 0; i < arguments.nodes; ++i) {
    nodes.emplace_back(bench::node_id(i), channel(arguments.port, root),
                       channel(arguments.port, root), arguments.payload);
  }
  ended.acquire();
  _exit(0);  // the server is done
}
