// The nodes of the network benchmarks: one process, raw epoll. Each node says hello, polls, and
// answers each task with a reply of the same size and its next poll, in one write. What it does is
// the same for every server and small: a task's body is read and forgotten, and a reply's body is
// one buffer that all nodes share.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "net_frames.hpp"
#include "net_server.hpp"

namespace {

using net::Clock;

/// What follows the ids of every reply, to the end of the poll after it.
std::string end_of_reply(std::size_t payload) {
  std::string wire;
  const std::string body(payload, 'r');
  auto rest = payload - net::body_in_first_chunk(36, payload);
  wire.append(body, 0, payload - rest);
  for (std::uint32_t index = 1; rest > 0; ++index) {
    const auto part = net::body_in_next_chunk(rest);
    net::put_next_chunk(wire, net::reply, index, rest);
    wire.append(body, 0, part);
    rest -= part;
  }
  net::put_head(wire, net::poll, 0);
  return wire;
}

std::string node_id(std::size_t number) {
  std::string id = "hospital-00000000-of-a-long-enough-name-x";
  for (std::size_t at = 17; number > 0; number /= 10) {
    id[--at] = static_cast<char>('0' + number % 10);
  }
  return id;
}

struct Node {
  int socket = -1;
  /// The head of the frame that is being read, with the ids of a first chunk.
  std::array<char, net::head_size + net::first_chunk_head_size + 64> head{};
  std::size_t have = 0;
  /// What is left of the frame's payload.
  std::size_t skip = 0;
  bool skipping = false;
  bool in_message = false;
  std::string request_id{};

  /// The reply: what is its own, and how much of that and of the shared end is written.
  std::string own{};
  std::size_t written = 0;
  bool replying = false;
  bool waits_to_write = false;
};

class Load {
 public:
  Load(std::uint16_t port, std::size_t count, std::size_t payload)
      : payload_(payload), end_of_reply_(end_of_reply(payload)), nodes_(count) {
    epoll_ = epoll_create1(0);
    for (std::size_t i = 0; i < count; ++i) {
      connect(nodes_[i], port, node_id(i));
    }
  }

  /// Until the server closes a connection.
  void run() {
    std::array<epoll_event, 256> events{};
    auto ping_at = Clock::now() + ping_interval;
    while (!ended_) {
      const int ready = epoll_wait(epoll_, events.data(), events.size(), 200);
      for (int i = 0; i < ready && !ended_; ++i) {
        const auto& event = events[static_cast<std::size_t>(i)];
        auto& node = *static_cast<Node*>(event.data.ptr);
        if ((event.events & EPOLLOUT) != 0) {
          write(node);
        }
        if ((event.events & ~static_cast<unsigned>(EPOLLOUT)) != 0) {
          read(node);
        }
      }
      if (Clock::now() >= ping_at) {
        ping_at += ping_interval;
        ping();
      }
    }
  }

 private:
  static constexpr std::chrono::milliseconds ping_interval{net::ping_interval_ms};

  void connect(Node& node, std::uint16_t port, const std::string& id) {
    node.socket = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in where{};
    where.sin_family = AF_INET;
    where.sin_port = htons(port);
    where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (node.socket < 0 ||
        ::connect(node.socket, reinterpret_cast<const sockaddr*>(&where), sizeof where) != 0) {
      net::give_up(std::string("cannot connect: ") + std::strerror(errno));
    }
    const int on = 1;
    setsockopt(node.socket, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    std::string wire;
    net::put_hello(wire, reinterpret_cast<std::uintptr_t>(&node), id);
    send_small(node, wire);
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = &node;
    epoll_ctl(epoll_, EPOLL_CTL_ADD, node.socket, &event);
  }

  // For what a socket's buffer always has room for.
  void send_small(Node& node, std::string_view wire) {
    if (send(node.socket, wire.data(), wire.size(), MSG_NOSIGNAL | MSG_DONTWAIT) !=
        static_cast<ssize_t>(wire.size())) {
      ended_ = true;
    }
  }

  void ping() {
    std::string wire;
    net::put_head(wire, net::ping, 0);
    for (auto& node : nodes_) {
      if (!node.replying) {
        send_small(node, wire);
      }
    }
  }

  void read(Node& node) {
    const auto size = recv(node.socket, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    if (size <= 0) {
      ended_ = ended_ || size == 0 || errno != EAGAIN;
      return;
    }
    const char* at = buffer_.data();
    const char* const end = at + size;
    while (at != end || (node.skipping && node.skip == 0)) {
      at = node.skipping ? skip(node, at, end) : gather(node, at, end);
    }
  }

  const char* gather(Node& node, const char* at, const char* end) {
    const auto wanted = size_of_head(node) - node.have;
    const auto taken = std::min(wanted, static_cast<std::size_t>(end - at));
    std::copy_n(at, taken, node.head.begin() + node.have);
    node.have += taken;
    if (const auto size = size_of_head(node); node.have == size) {
      const auto head = net::Head::read(node.head.data());
      node.skip = head.length - (size - net::head_size);
      node.skipping = true;
      if (head.type == net::task && !node.in_message) {
        const auto ids = net::ChunkHead::read(node.head.data() + net::head_size);
        node.request_id.assign(node.head.data() + net::head_size + net::first_chunk_head_size,
                               ids.request_id);
        if (ids.total != payload_) {
          net::give_up("a task of another size");
        }
      }
    }
    return at + taken;
  }

  /// How much of the frame is gathered, as far as it can be told.
  static std::size_t size_of_head(const Node& node) {
    std::size_t size = net::head_size;
    if (node.have >= size) {
      const auto head = net::Head::read(node.head.data());
      if (head.type == net::task && !node.in_message) {
        size += net::first_chunk_head_size;
        if (node.have >= size) {
          size += net::ChunkHead::read(node.head.data() + net::head_size).ids();
        }
      }
    }
    if (size > node.head.size()) {
      net::give_up("ids that are too long");
    }
    return size;
  }

  const char* skip(Node& node, const char* at, const char* end) {
    const auto skipped = std::min(node.skip, static_cast<std::size_t>(end - at));
    node.skip -= skipped;
    if (node.skip == 0) {
      const auto head = net::Head::read(node.head.data());
      node.skipping = false;
      node.have = 0;
      if (head.type == net::task) {  // a pong may come between two chunks
        node.in_message = !head.last;
      }
      frame_ended(node, head);
    }
    return at + skipped;
  }

  void frame_ended(Node& node, const net::Head& head) {
    if (head.type == net::welcome || head.type == net::poll_end) {
      std::string wire;
      net::put_head(wire, net::poll, 0);
      send_small(node, wire);
    } else if (head.type == net::task && head.last) {
      node.own.clear();
      net::put_first_chunk(node.own, net::reply, node.request_id, payload_);
      node.written = 0;
      node.replying = true;
      write(node);
    } else if (head.type != net::task && head.type != net::reply_result && head.type != net::pong) {
      net::give_up("a frame that was not expected, of type " + std::to_string(head.type));
    }
  }

  void write(Node& node) {
    const auto whole = node.own.size() + end_of_reply_.size();
    while (node.replying) {
      const auto own = std::min(node.written, node.own.size());
      const auto shared = node.written - own;
      std::array<iovec, 2> parts{
          iovec{node.own.data() + own, node.own.size() - own},
          iovec{end_of_reply_.data() + shared, end_of_reply_.size() - shared}};
      msghdr message{};
      message.msg_iov = parts.data();
      message.msg_iovlen = parts.size();
      const auto size = sendmsg(node.socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (size < 0) {
        ended_ = ended_ || errno != EAGAIN;
        break;
      }
      node.written += static_cast<std::size_t>(size);
      node.replying = node.written < whole;
    }
    if (node.replying != node.waits_to_write) {
      node.waits_to_write = node.replying;
      epoll_event event{};
      event.events = node.replying ? EPOLLIN | EPOLLOUT : EPOLLIN;
      event.data.ptr = &node;
      epoll_ctl(epoll_, EPOLL_CTL_MOD, node.socket, &event);
    }
  }

  std::size_t payload_;
  std::string end_of_reply_;
  std::vector<Node> nodes_;
  std::vector<char> buffer_ = std::vector<char>(std::size_t{256} << 10U);
  int epoll_ = -1;
  bool ended_ = false;
};

}  // namespace

int main(int argc, char** argv) {
  const net::Arguments arguments(argc, argv);
  const auto nodes = arguments.count("--nodes", 100);
  net::want_descriptors(nodes + 64);
  Load load(static_cast<std::uint16_t>(arguments.count("--port", 0)), nodes,
            arguments.count("--payload", 64));
  load.run();
}
