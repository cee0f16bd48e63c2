#include <doctest/doctest.h>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <boost/asio/io_context.hpp>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "fedagent/agent_store.hpp"
#include "fedagent/fedbiomed/server.hpp"

namespace fedbiomed = fedagent::fedbiomed;
using fedbiomed::errc;

namespace {

template <auto Free>
struct Freed {
  template <class T>
  void operator()(T* object) const noexcept {
    Free(object);
  }
};
using Key = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Freed<X509_free>>;
using Output = std::unique_ptr<BIO, Freed<BIO_free>>;

std::string text_of(BIO* output) {
  char* text = nullptr;
  const auto size = BIO_get_mem_data(output, &text);
  return {text, static_cast<std::size_t>(size)};
}

/// A certificate signed by itself, and its key, with these fields in its subject.
fedagent::grpc::Tls make(const std::vector<std::pair<std::string, std::string>>& subject_fields) {
  const Key key(EVP_RSA_gen(2048));
  const Certificate certificate(X509_new());
  X509* const c = certificate.get();
  X509_set_version(c, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(c), 1);
  X509_gmtime_adj(X509_getm_notBefore(c), -3600);
  X509_gmtime_adj(X509_getm_notAfter(c), 3600);
  auto* const subject = X509_get_subject_name(c);
  for (const auto& [name, value] : subject_fields) {
    X509_NAME_add_entry_by_txt(subject, name.c_str(), MBSTRING_UTF8,
                               reinterpret_cast<const unsigned char*>(value.data()),
                               static_cast<int>(value.size()), -1, 0);
  }
  X509_set_issuer_name(c, subject);
  X509_set_pubkey(c, key.get());
  REQUIRE(X509_sign(c, key.get(), EVP_sha256()) > 0);
  const Output certificate_text(BIO_new(BIO_s_mem()));
  const Output key_text(BIO_new(BIO_s_mem()));
  REQUIRE(PEM_write_bio_X509(certificate_text.get(), c) == 1);
  REQUIRE(PEM_write_bio_PrivateKey(key_text.get(), key.get(), nullptr, nullptr, 0, nullptr,
                                   nullptr) == 1);
  return {text_of(certificate_text.get()), text_of(key_text.get())};
}

/// What a server with this certificate says when it is to listen.
boost::system::result<int> listen(const fedagent::grpc::Tls& tls, std::string researcher_id = {}) {
  boost::asio::io_context io;
  fedagent::AgentStore<fedbiomed::Transport<>> store(io.get_executor());
  fedbiomed::ServerOptions options;
  options.tls = tls;
  options.researcher_id = std::move(researcher_id);
  fedbiomed::Server server(store, options);
  return server.listen("127.0.0.1:0");
}

}  // namespace

TEST_CASE("The researcher id is the organization in the certificate (c.1)") {
  const auto tls = make({{"CN", "localhost"}, {"O", "RESEARCHER_1"}});
  CHECK(fedbiomed::organization_of(tls.certificate_chain).value() == "RESEARCHER_1");
}

TEST_CASE("Of several organizations the first one counts, in UTF-8") {
  const auto tls = make({{"O", "Ärzte"}, {"CN", "localhost"}, {"O", "second"}});
  CHECK(fedbiomed::organization_of(tls.certificate_chain).value() == "Ärzte");
}

TEST_CASE("A server with a certificate without an organization does not listen (c.1)") {
  const auto nameless = make({{"CN", "localhost"}});
  CHECK(listen(nameless).error() == errc::no_organization);
  const auto empty = make({{"CN", "localhost"}, {"O", ""}});
  CHECK(listen(empty).error() == errc::no_organization);
}

TEST_CASE("A server with the certificate of another researcher does not listen") {
  const auto tls = make({{"CN", "localhost"}, {"O", "RESEARCHER_1"}});
  CHECK(listen(tls, "RESEARCHER_2").error() == errc::other_organization);
  CHECK(listen(tls, "RESEARCHER_1").has_value());
  CHECK(listen(tls).has_value());
}

TEST_CASE("What is no certificate is said to be none") {
  CHECK(fedbiomed::organization_of("").error() == errc::bad_certificate);
  CHECK(listen({.certificate_chain = "nonsense", .private_key = "nonsense"}).error() ==
        errc::bad_certificate);
}

TEST_CASE("Without a certificate a researcher id is needed") {
  CHECK(listen({}).error() == errc::no_organization);
  CHECK(listen({}, "RESEARCHER_1").has_value());
}
