// A server of Fed-BioMed nodes that does as it is told, a JSON line at a time on stdin, and tells
// what happens, a JSON line at a time on stdout. For run.py.
#include <openssl/sha.h>

#include <array>
#include <boost/asio.hpp>
#include <chrono>
#include <exception>
#include <fedagent/fedagent.hpp>
#include <fedagent/fedbiomed/requests.hpp>
#include <fedagent/fedbiomed/server.hpp>
#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace {

namespace asio = boost::asio;
namespace fedbiomed = fedagent::fedbiomed;
using fedbiomed::Json;
using Message = fedbiomed::Message;
using MessagePtr = fedagent::MessagePtr<Message>;

void tell(const Json& line) { std::cout << line.dump() << std::endl; }

std::string hash_of(const std::string& bytes) {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), digest.data());
  constexpr std::string_view digits = "0123456789abcdef";
  std::string text;
  for (const unsigned byte : digest) {
    text += digits[byte / 16];
    text += digits[byte % 16];
  }
  return text;
}

std::string_view name_of(fedagent::ReplyDisposition disposition) {
  using enum fedagent::ReplyDisposition;
  switch (disposition) {
    case delivered:
      return "delivered";
    case forwarded:
      return "forwarded";
    case duplicate:
      return "duplicate";
    case late:
      return "late";
    default:
      return "other";
  }
}

struct Observer {
  void on_status(std::string_view node_id, fedagent::NodeActiveStatus,
                 fedagent::NodeActiveStatus to) {
    tell({{"event", "status"}, {"node", node_id}, {"to", fedagent::to_string(to)}});
  }
  void on_requeued(std::string_view node_id, const MessagePtr& message, std::uint32_t retry) {
    tell({{"event", "requeued"},
          {"node", node_id},
          {"id", message->request_id()},
          {"retry", retry}});
  }
  void on_reply(std::string_view node_id, const MessagePtr& message,
                fedagent::ReplyDisposition disposition) {
    tell({{"event", "reply"},
          {"node", node_id},
          {"id", message->request_id()},
          {"class", message->type()},
          {"disposition", name_of(disposition)}});
  }
  void on_unknown_node(std::string_view node_id, const MessagePtr& message) {
    tell({{"event", "unknown_node"}, {"node", node_id}, {"id", message->request_id()}});
  }
  void on_wrong_node(std::string_view node_id, std::string_view claim) {
    tell({{"event", "wrong_node"}, {"node", node_id}, {"claim", claim}});
  }
  void on_feedback(std::string_view node_id, const fedbiomed::Log& log) {
    tell({{"event", "feedback"}, {"node", node_id}, {"kind", "log"}, {"msg", log.msg}});
  }
  void on_feedback(std::string_view node_id, const fedbiomed::Scalar& scalar) {
    tell({{"event", "feedback"}, {"node", node_id}, {"kind", "scalar"}, {"metric", scalar.metric}});
  }
};

using Store = fedagent::AgentStore<fedbiomed::Transport<>, Message, Observer>;

std::string contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

fedagent::StoreOptions store_options(const Json& of) {
  fedagent::StoreOptions options;
  options.agent.when_disconnected = fedagent::DisconnectedPolicy::hold;
  options.agent.poll_timeout = std::chrono::milliseconds(of.value("poll_timeout_ms", 50'000));
  options.agent.max_retries = of.value("max_retries", 5U);
  return options;
}

fedbiomed::ServerOptions server_options(const Json& of) {
  fedbiomed::ServerOptions options;
  options.tls.certificate_chain = contents(of.at("cert"));
  options.tls.private_key = contents(of.at("key"));
  options.tls.client_ca = of.contains("client_ca") ? contents(of.at("client_ca")) : "";
  options.node_id_in = of.value("id_in_san", false) ? fedagent::grpc::NameIn::alternative_name
                                                    : fedagent::grpc::NameIn::common_name;
  options.chunk_size = of.value("chunk_size", options.chunk_size);
  options.max_message = of.value("max_message", options.max_message);
  options.on_warning = [](std::string_view sentence) {
    tell({{"event", "warning"}, {"text", sentence}});
  };
  return options;
}

class Program {
 public:
  explicit Program(const Json& options)
      : store_(io_.get_executor(), store_options(options)),
        server_(store_, server_options(options)),
        input_(io_, ::dup(STDIN_FILENO)) {}

  int run(const std::string& address) {
    const auto port = server_.listen(address);
    if (!port) {
      tell({{"event", "failed"}, {"error", port.error().message()}});
      return 2;
    }
    tell({{"event", "listening"}, {"port", *port}, {"researcher_id", server_.researcher_id()}});
    asio::co_spawn(io_, obey(*this), [](const std::exception_ptr& failed) {
      if (failed) {
        std::rethrow_exception(failed);
      }
    });
    io_.run();
    const auto counters = store_.counters();
    tell({{"event", "counters"},
          {"balanced", counters.balanced()},
          {"accepted", counters.accepted},
          {"confirmed", counters.confirmed},
          {"dropped", counters.total_dropped()},
          {"redelivered", counters.redelivered},
          {"replied", counters.replied},
          {"wrong_node", counters.wrong_node}});
    return 0;
  }

 private:
  static asio::awaitable<void> obey(Program& program) {
    std::string buffer;
    boost::system::error_code error;
    while (!error && !program.stopped_) {
      const auto size =
          co_await asio::async_read_until(program.input_, asio::dynamic_buffer(buffer), '\n',
                                          asio::redirect_error(asio::use_awaitable, error));
      if (!error) {
        program.carry_out(Json::parse(buffer.substr(0, size)));
        buffer.erase(0, size);
      }
    }
    program.stop();
  }

  void carry_out(const Json& order) {
    const std::string what = order.at("do");
    if (what == "stop") {
      stop();
    } else if (what == "request") {
      request(order);
    } else if (what == "look") {
      const auto agent = store_.get(std::string(order.at("node")));
      const auto version = server_.version_of(std::string(order.at("node")));
      tell({{"event", "look"},
            {"known", agent.has_value()},
            {"version", version ? fedbiomed::to_string(*version) : ""}});
    }
  }

  void stop() {
    stopped_ = true;
    server_.stop();
    store_.stop();
  }

  void request(const Json& order) {
    const std::string node_id = order.at("node");
    const std::string id = order.at("id");
    const auto agent = store_.retrieve(node_id);
    const fedbiomed::Head head{
        .researcher_id = order.value("researcher_id", server_.researcher_id()),
        .request_id = id,
        .version = server_.version_of(node_id).value_or(fedbiomed::Version::v7)};
    auto message = make(head, order);
    if (!agent || !message) {
      return tell({{"event", "outcome"}, {"id", id}, {"error", "cannot be sent"}});
    }
    tell({{"event", "sending"},
          {"id", id},
          {"size", message->size()},
          {"sha", hash_of(message->bytes())}});
    const auto deadline = std::chrono::steady_clock::now() +
                          std::chrono::milliseconds(order.value("timeout_ms", 60'000));
    const auto sent = agent->try_send(*std::move(message),
                                      [id, node_id](const fedagent::Outcome<Message>& outcome) {
                                        if (outcome) {
                                          tell({{"event", "outcome"},
                                                {"id", id},
                                                {"node", node_id},
                                                {"class", (*outcome)->type()},
                                                {"size", (*outcome)->size()},
                                                {"sha", hash_of((*outcome)->bytes())}});
                                        } else {
                                          tell({{"event", "outcome"},
                                                {"id", id},
                                                {"node", node_id},
                                                {"error", outcome.error().message()}});
                                        }
                                      },
                                      {.deadline = deadline});
    if (!sent) {
      tell(
          {{"event", "outcome"}, {"id", id}, {"node", node_id}, {"error", sent.error().message()}});
    }
  }

  static boost::system::result<Message> make(const fedbiomed::Head& head, const Json& order) {
    if (order.value("class", "ping") == "ping") {
      return fedbiomed::encode(head, fedbiomed::PingRequest{});
    }
    fedbiomed::TrainRequest train;
    train.experiment_id = "experiment";
    train.dataset_id = "dataset";
    train.training = true;
    const std::vector<std::uint8_t> padding(order.value("bytes", std::size_t{0}), 'x');
    train.params = {{"padding", Json::binary(padding)}};
    return fedbiomed::encode(head, train);
  }

  asio::io_context io_;
  Store store_;
  fedbiomed::Server<Store> server_;
  asio::posix::stream_descriptor input_;
  bool stopped_ = false;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "server ADDRESS OPTIONS_AS_JSON\n";
    return 2;
  }
  try {
    return Program(Json::parse(argv[2])).run(argv[1]);
  } catch (const std::exception& error) {
    std::cerr << "server: " << error.what() << '\n';
    return 2;
  }
}
