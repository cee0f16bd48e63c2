// The afternoon's version: plain Asio, one coroutine for each connection, a channel for each node's
// tasks. It reads the head of a frame, then its payload, and writes each frame by itself.
//
// What it leaves out of what fedagent does: leases and redelivery, deadlines, ages and retries,
// queue limits, status and liveness of nodes, silent peers, sessions and newest-wins, overlay
// messages, feedback, errors that are told to the peer, layers such as TLS. While a node waits for
// a task its connection is not read: a ping is answered after the task, and a node that leaves is
// noticed when a task is written to it.
#include <array>
#include <boost/asio.hpp>
#include <boost/asio/experimental/channel.hpp>
#include <boost/unordered/unordered_flat_map.hpp>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "net_frames.hpp"
#include "net_server.hpp"

namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using net::Clock;

struct Request {
  std::string request_id{};
  std::string body{};
  Clock::time_point sent{};
  std::function<void(const Request& request, std::string reply)> on_reply{};
};
using RequestPtr = std::shared_ptr<Request>;

struct Reply {
  std::string request_id{};
  std::string body{};
};

struct Node {
  explicit Node(const asio::any_io_executor& executor) : tasks(executor, 1024) {}

  std::string id{};
  asio::experimental::channel<void(boost::system::error_code, RequestPtr)> tasks;
};
using NodePtr = std::shared_ptr<Node>;

class Server {
 public:
  explicit Server(asio::io_context& io, const net::ServerArguments& arguments)
      : arguments_(arguments),
        meter_(arguments),
        io_(io),
        acceptor_(io, tcp::endpoint(asio::ip::address_v4::loopback(), arguments.port)) {
    net::print_port(acceptor_.local_endpoint().port());
    before_ = net::Memory::now();
    asio::co_spawn(io_, accept(*this), asio::detached);
  }

  void print() { meter_.print(); }

 private:
  static asio::awaitable<void> accept(Server& server) {
    while (true) {
      auto socket = co_await server.acceptor_.async_accept(asio::use_awaitable);
      socket.set_option(tcp::no_delay(true));
      asio::co_spawn(server.io_, serve(server, std::move(socket)), asio::detached);
    }
  }

  static asio::awaitable<void> serve(Server& server, tcp::socket socket) {
    try {
      auto node = std::make_shared<Node>(socket.get_executor());
      std::string payload;
      auto head = co_await read_frame(socket, payload);
      if (head.type != net::hello || payload.size() <= net::hello_size) {
        co_return;
      }
      node->id = payload.substr(net::hello_size);
      server.nodes_[node->id] = node;
      std::string welcome;
      net::put_welcome(welcome);
      co_await asio::async_write(socket, asio::buffer(welcome), asio::use_awaitable);
      Reply reply;
      while (true) {
        head = co_await read_frame(socket, payload);
        if (head.type == net::poll) {
          server.polled();
          const auto request = co_await node->tasks.async_receive(asio::use_awaitable);
          co_await write_task(socket, *request);
        } else if (head.type == net::ping) {
          std::string pong;
          net::put_head(pong, net::pong, 0);
          co_await asio::async_write(socket, asio::buffer(pong), asio::use_awaitable);
        } else if (head.type == net::reply) {
          append_chunk(reply, payload);
          if (head.last) {
            server.take_reply(std::exchange(reply, {}));
            std::string result;
            net::put_reply_result(result, net::disposition_delivered);
            co_await asio::async_write(socket, asio::buffer(result), asio::use_awaitable);
          }
        } else {
          break;
        }
      }
    } catch (const std::exception&) {
      // The node has left.
    }
  }

  static asio::awaitable<net::Head> read_frame(tcp::socket& socket, std::string& payload) {
    std::array<char, net::head_size> bytes{};
    co_await asio::async_read(socket, asio::buffer(bytes), asio::use_awaitable);
    const auto head = net::Head::read(bytes.data());
    if (!head.sound()) {
      throw std::runtime_error("a bad frame");
    }
    payload.resize(head.length);
    co_await asio::async_read(socket, asio::buffer(payload), asio::use_awaitable);
    co_return head;
  }

  static void append_chunk(Reply& reply, std::string_view payload) {
    auto before_body = net::chunk_index_size;
    if (reply.request_id.empty()) {
      before_body = net::first_chunk_head_size;
      if (payload.size() < before_body) {
        throw std::runtime_error("a bad chunk");
      }
      const auto head = net::ChunkHead::read(payload.data());
      before_body += head.ids();
      reply.request_id = payload.substr(net::first_chunk_head_size, head.request_id);
      reply.body.reserve(head.total);
    }
    reply.body.append(payload.substr(before_body));
  }

  static asio::awaitable<void> write_task(tcp::socket& socket, const Request& request) {
    std::size_t rest = request.body.size();
    std::string head;
    for (std::uint32_t index = 0; index == 0 || rest > 0; ++index) {
      std::size_t part = 0;
      head.clear();
      if (index == 0) {
        net::put_first_chunk(head, net::task, request.request_id, rest);
        part = net::body_in_first_chunk(request.request_id.size(), rest);
      } else {
        net::put_next_chunk(head, net::task, index, rest);
        part = net::body_in_next_chunk(rest);
      }
      const std::array<asio::const_buffer, 2> buffers{
          asio::buffer(head),
          asio::buffer(request.body.data() + (request.body.size() - rest), part)};
      co_await asio::async_write(socket, buffers, asio::use_awaitable);
      rest -= part;
    }
  }

  // ---- requests

  void send(const NodePtr& node) {
    auto request = std::make_shared<Request>();
    request->request_id = net::next_request_id();
    request->body.assign(arguments_.payload, 't');
    request->sent = Clock::now();
    request->on_reply = [this, node](const Request& answered, std::string reply) {
      if (reply.size() != arguments_.payload) {
        net::give_up("a reply of another size");
      }
      if (meter_.count(answered.sent)) {
        send(node);
      } else {
        io_.stop();
      }
    };
    requests_.emplace(request->request_id, request);
    if (!node->tasks.try_send(boost::system::error_code(), request)) {
      net::give_up("a queue is full");
    }
  }

  void take_reply(Reply reply) {
    const auto found = requests_.find(reply.request_id);
    if (found == requests_.end()) {
      net::give_up("a reply to nothing");
    }
    const auto request = found->second;
    requests_.erase(found);
    request->on_reply(*request, std::move(reply.body));
  }

  // ---- the load

  void polled() {
    if (polled_ == arguments_.nodes || ++polled_ < arguments_.nodes) {
      return;
    }
    if (arguments_.idle()) {
      asio::co_spawn(io_, look(*this), asio::detached);
      return;
    }
    for (const auto& [id, node] : nodes_) {
      for (std::size_t i = 0; i < arguments_.outstanding; ++i) {
        send(node);
      }
    }
  }

  static asio::awaitable<void> look(Server& server) {
    asio::steady_timer timer(server.io_, net::settle);
    co_await timer.async_wait(asio::use_awaitable);
    net::print_idle(server.before_, server.arguments_.nodes);
    server.io_.stop();
  }

  const net::ServerArguments& arguments_;
  net::Meter meter_;
  net::Memory before_{};
  asio::io_context& io_;
  tcp::acceptor acceptor_;
  std::size_t polled_ = 0;
  boost::unordered_flat_map<std::string, NodePtr> nodes_{};
  boost::unordered_flat_map<std::string, RequestPtr> requests_{};
};

}  // namespace

int main(int argc, char** argv) {
  const net::ServerArguments arguments(argc, argv);
  asio::io_context io(1);
  Server server(io, arguments);
  io.run();
  if (!arguments.idle()) {
    server.print();
  }
}
