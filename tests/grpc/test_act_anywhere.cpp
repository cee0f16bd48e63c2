// The Fed-BioMed service in a story in which every call of code of the user, one after the other,
// does something: stops the server, stops the store, sends, throws …
//
// The calls are gRPC's, but there is no gRPC behind them: nothing happens but in the loop.

#include <doctest/doctest.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/intrusive/list.hpp>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "fedagent/fedbiomed/replies.hpp"
#include "fedagent/fedbiomed/requests.hpp"
#include "fedagent/fedbiomed/server.hpp"
#include "fedagent/poll.hpp"
#include "support/user_code.hpp"

namespace {

namespace fedbiomed = fedagent::fedbiomed;
using namespace std::chrono_literals;
using fedbiomed::Message;
using test::act_in_every_call;
using test::acting_forwarder;
using test::acting_options;
using test::check_no_poll;
using test::check_out_of_work;
using test::Deed;
using test::Effect;
using test::Loop;
using test::ManualClock;
using test::stop_and_check;
using test::UserCode;

using Observer = test::ActingObserver<Message>;
using Store =
    fedagent::AgentStore<fedbiomed::Transport<test::Executor, ManualClock>, Message, Observer>;
using Service = fedbiomed::detail::Service<Store>;
using Call = fedagent::grpc::Call<test::Executor>;
using Poll = fedagent::Poll<Store::transport_type, Message, Observer>;

/// The other end of a call, in the hands of the test: what gRPC and its client would do.
class Client final
    : public ::grpc::ServerCallbackReaderWriter<::grpc::ByteBuffer, ::grpc::ByteBuffer> {
 public:
  Client(Loop& loop, int route, const std::shared_ptr<fedagent::grpc::detail::AnyMailbox>& box,
         const std::shared_ptr<const Call::Host>& host)
      : loop_(&loop) {
    auto call = std::make_shared<Call>(context_, route, box, host);
    call_ = call;
    reactor_ = Call::start(std::move(call));
    BindReactor(reactor_);
  }

  void send(std::string_view bytes) {
    const ::grpc::Slice slice(bytes.data(), bytes.size());
    inbox_.emplace_back(&slice, 1);
    answer_read();
  }
  void end_writes() {
    ended_ = true;
    answer_read();
  }
  void cancel() {
    ended_ = true;
    if (!call_.expired()) {
      reactor_->OnCancel();
      answer_read();
    }
  }
  bool done() const { return call_.expired(); }

 private:
  void Finish(::grpc::Status) override { finish(); }
  void SendInitialMetadata() override {}
  void Read(::grpc::ByteBuffer* message) override {
    reading_ = message;
    answer_read();
  }
  void Write(const ::grpc::ByteBuffer*, ::grpc::WriteOptions) override {
    later([this] { reactor_->OnWriteDone(true); });
  }
  void WriteAndFinish(const ::grpc::ByteBuffer*, ::grpc::WriteOptions, ::grpc::Status) override {
    finish();
  }
  ::grpc::internal::ServerReactor* reactor() override { return reactor_; }
  void CallOnDone() override {}

  void finish() {
    finished_ = ended_ = true;
    answer_read();
    later([] {});
  }
  void answer_read() {
    if (reading_ != nullptr && (ended_ || !inbox_.empty())) {
      const bool some = !inbox_.empty();
      if (some) {
        reading_->Swap(&inbox_.front());
        inbox_.pop_front();
      }
      reading_ = nullptr;
      later([this, some] { reactor_->OnReadDone(some); });
    }
  }
  // gRPC does not call back from within a call of its own, and tells of the end last.
  template <class F>
  void later(F function) {
    ++under_way_;
    boost::asio::post(loop_->io, [this, function] {
      function();
      if (--under_way_ == 0 && finished_) {
        reactor_->OnDone();
      }
    });
  }

  Loop* loop_;
  ::grpc::GenericCallbackServerContext context_;
  std::weak_ptr<Call> call_;
  ::grpc::ServerGenericBidiReactor* reactor_ = nullptr;
  std::deque<::grpc::ByteBuffer> inbox_{};
  ::grpc::ByteBuffer* reading_ = nullptr;
  std::size_t under_way_ = 0;
  bool ended_ = false;
  bool finished_ = false;
};

/// The server without gRPC: what `grpc::Server` does with the calls.
struct Server : std::enable_shared_from_this<Server> {
  using executor_type = test::Executor;

  Server(Store& store, Loop& loop)
      : executor(loop.executor()),
        service(std::make_shared<Service>(store, fedbiomed::ServerOptions{.chunk_size = 5000})),
        box(std::make_shared<fedagent::grpc::detail::Mailbox<executor_type>>(executor)),
        host(std::make_shared<Call::Host>(Call::Host{this, &Server::begin})) {
    service->researcher_id = "R";
  }
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  ~Server() { box->close(); }

  static void begin(void* self, const std::shared_ptr<Call>& call) {
    auto& server = *static_cast<Server*>(self);
    fedagent::grpc::detail::Serving<Server>::start(server.shared_from_this(), call);
  }
  void stop() noexcept {
    stopped = true;
    service->store = nullptr;
    *host = {};
    for (auto& serving : servings) {
      serving.end();
    }
  }

  const executor_type executor;
  const std::shared_ptr<Service> service;
  const std::shared_ptr<fedagent::grpc::detail::Mailbox<executor_type>> box;
  const std::shared_ptr<Call::Host> host;
  boost::intrusive::list<fedagent::grpc::detail::Serving<Server>> servings;
  fedagent::detail::WaitList<std::chrono::steady_clock> changed;
  bool stopped = false;
};

template <class Class>
Message encoded(std::string request_id, const Class& body) {
  auto message = fedbiomed::encode({.researcher_id = "R",
                                    .request_id = std::move(request_id),
                                    .version = fedbiomed::Version::v7},
                                   body);
  REQUIRE(message.has_value());
  return *std::move(message);
}

class Scene {
 public:
  static constexpr std::size_t least_calls = 5;

  Scene(const Deed<Scene>& deed, std::size_t n)
      : code(deed.effect, n, [this, act = deed.act] { act(*this); }) {
    store_.emplace(loop_.executor(), acting_options(code), Observer{&code, &tally_},
                   acting_forwarder(code));
    server_ = std::make_shared<Server>(*store_, loop_);
  }
  Scene(const Scene&) = delete;
  Scene& operator=(const Scene&) = delete;
  ~Scene() = default;

  void play() {
    for (const auto& act : acts()) {
      act();
      loop_.drain();
      if (stopped_) {
        check_no_poll(store_);
      }
    }
    for (int i = 0; i < 3; ++i) {
      ManualClock::advance(40s);
      loop_.drain();
    }
    code.over();
    end();
  }

  // ---- deeds

  void stop_server() {
    stopped_ = true;
    server_->stop();
  }
  void stop_store() { test::stop_store(store_); }
  void destroy_store() {
    stop_server();
    store_.reset();
  }
  void erase() { test::erase_agents(store_, {"A", "B"}); }
  void send_more() {
    for (const auto* const node : {"A", "B"}) {
      send(node, "more");
    }
  }
  void poll_more() { test::open_polls(store_, {"A", "B"}, polls_); }
  void leave() {
    for (auto& client : clients_) {
      boost::asio::post(loop_.io, [&client] { client.cancel(); });
    }
  }

 private:
  enum Route : int { get_task_unary, reply_task, feedback };

  std::vector<std::function<void()>> acts() {
    return {
        [this] { poll("A"); },
        [this] { poll("B"); },
        [this] { send("A", "q1"); },
        [this] { reply("A", "q1"); },
        [this] { reply("A", "q1"); },
        [this] { reply("nobody", "q1"); },
        [this] {
          send("A", "q2", 12'000);  // in chunks
          send("A", "q3");
        },
        [this] { poll("A"); },
        [this] { reply("A", "q2", 1000); },
        [this] { loop_.advance(1s); },  // the poll ends, to be confirmed by the next one
        [this] { poll("A"); },
        [this] { give_feedback(); },
        [this] { relay("B", "A"); },
        [this] { relay("B", "nobody"); },
        [this] {
          send("B", "q4");
          send("B", "q5");
        },
        [this] { clients_[1].cancel(); },  // its tasks go out again
        [this] { poll("B"); },
        [this] {
          if (store_) {
            store_->erase("A");
          }
        },
        [this] { poll("A"); },
        [this] { poll("C"); },
        [this] {
          send("C", "another researcher's", 0, "S");
          send("C", "q6");
        },
        [this] { call(reply_task).send("no chunk"); },
        [this] { call(get_task_unary).send("\xff\xff"); },
        [this] { loop_.advance(31s); },
        [this] { reply("B", "q4"); },
    };
  }

  Client& call(Route route) {
    return clients_.emplace_back(loop_, route, server_->box, server_->host);
  }
  void poll(const std::string& node) {
    auto& client = call(get_task_unary);
    client.send(fedbiomed::encode(fedbiomed::TaskRequest{node, "7"}));
    client.end_writes();
  }
  void send_message(const Message& message, std::size_t chunk_size = 100'000) {
    auto& client = call(reply_task);
    const fedbiomed::ChunkSplitter chunks(message.bytes(), chunk_size);
    for (std::int32_t i = 1; i <= chunks.count(); ++i) {
      client.send(fedbiomed::encode(chunks.chunk(i)));
    }
    client.end_writes();
  }
  void reply(const std::string& node, const std::string& id, std::size_t chunk_size = 100'000) {
    send_message(
        encoded(id, fedbiomed::PingReply{.node_id = node, .node_name = std::string(3000, 'n')}),
        chunk_size);
  }
  void relay(const std::string& from, const std::string& to) {
    fedbiomed::OverlayMessage overlay;
    overlay.node_id = from;
    overlay.dest_node_id = to;
    overlay.overlay.assign(100, 'x');
    overlay.salt.assign(32, 's');
    overlay.nonce.assign(16, 'n');
    send_message(encoded("", overlay));
  }
  void give_feedback() {
    auto& client = call(feedback);
    client.send(fedbiomed::encode(fedbiomed::FeedbackMessage{
        .protocol_version = "7", .feedback = fedbiomed::Log{"A", "INFO", "{}"}}));
    client.end_writes();
  }
  void send(const std::string& node, const std::string& id, std::size_t size = 10,
            const std::string& researcher = "R") {
    if (const auto agent = store_ ? store_->get(node) : std::nullopt) {
      auto message = fedbiomed::encode(
          {.researcher_id = researcher, .request_id = id, .version = fedbiomed::Version::v7},
          fedbiomed::SearchRequest{{std::string(size, 'x')}});
      REQUIRE(message.has_value());
      requests_.send(*agent, *std::move(message));
    }
  }

  void end() {
    polls_.clear();
    stop_server();
    loop_.drain();
    CHECK(server_->servings.empty());
    CHECK(server_->service->incoming_bytes == 0);
    for (auto& client : clients_) {
      client.cancel();  // what is at rest
    }
    loop_.drain();
    CHECK(std::ranges::all_of(clients_, &Client::done));
    check_no_poll(store_);
    stop_and_check(store_);
    check_out_of_work(loop_);
    requests_.check_ended();
    CHECK(tally_.balanced());
    store_.reset();
    CHECK(requests_.alive() == 0);
  }

  Loop loop_;

 public:
  UserCode code;

 private:
  test::Tally tally_;
  test::Requests<Message> requests_{code};
  std::deque<Poll> polls_{};
  std::optional<Store> store_{};
  std::shared_ptr<Server> server_{};
  std::deque<Client> clients_{};
  bool stopped_ = false;
};

constexpr Deed<Scene> deeds[] = {
    {"stop the server", Effect::none, [](Scene& scene) { scene.stop_server(); }},
    {"stop the store", Effect::ends_agents, [](Scene& scene) { scene.stop_store(); }},
    {"destroy the store", Effect::destroys_the_store, [](Scene& scene) { scene.destroy_store(); }},
    {"erase the agents", Effect::ends_agents, [](Scene& scene) { scene.erase(); }},
    {"send", Effect::calls_the_store, [](Scene& scene) { scene.send_more(); }},
    {"poll", Effect::calls_the_store, [](Scene& scene) { scene.poll_more(); }},
    {"the clients leave", Effect::calls_the_store, [](Scene& scene) { scene.leave(); }},
    {"take long", Effect::calls_the_store, [](Scene&) { ManualClock::advance(61s); }},
    {"throw", Effect::throws, [](Scene&) { throw test::Thrown("by code of the user"); }},
};

}  // namespace

TEST_CASE("act anywhere: code of the user may do anything while the Fed-BioMed service serves") {
  for (const auto& deed : deeds) {
    act_in_every_call(deed);
  }
}
