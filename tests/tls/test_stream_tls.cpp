#include <doctest/doctest.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/deferred.hpp>
#include <boost/asio/experimental/channel.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/write.hpp>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "support/stream.hpp"

using namespace test::stream;
using test::errc;
using test::ReplyDisposition;
using namespace std::chrono_literals;

namespace {

namespace ssl = boost::asio::ssl;
using boost::system::error_code;
using Tcp = boost::asio::ip::tcp;
using TcpSocket = boost::asio::basic_stream_socket<Tcp, test::Executor>;
using TlsStream = ssl::stream<TcpSocket>;
using Context = std::shared_ptr<ssl::context>;

// ---- who is who

template <auto Free>
struct Freed {
  template <class T>
  void operator()(T* object) const noexcept {
    Free(object);
  }
};
using Key = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Freed<X509_free>>;

/// A key, and a certificate by its own hand that gives it a name.
struct Identity {
  explicit Identity(std::string_view name) : key(EVP_EC_gen("P-256")), certificate(X509_new()) {
    REQUIRE(key);
    REQUIRE(certificate);
    auto* const c = certificate.get();
    auto* const subject = X509_get_subject_name(c);
    constexpr long day = 24L * 60 * 60;
    REQUIRE(X509_set_version(c, X509_VERSION_3) == 1);
    REQUIRE(ASN1_INTEGER_set(X509_get_serialNumber(c), 1) == 1);
    REQUIRE(X509_gmtime_adj(X509_getm_notBefore(c), -day) != nullptr);
    REQUIRE(X509_gmtime_adj(X509_getm_notAfter(c), day) != nullptr);
    REQUIRE(X509_NAME_add_entry_by_NID(subject, NID_commonName, MBSTRING_UTF8,
                                       reinterpret_cast<const unsigned char*>(name.data()),
                                       static_cast<int>(name.size()), -1, 0) == 1);
    REQUIRE(X509_set_issuer_name(c, subject) == 1);
    REQUIRE(X509_set_pubkey(c, key.get()) == 1);
    REQUIRE(X509_sign(c, key.get(), EVP_sha256()) > 0);
  }

  Key key;
  Certificate certificate;
};

/// Who one is, and who one speaks with: no one without a certificate from among those.
Context context_of(const Identity& own, std::initializer_list<const Identity*> trusted) {
  auto context = std::make_shared<ssl::context>(ssl::context::tls);
  auto* const native = context->native_handle();
  REQUIRE(SSL_CTX_set_min_proto_version(native, TLS1_2_VERSION) == 1);
  REQUIRE(SSL_CTX_use_certificate(native, own.certificate.get()) == 1);
  REQUIRE(SSL_CTX_use_PrivateKey(native, own.key.get()) == 1);
  for (const auto* other : trusted) {
    REQUIRE(X509_STORE_add_cert(SSL_CTX_get_cert_store(native), other->certificate.get()) == 1);
  }
  context->set_verify_mode(ssl::verify_peer | ssl::verify_fail_if_no_peer_cert);
  return context;
}

/// The name in the peer's certificate, with any zero bytes in it; empty when there is none.
std::string peer_name(TlsStream& stream) {
  const Certificate certificate(SSL_get1_peer_certificate(stream.native_handle()));
  if (!certificate) {
    return {};
  }
  const auto* const subject = X509_get_subject_name(certificate.get());
  const int at = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
  if (at < 0) {
    return {};
  }
  unsigned char* text = nullptr;
  const int size =
      ASN1_STRING_to_UTF8(&text, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, at)));
  if (size < 0) {
    return {};
  }
  std::string name(reinterpret_cast<const char*>(text), static_cast<std::size_t>(size));
  OPENSSL_free(text);
  return name;
}

// ---- the two ends

/// The server's: a node is who its certificate names.
struct Tls {
  Context context;

  TlsStream wrap(TcpSocket socket) const { return {std::move(socket), *context}; }
  test::awaitable<error_code> handshake(TlsStream& stream) const { return shake(stream); }
  bool authenticate(TlsStream& stream, std::string_view node_id) const {
    return peer_name(stream) == node_id;
  }
  bool is_end(error_code error) const noexcept { return error == ssl::error::stream_truncated; }

 private:
  static test::awaitable<error_code> shake(TlsStream& stream) {
    const auto [error] = co_await stream.async_handshake(
        ssl::stream_base::server, boost::asio::as_tuple(boost::asio::deferred));
    co_return error;
  }
};

class TlsConnector {
 public:
  using executor_type = test::Executor;

  TlsConnector(const test::Executor& executor, const Tcp::endpoint& endpoint, Context context)
      : executor_(executor), endpoint_(endpoint), context_(std::move(context)) {}
  executor_type get_executor() const noexcept { return executor_; }
  test::awaitable<boost::system::result<TlsStream>> operator()() const {
    return connect(executor_, endpoint_, context_);
  }

 private:
  static test::awaitable<boost::system::result<TlsStream>> connect(test::Executor executor,
                                                                   Tcp::endpoint endpoint,
                                                                   Context context) {
    TcpSocket socket(executor);
    const auto [failed] =
        co_await socket.async_connect(endpoint, boost::asio::as_tuple(boost::asio::deferred));
    if (failed) {
      co_return failed;
    }
    TlsStream stream(std::move(socket), *context);
    const auto [refused] = co_await stream.async_handshake(
        ssl::stream_base::client, boost::asio::as_tuple(boost::asio::deferred));
    if (refused) {
      co_return refused;
    }
    co_return stream;
  }

  test::Executor executor_;
  Tcp::endpoint endpoint_;
  Context context_;
};

/// What a node's handler has been given; it answers at once, or when told to.
struct Work {
  using Go = boost::asio::experimental::channel<test::Executor, void(error_code, int)>;

  explicit Work(const test::Executor& executor) : go(executor, 10) {}
  std::vector<std::string> tasks{};
  bool waits = false;
  Go go;
};

struct Handler {
  using Reply = boost::system::result<Message>;
  std::shared_ptr<Work> work;

  test::awaitable<Reply> operator()(Message task) const { return answer(work, std::move(task)); }

  static test::awaitable<Reply> answer(std::shared_ptr<Work> work, Message task) {
    work->tasks.push_back(task.body);
    if (work->waits) {
      co_await work->go.async_receive(boost::asio::deferred);
    }
    Message reply;
    reply.body = "re: " + task.body;
    co_return reply;
  }
};

/// A server behind TLS, and how to be a node of it.
struct Federation : Served {
  Federation() {
    const Tcp::endpoint any_port(boost::asio::ip::make_address("127.0.0.1"), 0);
    const auto bound = server.listen(any_port, Tls{context_of(researcher, {&n1, &n2})});
    REQUIRE(bound);
    endpoint = *bound;
  }

  /// Lets the loop run until that holds. Real sockets may take a moment between a write here and
  /// the read there, so a turn in which nothing happens is not the end; many are.
  template <class F>
  bool until(F holds) {
    for (int idle = 0; idle < 1'000'000; idle += loop.drain() == 0 ? 1 : 0) {
      if (holds()) {
        return true;
      }
      std::this_thread::yield();
    }
    return holds();
  }

  Identity researcher{"researcher"};
  Identity n1{"n1"};
  Identity n2{"n2"};
  Tcp::endpoint endpoint;
};

class Node {
  using Client = fs::Client<TlsConnector, test::ManualClock>;

 public:
  Node(Federation& federation, const Identity& identity, std::string node_id)
      : work(std::make_shared<Work>(federation.loop.executor())),
        client(TlsConnector(federation.loop.executor(), federation.endpoint,
                            context_of(identity, {&federation.researcher})),
               options_of(std::move(node_id))),
        running(federation.loop.spawn(client.run(Handler{work}))) {}

  void answer_one() { work->go.try_send(error_code(), 0); }

  int connected = 0;
  std::vector<error_code> lost{};
  std::shared_ptr<Work> work;
  Client client;
  test::Spawned<error_code> running;

 private:
  fs::ClientOptions options_of(std::string node_id) {
    fs::ClientOptions options;
    options.node_id = std::move(node_id);
    options.seed = 1;
    options.on_connected = [this] { ++connected; };
    options.on_disconnected = [this](error_code error) { lost.push_back(error); };
    return options;
  }
};

/// A client that knows nothing of TLS.
class PlainClient {
 public:
  explicit PlainClient(Federation& federation) : socket_(federation.loop.executor()) {
    socket_.connect(federation.endpoint);
    socket_.non_blocking(true);
  }

  void send(const std::string& bytes) { boost::asio::write(socket_, boost::asio::buffer(bytes)); }
  /// Whether the server has closed.
  bool ended() {
    char bytes[4096];
    error_code error;
    while (!error) {
      socket_.read_some(boost::asio::buffer(bytes), error);
    }
    return error != boost::asio::error::would_block;
  }

 private:
  TcpSocket socket_;
};

/// A body that shows when a part of it is lost or in the wrong place.
std::string megabytes(std::size_t count) {
  std::string body(count << 20U, '\0');
  std::uint32_t value = 1;
  for (auto& byte : body) {
    value = value * 1'664'525U + 1'013'904'223U;
    byte = static_cast<char>(value >> 24U);
  }
  return body;
}

}  // namespace

TEST_CASE("stream over TLS: a task and its reply of megabytes pass, and a message against them") {
  Federation federation;
  Node node(federation, federation.n1, "n1");
  REQUIRE(federation.until([&] { return node.connected == 1; }));
  REQUIRE(federation.store.retrieve("n2"));
  const std::string model = megabytes(4);
  auto asked = federation.loop.spawn(federation.store.get("n1")->request(task("r1", model)));
  // This goes up while the task comes down: the stream reads and writes at the same time.
  auto overlay = task("", megabytes(3));
  overlay.destination = "n2";
  auto sent = federation.loop.spawn(node.client.send(std::move(overlay)));
  REQUIRE(federation.until([&] { return asked.done() && sent.done(); }));
  REQUIRE(asked.value());
  CHECK(((*asked.value())->body == "re: " + model));  // not printed when it fails
  REQUIRE(node.work->tasks.size() == 1);
  CHECK((node.work->tasks[0] == model));
  REQUIRE(sent.value());
  CHECK(*sent.value() == ReplyDisposition::forwarded);
  CHECK(federation.store.get("n2")->counters().queued == 1);
  CHECK(federation.faults.empty());
  CHECK(node.lost.empty());
  CHECK(federation.store.counters().balanced());
}

TEST_CASE(
    "stream over TLS: H19 a certificate that names another node is refused, and no work is lost") {
  Federation federation;
  Node node(federation, federation.n1, "n1");
  node.work->waits = true;
  REQUIRE(federation.until([&] { return node.connected == 1; }));
  const auto agent = *federation.store.get("n1");
  auto first = federation.loop.spawn(agent.request(task("r1", "one")));
  auto second = federation.loop.spawn(agent.request(task("r2", "two")));
  REQUIRE(federation.until([&] { return node.work->tasks.size() == 1; }));

  Node impostor(federation, federation.n2, "n1");
  REQUIRE(federation.until([&] { return impostor.running.done(); }));
  CHECK(impostor.running.value() == fs::errc::not_authenticated);
  CHECK(impostor.connected == 0);
  CHECK(impostor.work->tasks.empty());
  REQUIRE(federation.until([&] { return federation.server.counters().open == 1; }));
  REQUIRE(federation.faults.size() == 1);
  CHECK(federation.faults[0] == Fault{"", fs::errc::not_authenticated});
  CHECK(agent.counters().leased == 1);
  CHECK(agent.counters().queued == 1);

  node.answer_one();
  node.answer_one();
  REQUIRE(federation.until([&] { return first.done() && second.done(); }));
  REQUIRE(first.value());
  CHECK((*first.value())->body == "re: one");
  REQUIRE(second.value());
  CHECK((*second.value())->body == "re: two");
  CHECK(node.connected == 1);
  CHECK(node.lost.empty());
  CHECK(agent.counters().confirmed == 2);
  CHECK(agent.counters().redelivered == 0);
  CHECK(agent.counters().balanced());
}

TEST_CASE("stream over TLS: a client without TLS ends its own connection, and a node goes on") {
  Federation federation;
  Node node(federation, federation.n1, "n1");
  REQUIRE(federation.until([&] { return node.connected == 1; }));
  PlainClient plain(federation);
  plain.send(hello("n1"));
  REQUIRE(federation.until([&] { return plain.ended(); }));
  CHECK(federation.server.counters().open == 1);
  CHECK(federation.server.counters().welcomed == 1);
  REQUIRE(federation.faults.size() == 1);
  CHECK(federation.faults[0].node_id.empty());
  CHECK((federation.faults[0].error.category() == boost::asio::error::get_ssl_category()));
  auto asked = federation.loop.spawn(federation.store.get("n1")->request(task("r1", "question")));
  REQUIRE(federation.until([&] { return asked.done(); }));
  REQUIRE(asked.value());
  CHECK((*asked.value())->body == "re: question");
  CHECK(node.connected == 1);
  CHECK(node.lost.empty());
}

TEST_CASE("stream over TLS: a node that leaves between two messages is no fault") {
  Federation federation;
  Node node(federation, federation.n1, "n1");
  REQUIRE(federation.until([&] { return node.connected == 1; }));
  node.client.stop();
  REQUIRE(federation.until([&] { return federation.server.counters().open == 0; }));
  CHECK(federation.faults.empty());
  CHECK(federation.server.counters().faults == 0);
}

TEST_CASE("stream over TLS: a client that begins no handshake is closed when its time is up") {
  Federation federation;
  PlainClient silent(federation);
  REQUIRE(federation.until([&] { return federation.server.counters().open == 1; }));
  federation.loop.advance(5s);
  CHECK_FALSE(silent.ended());  // what it would be told waits for the handshake too
  federation.loop.advance(1s);
  REQUIRE(federation.until([&] { return silent.ended(); }));
  CHECK(federation.server.counters().open == 0);
  REQUIRE(federation.faults.size() == 1);
  CHECK(federation.faults[0] == Fault{"", fs::errc::hello_timeout});
}
