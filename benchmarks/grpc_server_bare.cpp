// A server on gRPC for the same calls as the library's Fed-BioMed server: no agents, no
// queue, no lease, no reply table, no executor. gRPC's own threads do all, by its callback API and
// without generated code. It does what is the user's in any server, each with one copy: the bytes
// of a request are made anew, and those of a reply are one string. It finds out which node has
// replied from the number in the first bytes, and writes the next request to that node's poll.
#include <grpcpp/generic/async_generic_service.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <semaphore>
#include <string>
#include <string_view>
#include <vector>

#include "fedagent/transport/grpc/bytes.hpp"
#include "grpc_messages.hpp"

namespace {

class PollReactor;

struct Node {
  std::mutex mutex;
  PollReactor* poll = nullptr;
  bool writing = false;
  bool wanted = false;
  ::grpc::ByteBuffer task{};
  net::Clock::time_point sent{};
};

struct Bench {
  Bench(const net::ServerArguments& of, std::size_t nodes_count)
      : arguments(of), meter(of), nodes(nodes_count) {
    const ::grpc::Slice none;
    empty = ::grpc::ByteBuffer(&none, 1);
  }

  /// The next request.
  ::grpc::ByteBuffer make_task() const {
    auto bytes = std::make_shared<std::string>(task);
    bytes->replace(id_at, 36, net::next_request_id());
    const ::grpc::Slice slice = fedagent::grpc::shared_slice(*bytes, bytes);
    return {&slice, 1};
  }

  const net::ServerArguments& arguments;
  std::mutex mutex;
  net::Meter meter;
  bool over = false;
  std::vector<Node> nodes;
  std::atomic<std::size_t> polls = 0;
  const std::string task = fedagent::fedbiomed::encode(fedagent::fedbiomed::Chunk{
      1, 1, bench::encoded("PingRequest", std::string(36, '0'), {}, arguments.payload)});
  const std::size_t id_at = task.find(std::string(36, '0'));
  ::grpc::ByteBuffer empty;
  std::binary_semaphore ended{0};
};

std::string joined(const ::grpc::ByteBuffer& message) {
  std::vector<::grpc::Slice> slices;
  (void)message.Dump(&slices);
  std::string bytes;
  bytes.reserve(message.Length());
  for (const auto& slice : slices) {
    bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return bytes;
}
std::size_t number_in(std::string_view bytes) {
  const std::string begin(bytes.substr(0, 64));
  return std::strtoul(begin.c_str() + begin.find("node-") + 5, nullptr, 10);
}

class PollReactor final : public ::grpc::ServerGenericBidiReactor {
 public:
  explicit PollReactor(Bench& bench) : bench_(bench) { StartRead(&request_); }

  void OnReadDone(bool ok) override {
    if (!ok) {
      return Finish(::grpc::Status::CANCELLED);
    }
    node_ = &bench_.nodes[number_in(joined(request_))];
    {
      const std::lock_guard lock(node_->mutex);
      node_->poll = this;
    }
    // The first tasks go out when all are there.
    if (++bench_.polls == bench_.arguments.nodes) {
      for (std::size_t i = 0; i < bench_.arguments.nodes; ++i) {
        send(bench_, bench_.nodes[i]);
      }
    }
  }
  void OnWriteDone(bool) override {
    const std::lock_guard lock(node_->mutex);
    node_->writing = node_->wanted;
    if (node_->wanted) {
      node_->wanted = false;
      node_->task = bench_.make_task();
      StartWrite(&node_->task);
    }
  }
  void OnCancel() override {
    if (node_ != nullptr) {
      const std::lock_guard lock(node_->mutex);
      node_->poll = nullptr;
    }
    Finish(::grpc::Status::CANCELLED);
  }
  void OnDone() override { delete this; }

  static void send(Bench& bench, Node& node) {
    const std::lock_guard lock(node.mutex);
    if (node.poll == nullptr) {
      return;
    }
    node.sent = net::Clock::now();
    if (node.writing) {
      node.wanted = true;
    } else {
      node.writing = true;
      node.task = bench.make_task();
      node.poll->StartWrite(&node.task);
    }
  }

 private:
  Bench& bench_;
  Node* node_ = nullptr;
  ::grpc::ByteBuffer request_;
};

class ReplyReactor final : public ::grpc::ServerGenericBidiReactor {
 public:
  explicit ReplyReactor(Bench& bench) : bench_(bench) { StartRead(&chunk_); }

  void OnReadDone(bool ok) override {
    if (ok) {
      reply_ += joined(chunk_);
      return StartRead(&chunk_);
    }
    StartWriteAndFinish(&bench_.empty, ::grpc::WriteOptions(), ::grpc::Status::OK);
    auto& node = bench_.nodes[number_in(reply_)];
    {
      const std::lock_guard lock(bench_.mutex);
      if (bench_.over) {
        return;
      }
      if (!bench_.meter.count(node.sent)) {
        bench_.over = true;
        return bench_.ended.release();
      }
    }
    PollReactor::send(bench_, node);
  }
  void OnDone() override { delete this; }

 private:
  Bench& bench_;
  std::string reply_;
  ::grpc::ByteBuffer chunk_;
};

class Service final : public ::grpc::CallbackGenericService {
 public:
  explicit Service(Bench& bench) : bench_(bench) {}
  ::grpc::ServerGenericBidiReactor* CreateReactor(
      ::grpc::GenericCallbackServerContext* context) override {
    if (context->method() == bench::poll_method) {
      return new PollReactor(bench_);
    }
    return context->method() == bench::reply_method ? new ReplyReactor(bench_) : nullptr;
  }

 private:
  Bench& bench_;
};

}  // namespace

int main(int argc, char** argv) {
  const net::ServerArguments arguments(argc, argv);
  const auto cert = bench::file_argument(argc, argv, "--cert");
  auto credentials = ::grpc::InsecureServerCredentials();
  if (!cert.empty()) {
    ::grpc::SslServerCredentialsOptions options;
    options.pem_key_cert_pairs.push_back({bench::file_argument(argc, argv, "--key"), cert});
    credentials = ::grpc::SslServerCredentials(options);
  }
  Bench bench(arguments, arguments.nodes);
  Service service(bench);
  ::grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("localhost:" + std::to_string(arguments.port), credentials, &port);
  builder.SetMaxReceiveMessageSize(100 << 20);
  builder.RegisterCallbackGenericService(&service);
  const auto server = builder.BuildAndStart();
  if (!server) {
    net::give_up("cannot listen");
  }
  net::print_port(static_cast<std::uint16_t>(port));
  bench.ended.acquire();
  bench.meter.print();
  std::fflush(stdout);
  _exit(0);  // the nodes are there yet
}
