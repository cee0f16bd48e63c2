#pragma once

#include <algorithm>
#include <boost/asio/execution/context.hpp>
#include <boost/asio/execution_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/query.hpp>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

#include "fedagent/transport/grpc/lending.hpp"

namespace fedagent::grpc::detail {

/// Something that has news for the executor.
class Mail {
 public:
  /// Looks at the news. On the executor.
  virtual void arrive() noexcept = 0;
  /// The mailbox is closed: nobody will look. On any thread.
  virtual void come_back() noexcept = 0;

 protected:
  Mail() = default;
  Mail(const Mail&) = delete;
  Mail& operator=(const Mail&) = delete;
  ~Mail() = default;

 private:
  template <class>
  friend class Mailbox;
  bool in_box_ = false;
};

/// A mailbox of whatever executor.
class AnyMailbox {
 public:
  /// Lets the executor look at the mail. @return False: the mailbox is closed.
  virtual bool send(std::shared_ptr<Mail> mail) = 0;
  virtual void close() noexcept = 0;

 protected:
  ~AnyMailbox() = default;
};

/// Closes the mailboxes of an execution context that is being destroyed.
/**
 * Nothing else would do: the context takes its queue apart without its lock, so no thread may post
 * then. A service that came later than the queue is asked to shut down before it.
 */
class MailboxService final : public boost::asio::execution_context::service {
 public:
  using key_type = MailboxService;
  inline static boost::asio::execution_context::id id;

  explicit MailboxService(boost::asio::execution_context& context) : service(context) {}

  void add(AnyMailbox& box) {
    const std::lock_guard lock(mutex_);
    boxes_.push_back(&box);
  }
  void remove(AnyMailbox& box) noexcept {
    const std::lock_guard lock(mutex_);
    std::erase(boxes_, &box);
  }

 private:
  void shutdown() override {
    std::unique_lock lock(mutex_);
    while (!boxes_.empty()) {
      auto* const box = boxes_.back();
      lock.unlock();
      box->close();  // removes it
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::vector<AnyMailbox*> boxes_;
};

/// The way from gRPC's threads to the executor.
/**
 * What is sent before the executor looks costs one post together, and a mail that is in the box
 * already is in it once: under load there are fewer posts than events.
 *
 * @par Lifetimes
 * gRPC's threads hold it as long as they need it. It closes with the executor's context, if not
 * before, and does not touch either any more.
 * @par Thread safety
 * `send` is safe to call from any thread. All else: on the executor.
 */
template <class Executor>
class Mailbox final : public AnyMailbox, public std::enable_shared_from_this<Mailbox<Executor>> {
 public:
  explicit Mailbox(const Executor& executor) : executor_(executor) {
    auto& context = boost::asio::query(executor, boost::asio::execution::context);
    lending_ = &boost::asio::use_service<LendingService>(context);
    service_ = &boost::asio::use_service<MailboxService>(context);
    service_->add(*this);
  }

  bool send(std::shared_ptr<Mail> mail) override {
    const Lending lending(lending_);  // around the lock: it ends with work of its own
    const std::lock_guard lock(mutex_);
    if (!executor_) {
      return false;
    }
    if (!std::exchange(mail->in_box_, true)) {
      mails_.push_back(std::move(mail));
      if (!std::exchange(on_its_way_, true)) {
        boost::asio::post(*executor_, [box = this->shared_from_this()] { box->deliver(); });
      }
    }
    return true;
  }

  /// Takes no more mail, and gives back what is in the box.
  void close() noexcept override {
    std::vector<std::shared_ptr<Mail>> rest;
    {
      const std::lock_guard lock(mutex_);
      executor_.reset();
      rest.swap(mails_);
    }
    if (auto* const service = std::exchange(service_, nullptr)) {
      service->remove(*this);
    }
    for (const auto& mail : rest) {
      mail->come_back();
    }
  }

 private:
  void deliver() noexcept {
    std::vector<std::shared_ptr<Mail>> batch;
    {
      const std::lock_guard lock(mutex_);
      batch.swap(spare_);
      batch.swap(mails_);
      on_its_way_ = false;
      for (const auto& mail : batch) {
        mail->in_box_ = false;
      }
    }
    for (const auto& mail : batch) {
      mail->arrive();
    }
    batch.clear();
    const std::lock_guard lock(mutex_);
    spare_.swap(batch);
  }

  MailboxService* service_ = nullptr;
  /// Of the executor's context, and not looked into without the executor.
  LendingService* lending_ = nullptr;
  std::mutex mutex_;
  /// None: closed.
  std::optional<Executor> executor_;
  std::vector<std::shared_ptr<Mail>> mails_;
  /// Only its memory counts.
  std::vector<std::shared_ptr<Mail>> spare_;
  bool on_its_way_ = false;
};

}  // namespace fedagent::grpc::detail
