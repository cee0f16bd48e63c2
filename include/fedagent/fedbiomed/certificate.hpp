#pragma once

#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/objects.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <boost/system/result.hpp>
#include <climits>
#include <memory>
#include <string>
#include <string_view>

#include "fedagent/fedbiomed/error.hpp"

namespace fedagent::fedbiomed {

/// The organization (O) in the subject of a PEM certificate, the first one of a chain.
/**
 * Nodes take it for the id of the researcher (c.1), and one that finds none there fails for good.
 *
 * @par Errors
 * `bad_certificate` when it is none; `no_organization`.
 */
inline boost::system::result<std::string> organization_of(std::string_view pem) {
  if (pem.size() > INT_MAX) {
    return make_error_code(errc::bad_certificate);
  }
  const std::unique_ptr<BIO, decltype(&BIO_free)> input(
      BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())), &BIO_free);
  const std::unique_ptr<X509, decltype(&X509_free)> certificate(
      input ? PEM_read_bio_X509(input.get(), nullptr, nullptr, nullptr) : nullptr, &X509_free);
  if (!certificate) {
    ERR_clear_error();
    return make_error_code(errc::bad_certificate);
  }
  const X509_NAME* const subject = X509_get_subject_name(certificate.get());
  const int index = X509_NAME_get_index_by_NID(subject, NID_organizationName, -1);
  if (index < 0) {
    return make_error_code(errc::no_organization);
  }
  const auto* const value = X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, index));
  unsigned char* text = nullptr;
  const int size = ASN1_STRING_to_UTF8(&text, value);
  if (size < 0) {
    ERR_clear_error();
    return make_error_code(errc::bad_certificate);
  }
  std::string organization(reinterpret_cast<const char*>(text), static_cast<std::size_t>(size));
  OPENSSL_free(text);
  if (organization.empty()) {
    return make_error_code(errc::no_organization);
  }
  return organization;
}

}  // namespace fedagent::fedbiomed
