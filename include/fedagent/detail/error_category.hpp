#pragma once

#include <boost/system/error_category.hpp>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

namespace fedagent::detail {

template <class Errc>
using ErrorSentence = std::pair<Errc, const char*>;

/// Whether each error from 1 to `last` has its sentence, in the order of their numbers.
template <class Errc>
constexpr bool all_have_sentences(std::span<const ErrorSentence<Errc>> sentences, Errc last) {
  for (std::size_t i = 0; i < sentences.size(); ++i) {
    if (static_cast<std::size_t>(sentences[i].first) != i + 1) {
      return false;
    }
  }
  return sentences.size() == static_cast<std::size_t>(last);
}

/// The category of an enumeration of errors, by their sentences.
template <class Errc>
class ErrorCategory final : public boost::system::error_category {
 public:
  constexpr ErrorCategory(std::uint64_t id, const char* name,
                          std::span<const ErrorSentence<Errc>> sentences) noexcept
      : error_category(id), name_(name), sentences_(sentences) {}

  const char* name() const noexcept override { return name_; }
  std::string message(int value) const override {
    // 0 wraps around, far beyond the end.
    const auto at = static_cast<std::size_t>(value) - 1;
    return at < sentences_.size() ? sentences_[at].second
                                  : std::string("unknown ") + name_ + " error";
  }

 private:
  const char* name_;
  std::span<const ErrorSentence<Errc>> sentences_;
};

}  // namespace fedagent::detail
