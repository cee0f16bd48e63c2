// The limit: what a careful engineer writes by hand on epoll for this load, and no more.
//
// One read and one write for each batch of frames: all connections read into one buffer and write
// from one, and keep bytes of their own only of a frame that is not whole. Small tasks are copied
// into that buffer, large bodies are written from the message and read into their place.
//
// What it leaves out of what fedagent does: leases and redelivery, deadlines, ages and retries,
// queue limits, status and liveness of nodes, silent peers, sessions and newest-wins, overlay
// messages, feedback, chunks of other frames between those of a message, errors that are told to
// the peer, layers such as TLS, and all checks of the peer but those that keep it from overrunning
// memory.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <boost/circular_buffer.hpp>
#include <boost/unordered/unordered_flat_map.hpp>
#include <cerrno>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "net_frames.hpp"
#include "net_server.hpp"

namespace {

using net::Clock;

struct Request {
  std::string request_id{};
  std::string body{};
  std::size_t node = 0;
  Clock::time_point sent{};
};
using RequestPtr = std::unique_ptr<Request>;

/// A message of which not all has come.
struct Incoming {
  std::string request_id{};
  std::string body{};
  std::size_t filled = 0;
  /// What is left of the chunk that is being read.
  std::size_t chunk_rest = 0;
  bool last = false;
};

/// What the socket has not taken: bytes, then the parts of a large task, then what came later.
struct Outgoing {
  std::string before{};
  std::string heads{};
  std::vector<iovec> parts{};
  std::string after{};
  /// How much of them all is written.
  std::size_t written = 0;
  bool watched = false;
};

struct Connection {
  int socket = -1;
  std::size_t number = 0;
  bool welcomed = false;
  bool polling = false;
  std::string node_id{};
  std::string partial{};
  std::unique_ptr<Incoming> incoming{};
  std::unique_ptr<Outgoing> outgoing{};
  boost::circular_buffer<Request*> queue{};
};

class Server {
 public:
  explicit Server(const net::ServerArguments& arguments)
      : arguments_(arguments), meter_(arguments) {
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_port = htons(arguments.port);
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof where;
    auto* const address = reinterpret_cast<sockaddr*>(&where);
    if (bind(listener_, address, size) != 0 || listen(listener_, SOMAXCONN) != 0 ||
        getsockname(listener_, address, &size) != 0) {
      net::give_up("cannot listen");
    }
    epoll_ = epoll_create1(0);
    watch(listener_, nullptr, EPOLLIN, EPOLL_CTL_ADD);
    net::print_port(ntohs(where.sin_port));
    before_ = net::Memory::now();
  }

  void run() {
    std::array<epoll_event, 256> events{};
    while (!done_) {
      const int timeout =
          look_at_ ? static_cast<int>(std::chrono::milliseconds(net::settle).count()) : -1;
      const int ready = epoll_wait(epoll_, events.data(), events.size(), timeout);
      for (int i = 0; i < ready && !done_; ++i) {
        const auto& event = events[static_cast<std::size_t>(i)];
        if (event.data.ptr == nullptr) {
          accept();
        } else {
          serve(*static_cast<Connection*>(event.data.ptr), event.events);
        }
      }
      if (look_at_ && Clock::now() >= *look_at_) {
        net::print_idle(before_, arguments_.nodes);
        return;
      }
    }
    meter_.print();
  }

 private:
  void watch(int socket, Connection* connection, unsigned what, int how) const {
    epoll_event event{};
    event.events = what;
    event.data.ptr = connection;
    epoll_ctl(epoll_, how, socket, &event);
  }

  void accept() {
    const int socket = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK);
    if (socket < 0) {
      return;
    }
    const int on = 1;
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    auto connection = std::make_unique<Connection>();
    connection->socket = socket;
    connection->number = connections_.size();
    watch(socket, connection.get(), EPOLLIN, EPOLL_CTL_ADD);
    connections_.push_back(std::move(connection));
  }

  // A connection that ends stays in the table: in this load it is the end of the run.
  static void close(Connection& c) {
    ::close(c.socket);
    net::give_up("a connection ended: " + c.node_id);
  }

  void serve(Connection& c, unsigned events) {
    if ((events & EPOLLOUT) != 0) {
      write_rest(c);
    }
    if ((events & ~static_cast<unsigned>(EPOLLOUT)) != 0) {
      read(c);
    }
  }

  // ---- reading

  void read(Connection& c) {
    // The rest of a chunk goes into its place, what comes behind it into the buffer.
    std::array<iovec, 2> parts{};
    std::size_t in_place = 0;
    if (c.incoming) {
      in_place = c.incoming->chunk_rest;
      parts[0] = {c.incoming->body.data() + c.incoming->filled, in_place};
    }
    const auto kept = c.partial.size();
    std::copy(c.partial.begin(), c.partial.end(), in_.begin());
    c.partial.clear();
    parts[1] = {in_.data() + kept, in_.size() - kept};
    const auto got = readv(c.socket, parts.data(), parts.size());
    if (got <= 0) {
      if (got == 0 || errno != EAGAIN) {
        close(c);
      }
      c.partial.assign(in_.data(), kept);
      return;
    }
    auto size = static_cast<std::size_t>(got);
    if (in_place > 0) {
      const auto placed = std::min(in_place, size);
      size -= placed;
      body_came(c, placed);
    }
    take_frames(c, std::string_view(in_.data(), kept + size));
    flush(c);
  }

  void take_frames(Connection& c, std::string_view bytes) {
    while (!bytes.empty()) {
      const auto taken = take_frame(c, bytes);
      if (taken == 0) {
        c.partial.assign(bytes);
        return;
      }
      bytes.remove_prefix(taken);
    }
  }

  // How many bytes it took; of a chunk it takes what is there, of all else nothing or the whole.
  std::size_t take_frame(Connection& c, std::string_view bytes) {
    if (bytes.size() < net::head_size) {
      return 0;
    }
    const auto head = net::Head::read(bytes.data());
    if (!head.sound() || (head.type != net::hello && !c.welcomed)) {
      close(c);
    }
    if (head.is_chunk()) {
      return take_chunk(c, head, bytes);
    }
    if (bytes.size() < net::head_size + head.length) {
      return 0;
    }
    switch (head.type) {
      case net::hello:
        meet(c, bytes.substr(net::head_size, head.length));
        break;
      case net::poll:
        c.polling = true;
        if (polling_ < arguments_.nodes && ++polling_ == arguments_.nodes) {
          all_poll();
        }
        deliver(c);
        break;
      case net::ping:
        net::put_head(out_, net::pong, 0);
        break;
      default:
        close(c);
    }
    return net::head_size + head.length;
  }

  void meet(Connection& c, std::string_view payload) {
    if (payload.size() <= net::hello_size ||
        net::take<std::uint32_t>(payload.data()) != net::magic ||
        net::take<std::uint16_t>(payload.data() + 4) != net::version) {
      close(c);
    }
    c.node_id = payload.substr(net::hello_size);
    by_node_.insert_or_assign(c.node_id, &c);
    c.welcomed = true;
    net::put_welcome(out_);
  }

  std::size_t take_chunk(Connection& c, const net::Head& head, std::string_view bytes) {
    std::size_t before_body = net::head_size + net::chunk_index_size;
    if (!c.incoming) {
      before_body = net::head_size + net::first_chunk_head_size;
      if (bytes.size() < before_body) {
        return 0;
      }
      const auto chunk = net::ChunkHead::read(bytes.data() + net::head_size);
      before_body += chunk.ids();
      if (chunk.total > net::max_message || before_body > net::head_size + head.length) {
        close(c);
      }
      if (bytes.size() < before_body) {
        return 0;
      }
      c.incoming = std::make_unique<Incoming>();
      c.incoming->request_id =
          bytes.substr(net::head_size + net::first_chunk_head_size, chunk.request_id);
      c.incoming->body.resize(chunk.total);
    }
    if (bytes.size() < before_body) {
      return 0;
    }
    auto& incoming = *c.incoming;
    incoming.chunk_rest = net::head_size + head.length - before_body;
    incoming.last = head.last;
    if (incoming.chunk_rest > incoming.body.size() - incoming.filled) {
      close(c);
    }
    const auto body = bytes.substr(before_body, incoming.chunk_rest);
    std::copy(body.begin(), body.end(),
              incoming.body.begin() + static_cast<std::ptrdiff_t>(incoming.filled));
    body_came(c, body.size());
    return before_body + body.size();
  }

  void body_came(Connection& c, std::size_t size) {
    auto& incoming = *c.incoming;
    incoming.filled += size;
    incoming.chunk_rest -= size;
    if (incoming.chunk_rest == 0 && incoming.last) {
      const auto whole = std::move(c.incoming);
      take_reply(*whole);
    }
  }

  void take_reply(const Incoming& message) {
    const auto found = requests_.find(message.request_id);
    if (found == requests_.end()) {
      net::give_up("a reply to nothing");
    }
    net::put_reply_result(out_, net::disposition_delivered);
    const auto request = std::move(found->second);
    requests_.erase(found);
    replied(*request, message.body);
  }

  // ---- requests

  void send(Connection& c, std::string request_id, std::string body) {
    auto request = std::make_unique<Request>();
    *request = {std::move(request_id), std::move(body), c.number, Clock::now()};
    if (c.queue.full()) {
      c.queue.set_capacity(std::max<std::size_t>(2, 2 * c.queue.capacity()));
    }
    c.queue.push_back(request.get());
    const std::string_view key = request->request_id;
    requests_.emplace(key, std::move(request));
    deliver(c);
  }

  void deliver(Connection& c) {
    if (!c.polling || c.queue.empty()) {
      return;
    }
    const auto& request = *c.queue.front();
    c.queue.pop_front();
    c.polling = false;
    if (request.body.size() <= copied) {
      net::put_first_chunk(out_, net::task, request.request_id, request.body.size());
      out_.append(request.body);
      return;
    }
    auto large = large_task(request);
    if (c.outgoing) {
      for (const auto& part : large->parts) {
        out_.append(static_cast<const char*>(part.iov_base), part.iov_len);
      }
    } else {
      large->before.swap(out_);
      c.outgoing = std::move(large);
    }
  }

  static std::unique_ptr<Outgoing> large_task(const Request& request) {
    auto large = std::make_unique<Outgoing>();
    const auto size = request.body.size();
    large->heads.reserve(128 + size / net::chunk_size * 16);  // so that it stays where it is
    const char* body = request.body.data();
    std::size_t rest = size;
    for (std::uint32_t index = 0; rest > 0; ++index) {
      const auto begin = large->heads.size();
      std::size_t part = 0;
      if (index == 0) {
        net::put_first_chunk(large->heads, net::task, request.request_id, size);
        part = net::body_in_first_chunk(request.request_id.size(), size);
      } else {
        net::put_next_chunk(large->heads, net::task, index, rest);
        part = net::body_in_next_chunk(rest);
      }
      large->parts.push_back({large->heads.data() + begin, large->heads.size() - begin});
      large->parts.push_back({const_cast<char*>(body), part});
      body += part;
      rest -= part;
    }
    return large;
  }

  // ---- writing

  void flush(Connection& c) {
    if (c.outgoing) {
      c.outgoing->after.append(out_);
      out_.clear();
      write_rest(c);
      return;
    }
    if (out_.empty()) {
      return;
    }
    const auto sent = ::send(c.socket, out_.data(), out_.size(), MSG_NOSIGNAL);
    const auto taken = sent < 0 ? 0 : static_cast<std::size_t>(sent);
    if (taken < out_.size()) {
      c.outgoing = std::make_unique<Outgoing>();
      c.outgoing->before.assign(out_, taken);
      write_rest(c);
    }
    out_.clear();
  }

  void write_rest(Connection& c) {
    auto& rest = *c.outgoing;
    while (true) {
      std::vector<iovec> parts;
      std::size_t skipped = rest.written;
      const auto add = [&](char* data, std::size_t size) {
        const auto skip = std::min(skipped, size);
        skipped -= skip;
        if (skip < size && parts.size() < most_parts) {
          parts.push_back({data + skip, size - skip});
        }
      };
      add(rest.before.data(), rest.before.size());
      for (const auto& part : rest.parts) {
        add(static_cast<char*>(part.iov_base), part.iov_len);
      }
      add(rest.after.data(), rest.after.size());
      if (parts.empty()) {
        break;
      }
      const auto sent = writev(c.socket, parts.data(), static_cast<int>(parts.size()));
      if (sent < 0 && errno != EAGAIN) {
        close(c);
      }
      if (sent < 0) {
        if (!rest.watched) {
          rest.watched = true;
          watch(c.socket, &c, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
        }
        return;
      }
      rest.written += static_cast<std::size_t>(sent);
    }
    if (rest.watched) {
      watch(c.socket, &c, EPOLLIN, EPOLL_CTL_MOD);
    }
    c.outgoing.reset();
  }

  // ---- the load

  void all_poll() {
    if (arguments_.idle()) {
      look_at_ = Clock::now() + net::settle;
      return;
    }
    // What is being read right now has its bytes flushed by its reader.
    auto reading = std::exchange(out_, {});
    for (auto& connection : connections_) {
      for (std::size_t i = 0; i < arguments_.outstanding; ++i) {
        send(*connection, net::next_request_id(), std::string(arguments_.payload, 't'));
      }
      flush(*connection);
    }
    out_ = std::move(reading);
  }

  void replied(const Request& request, std::string_view body) {
    if (body.size() != arguments_.payload) {
      net::give_up("a reply of another size");
    }
    if (!meter_.count(request.sent)) {
      done_ = true;
      return;
    }
    send(*connections_[request.node], net::next_request_id(), std::string(arguments_.payload, 't'));
  }

  static constexpr std::size_t most_parts = 64;
  static constexpr std::size_t copied = std::size_t{16} << 10U;

  const net::ServerArguments& arguments_;
  net::Meter meter_;
  net::Memory before_{};
  std::optional<Clock::time_point> look_at_{};
  bool done_ = false;
  int listener_ = -1;
  int epoll_ = -1;
  std::size_t polling_ = 0;
  std::vector<char> in_ = std::vector<char>(std::size_t{64} << 10U);
  std::string out_{};
  std::vector<std::unique_ptr<Connection>> connections_{};
  boost::unordered_flat_map<std::string_view, Connection*, std::hash<std::string_view>> by_node_{};
  // Keyed by the id in the request.
  boost::unordered_flat_map<std::string_view, RequestPtr, std::hash<std::string_view>> requests_{};
};

}  // namespace

int main(int argc, char** argv) {
  const net::ServerArguments arguments(argc, argv);
  Server server(arguments);
  server.run();
}
