#pragma once

#include <boost/asio/execution_context.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/prefer.hpp>
#include <boost/asio/query.hpp>
#include <boost/asio/require.hpp>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <utility>

namespace fedagent::grpc::detail {

/// The threads that are lent to a loop.
/** @par Thread safety Safe. */
class LendingService final : public boost::asio::execution_context::service {
 public:
  using key_type = LendingService;
  inline static boost::asio::execution_context::id id;

  explicit LendingService(boost::asio::execution_context& context) : service(context) {}

  /// Runs the loop; in this time threads may be lent.
  std::size_t run(boost::asio::io_context& loop) {
    std::size_t handlers = 0;
    {
      const Open open(*this, loop);
      handlers = loop.run();
    }
    throw_what_was_thrown();  // by a handler that stopped the loop too
    return handlers;
  }

  /// @return False: not now.
  bool enter() noexcept {
    const std::lock_guard lock(mutex_);
    if (open_ == 0 || loop_->stopped()) {
      return false;
    }
    ++lent_;
    return true;
  }
  /// To be called once for each `enter`.
  void leave() noexcept {
    const std::lock_guard lock(mutex_);
    if (--lent_ == 0) {
      left_.notify_all();  // with the lock: who waits for this may destroy the service
    }
  }

  /// What a handler throws comes out of `run`. @pre Something keeps the loop from its end.
  void thrown(std::exception_ptr what) {
    const std::lock_guard lock(mutex_);
    thrown_.push_back(std::move(what));
    boost::asio::post(*loop_, [this] { throw_what_was_thrown(); });
  }

 private:
  struct Open {
    Open(LendingService& of, boost::asio::io_context& loop) : service(of) {
      const std::lock_guard lock(service.mutex_);
      service.loop_ = &loop;
      ++service.open_;
    }
    Open(const Open&) = delete;
    Open& operator=(const Open&) = delete;
    // Waits for the handlers that run in lent threads: the loop may be destroyed next.
    ~Open() {
      std::unique_lock lock(service.mutex_);
      --service.open_;
      service.left_.wait(lock, [this] { return service.open_ > 0 || service.lent_ == 0; });
    }

    LendingService& service;
  };

  void shutdown() override {}

  void throw_what_was_thrown() {
    std::unique_lock lock(mutex_);
    if (!thrown_.empty()) {
      const auto first = std::move(thrown_.front());
      thrown_.pop_front();
      lock.unlock();
      std::rethrow_exception(first);
    }
  }

  std::mutex mutex_;
  std::condition_variable left_;
  boost::asio::io_context* loop_ = nullptr;
  /// How many calls of `run` there are.
  int open_ = 0;
  int lent_ = 0;
  std::deque<std::exception_ptr> thrown_{};
};

/// Lends the thread to a loop until the end of the block, for what the loop is given in it.
/**
 * That runs at the end of the block, and not with the locks that are held in it. It is not for
 * long: what lends its threads needs them. A loop that has more to do than a few rounds goes on by
 * itself.
 */
class Lending {
 public:
  /// @param to Not looked into before it is given anything.
  explicit Lending(LendingService* to) noexcept : to_(to), outer_(std::exchange(here(), this)) {}
  Lending(const Lending&) = delete;
  Lending& operator=(const Lending&) = delete;
  ~Lending() {
    while (work_) {
      run(std::exchange(work_, nullptr));  // which may give more
    }
    here() = outer_;
  }

  /// @return False: the thread is not lent, or has its work already; this one is not taken.
  template <class Work>
  static bool take(LendingService& service, const Work& work) {
    auto* const lending = here();
    if (lending == nullptr || lending->to_ != &service || lending->work_ ||
        lending->rounds_ == most_rounds) {
      return false;
    }
    std::function<void()> copy(work);  // which may throw, so before it counts
    if (!service.enter()) {
      return false;
    }
    lending->work_ = std::move(copy);
    ++lending->rounds_;
    return true;
  }

 private:
  // A reply and the task that it leads to take three.
  static constexpr int most_rounds = 16;

  void run(std::function<void()> work) noexcept {
    try {
      work();
    } catch (...) {
      to_->thrown(std::current_exception());
    }
    work = nullptr;  // it kept the loop from running out of work
    to_->leave();
  }

  static Lending*& here() noexcept {
    thread_local Lending* lending = nullptr;
    return lending;
  }

  LendingService* to_;
  Lending* outer_;
  std::function<void()> work_{};
  int rounds_ = 0;
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
    if (!Lending::take(*service_, work)) {
      inner_.execute(std::forward<Work>(work));
    }
  }

  // Of the older kind of executors, for the work guard of a strand.
  void on_work_started() const noexcept { inner_.on_work_started(); }
  void on_work_finished() const noexcept { inner_.on_work_finished(); }

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
