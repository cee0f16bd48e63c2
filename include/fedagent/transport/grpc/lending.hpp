#pragma once

#include <boost/asio/execution_context.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/prefer.hpp>
#include <boost/asio/query.hpp>
#include <boost/asio/require.hpp>
#include <condition_variable>
#include <exception>
#include <functional>
#include <mutex>
#include <type_traits>
#include <utility>

namespace fedagent::grpc::detail {

/// The threads that are lent to an `io_context`.
/** @par Thread safety Safe. */
class LendingService final : public boost::asio::execution_context::service {
 public:
  using key_type = LendingService;
  inline static boost::asio::execution_context::id id;

  explicit LendingService(boost::asio::execution_context& context) : service(context) {}

  /// The time in which threads may be lent.
  class Open {
   public:
    explicit Open(LendingService& of) : service_(&of) {
      const std::lock_guard lock(service_->mutex_);
      ++service_->open_;
    }
    Open(const Open&) = delete;
    Open& operator=(const Open&) = delete;
    /// Waits for the handlers that run in lent threads: the loop may be destroyed next.
    ~Open() {
      std::unique_lock lock(service_->mutex_);
      --service_->open_;
      service_->left_.wait(lock, [this] { return service_->open_ > 0 || service_->lent_ == 0; });
    }

   private:
    LendingService* service_;
  };

  /// @return False: not now.
  bool enter() noexcept {
    const std::lock_guard lock(mutex_);
    lent_ += open_ > 0 ? 1 : 0;
    return open_ > 0;
  }
  /// To be called once for each `enter`. What the work throws comes out of the loop's `run`.
  void run_and_leave(std::function<void()> work) noexcept {
    try {
      std::exchange(work, nullptr)();
    } catch (...) {
      boost::asio::post(static_cast<boost::asio::io_context&>(context()),
                        [thrown = std::current_exception()] { std::rethrow_exception(thrown); });
    }
    const std::lock_guard lock(mutex_);
    if (--lent_ == 0) {
      left_.notify_all();  // with the lock: who waits for this may destroy the service
    }
  }

 private:
  void shutdown() override {}

  std::mutex mutex_;
  std::condition_variable left_;
  /// How many calls of `run` there are.
  int open_ = 0;
  int lent_ = 0;
};

/// Lends the thread, until the end of the block, to the loop that is given work in it.
/** The work runs at the end of the block, and not with the locks that are held in it. */
class Lending {
 public:
  Lending() noexcept : outer_(std::exchange(here(), this)) {}
  Lending(const Lending&) = delete;
  Lending& operator=(const Lending&) = delete;
  ~Lending() {
    while (work_) {  // it may give more
      service_->run_and_leave(std::exchange(work_, nullptr));
    }
    here() = outer_;
  }

  /// @return False: the thread is not lent, or has its work already; this one is not taken.
  template <class Work>
  static bool take(LendingService& service, Work&& work) {
    auto* const lending = here();
    if (lending == nullptr || lending->work_ || !service.enter()) {
      return false;
    }
    lending->service_ = &service;
    lending->work_ = std::forward<Work>(work);
    return true;
  }

 private:
  static Lending*& here() noexcept {
    thread_local Lending* lending = nullptr;
    return lending;
  }

  Lending* outer_;
  LendingService* service_ = nullptr;
  std::function<void()> work_{};
};

/// An executor of a loop that takes a thread that is lent before it wakes one of the loop's own.
/** Only for a strand, which never has two handlers run at once and does not post with its lock. */
template <class Inner>
class Borrower {
 public:
  Borrower(const Inner& inner, LendingService& service) : inner_(inner), service_(&service) {}

  template <class Property>
    requires boost::asio::can_query_v<const Inner&, const Property&>
  auto query(const Property& property) const -> decltype(auto) {
    return boost::asio::query(inner_, property);
  }
  template <class Property>
    requires boost::asio::can_require_v<const Inner&, const Property&>
  auto require(const Property& property) const {
    return with(boost::asio::require(inner_, property));
  }
  template <class Property>
    requires boost::asio::can_prefer_v<const Inner&, const Property&>
  auto prefer(const Property& property) const {
    return with(boost::asio::prefer(inner_, property));
  }
  template <class Work>
  void execute(Work&& work) const {
    if (!Lending::take(*service_, std::forward<Work>(work))) {
      inner_.execute(std::forward<Work>(work));
    }
  }

  friend bool operator==(const Borrower&, const Borrower&) noexcept = default;

 private:
  template <class Other>
  Borrower<Other> with(const Other& inner) const {
    return {inner, *service_};
  }

  Inner inner_;
  LendingService* service_;
};

}  // namespace fedagent::grpc::detail
