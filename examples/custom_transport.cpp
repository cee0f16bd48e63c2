// A transport of your own: datagrams between two Unix sockets. An author writes what is tagged.
#include <fmt/format.h>

#include <array>
#include <boost/asio.hpp>
#include <fedagent/fedagent.hpp>

namespace asio = boost::asio;
using namespace std::chrono_literals;
using Socket = asio::local::datagram_protocol::socket;
template <class T>
using result = boost::system::result<T>;

// [transport]
struct Message {
  std::string request_id, body;
};

// What the core asks: the types, and how a reply comes off the wire ("R<request id>\n<body>").
struct Datagram {
  using executor_type = asio::any_io_executor;
  using message_type = Message;
  using wire_type = std::string;
  static result<Message> decode(std::string wire) {
    const auto end = wire.find('\n');
    if (wire.empty() || end == std::string::npos) {
      return boost::system::errc::make_error_code(boost::system::errc::bad_message);
    }
    return Message{wire.substr(1, end - 1), wire.substr(end + 1)};
  }
};

// The server side of one open poll.
struct DatagramCall {
  Socket& socket;
  std::string node;  // verified: this socket is that node's

  std::string_view node_id() const { return node; }
  asio::awaitable<result<void>> deliver(fedagent::MessagePtr<Message> task) {
    const std::string wire = "T" + task->request_id + "\n" + task->body;
    const auto [error, sent] =
        co_await socket.async_send(asio::buffer(wire), asio::as_tuple(asio::use_awaitable));
    if (error == asio::error::message_size) {
      co_return make_error_code(fedagent::errc::not_encodable);  // no attempt would be better
    }
    co_return error ? result<void>(error) : result<void>();
  }
};
// [/transport]

struct PrintFeedback {
  void on_feedback(std::string_view node, const std::string& line) const {
    fmt::print("{} says: {}\n", node, line);
  }
};
using Store = fedagent::AgentStore<Datagram, Message, PrintFeedback>;

namespace {
// [calls]
asio::awaitable<void> serve_poll(Store& store, DatagramCall call) {
  co_await fedagent::serve_task_call(store, call);
}

asio::awaitable<void> serve_node(Store& store, Socket socket, std::string node) {
  asio::cancellation_signal peer_gone;  // cancels the poll when this ends
  std::array<char, 2048> buffer{};
  while (true) {
    const auto [error, size] =
        co_await socket.async_receive(asio::buffer(buffer), asio::as_tuple(asio::use_awaitable));
    if (error || size == 0) {
      break;
    }
    std::string wire(buffer.data(), size);
    if (wire.front() == 'P') {
      asio::co_spawn(socket.get_executor(), serve_poll(store, DatagramCall{socket, node}),
                     asio::bind_cancellation_slot(peer_gone.slot(), asio::detached));
    } else if (wire.front() == 'L') {
      (void)fedagent::serve_feedback(store, node, wire.substr(1));
    } else {
      const auto taken = co_await fedagent::serve_reply(store, node, std::move(wire));
      fmt::print("a reply of {}: {}\n", node, taken ? "taken" : taken.error().message());
    }
  }
  peer_gone.emit(asio::cancellation_type::terminal);
}
// [/calls]
// The node: polls, works, says so, replies.
asio::awaitable<void> hospital(Socket socket) {
  std::array<char, 2048> buffer{};
  co_await socket.async_send(asio::buffer("P", 1), asio::use_awaitable);
  const auto size = co_await socket.async_receive(asio::buffer(buffer), asio::use_awaitable);
  const auto task = Datagram::decode(std::string(buffer.data(), size));
  co_await socket.async_send(asio::buffer("Lworking", 8), asio::use_awaitable);
  const std::string reply = "R" + task->request_id + "\nlearned from " + task->body;
  co_await socket.async_send(asio::buffer(reply), asio::use_awaitable);
}

asio::awaitable<void> researcher(Store& store, asio::io_context& io, bool& ok) {
  Message task{"round-1", "weights"};
  const auto outcome = co_await store.retrieve("hospital-1")->request(std::move(task), 5s);
  ok = outcome.has_value();
  fmt::print("{}\n", ok ? (*outcome)->body : outcome.error().message());
  io.stop();
}

}  // namespace

int main() {
  asio::io_context io;
  Socket server(io), client(io);
  asio::local::connect_pair(server, client);
  Store store(io.get_executor());
  bool ok = false;
  asio::co_spawn(io, serve_node(store, std::move(server), "hospital-1"), asio::detached);
  asio::co_spawn(io, hospital(std::move(client)), asio::detached);
  asio::co_spawn(io, researcher(store, io, ok), asio::detached);
  io.run();
  return ok ? 0 : 1;
}
