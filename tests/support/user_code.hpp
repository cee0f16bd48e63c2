#pragma once

#include <doctest/doctest.h>
#include <algorithm>
#include <boost/asio/deferred.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/system/error_code.hpp>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <initializer_list>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/loop.hpp"

namespace test {

/// Where the library calls code of its user.
enum class Place {
  /// A hook of the observer: it does not throw, and calls neither an agent nor its store.
  hook,
  /// The same, but it may throw.
  feedback,
  /// Whether a node may have an agent, or is who it says: it may throw; its store must live on.
  admission,
  /// The owner's hook for a connection that failed: it does not throw.
  connection_error,
  /// The end of a message: it does not throw.
  message_end,
  /// An outcome, a receipt, a forwarder, what a round asks for: it may do anything, and throw.
  handler,
};

/// What a deed does to whoever called the user's code.
enum class Effect {
  /// Nothing: any place may do it at once.
  none,
  /// It calls the agent or its store: a hook does not.
  calls_the_store,
  /// The same; it is worth the time to try it at the end of each message too.
  ends_agents,
  /// It takes the store away.
  destroys_the_store,
  throws,
};

/// Something that user code may do.
template <class Scene>
struct Deed {
  const char* name;
  Effect effect;
  void (*act)(Scene& scene);
};

struct Thrown : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Counts the calls of user code in which a deed may be done, and does it in one of them.
class UserCode {
 public:
  /// @param at In which call, from 1 on.
  UserCode(Effect effect, std::size_t at, std::function<void()> act)
      : effect_(effect), at_(at), act_(std::move(act)) {}
  UserCode(const UserCode&) = delete;
  UserCode& operator=(const UserCode&) = delete;

  void called(Place place) {
    if (!over_ && may(place) && ++calls_ == at_) {
      acts_ = true;
      const auto done = std::shared_ptr<void>(nullptr, [this](void*) { acts_ = false; });
      act_();
    }
  }
  /// Whether the deed is being done: the loop must not be run.
  bool acts() const noexcept { return acts_; }
  /// Whether there were so many calls that the deed is done.
  bool reached() const noexcept { return calls_ >= at_; }
  std::size_t calls() const noexcept { return calls_; }
  /// From here on calls do not count.
  void over() noexcept { over_ = true; }

 private:
  bool may(Place place) const noexcept {
    switch (effect_) {
      case Effect::none:
        return true;
      case Effect::calls_the_store:
        return place != Place::hook && place != Place::feedback && place != Place::message_end;
      case Effect::ends_agents:
        return place != Place::hook && place != Place::feedback;
      case Effect::destroys_the_store:
        return place == Place::handler;
      case Effect::throws:
        return place != Place::hook && place != Place::connection_error &&
               place != Place::message_end;
    }
    return false;
  }

  Effect effect_;
  std::size_t at_;
  std::function<void()> act_;
  std::size_t calls_ = 0;
  bool acts_ = false;
  bool over_ = false;
};

/// What an observer has seen come and not go.
struct Tally {
  std::map<std::pair<std::string, const void*>, int> under_way{};

  void came(std::string_view node, const void* message) {
    ++under_way[{std::string(node), message}];
  }
  void went(std::string_view node, const void* message) {
    --under_way[{std::string(node), message}];
  }
  /// Whether each message that was queued was confirmed or dropped, once.
  bool balanced() const {
    return std::ranges::all_of(under_way, [](const auto& entry) { return entry.second == 0; });
  }
};

/// An observer with every hook; each call is one of user code.
template <class M>
struct ActingObserver {
  using Ptr = fedagent::MessagePtr<M>;

  void on_status(std::string_view, NodeActiveStatus, NodeActiveStatus) const {
    code->called(Place::hook);
  }
  void on_queued(std::string_view node, const Ptr& message, NodeActiveStatus) const {
    tally->came(node, message.get());
    code->called(Place::hook);
  }
  void on_delivered(std::string_view, const Ptr&) const { code->called(Place::hook); }
  void on_confirmed(std::string_view node, const Ptr& message) const {
    tally->went(node, message.get());
    code->called(Place::hook);
  }
  void on_requeued(std::string_view, const Ptr&, std::uint32_t) const { code->called(Place::hook); }
  void on_dropped(std::string_view node, const Ptr& message, boost::system::error_code) const {
    tally->went(node, message.get());
    code->called(Place::hook);
  }
  void on_refused(std::string_view, const Ptr&, boost::system::error_code) const {
    code->called(Place::hook);
  }
  void on_reply(std::string_view, const Ptr&, ReplyDisposition) const { code->called(Place::hook); }
  void on_unknown_node(std::string_view, const Ptr&) const { code->called(Place::hook); }
  void on_wrong_node(std::string_view, std::string_view) const { code->called(Place::hook); }
  void on_handler_error(std::string_view, const std::exception_ptr&) const {
    code->called(Place::hook);
  }
  template <class Feedback>
  void on_feedback(std::string_view, const Feedback&) const {
    code->called(Place::feedback);
  }

  UserCode* code;
  Tally* tally;
};

/// Requests whose handlers are user code, and what came of them.
template <class M>
class Requests {
  struct Request {
    bool accepted = false;
    int ended = 0;
  };
  struct Receipt_ {
    bool forwarded = false;
    int told = 0;
  };

  auto handler(Request& request) {
    return [this, &request](const fedagent::Outcome<M>&) {
      ++request.ended;
      code_->called(Place::handler);
    };
  }

 public:
  explicit Requests(UserCode& code) : code_(&code) {}

  /// A message that must be gone at the end.
  fedagent::MessagePtr<M> make(M message) {
    const std::shared_ptr<const M> made(new M(std::move(message)), [code = code_](const M* ended) {
      delete ended;
      code->called(Place::message_end);
    });
    made_.push_back(made);
    return made;
  }
  /// Sends a request to an agent, or what else has its `try_send`.
  template <class Agent_, class... Options>
  void send(const Agent_& agent, M message, const Options&... options) {
    auto& request = requests_.emplace_back();
    request.accepted =
        agent.try_send(make(std::move(message)), handler(request), options...).has_value();
  }
  /// For a send that tells the handler of a refusal too.
  auto accepted_handler() {
    auto& request = requests_.emplace_back();
    request.accepted = true;
    return handler(request);
  }
  /// For an overlay message. It is told of when the message was forwarded.
  fedagent::Receipt receipt(std::size_t& index) {
    index = receipts_.size();
    auto& receipt = receipts_.emplace_back();
    return [this, &receipt](const boost::system::result<void>&) {
      ++receipt.told;
      code_->called(Place::handler);
    };
  }
  void forwarded(std::size_t index) { receipts_[index].forwarded = true; }

  std::size_t alive() const {
    return static_cast<std::size_t>(
        std::ranges::count_if(made_, [](const auto& made) { return !made.expired(); }));
  }
  /// What must hold when all agents have ended.
  void check_ended() const {
    CHECK(std::ranges::all_of(requests_, [](const auto& request) {
      return request.ended == (request.accepted ? 1 : 0);
    }));
    CHECK(std::ranges::all_of(receipts_, [](const auto& receipt) {
      return receipt.told <= 1 && receipt.told >= (receipt.forwarded ? 1 : 0);
    }));
  }

 private:
  UserCode* code_;
  std::deque<Request> requests_{};
  std::deque<Receipt_> receipts_{};
  std::vector<std::weak_ptr<const M>> made_{};
};

/// Options with an admission that is user code, and in which everything ends in its time.
inline fedagent::StoreOptions acting_options(UserCode& code) {
  fedagent::StoreOptions options;
  options.admit = [&code](std::string_view) {
    code.called(Place::admission);
    return true;
  };
  options.agent.max_age = 60s;
  options.agent.max_retries = 1;
  options.agent.poll_timeout = 30s;
  options.agent.poll_jitter = 0.0;
  return options;
}

inline awaitable<result<void>> forward(UserCode* code) {
  code->called(Place::handler);
  const auto executor = co_await boost::asio::this_coro::executor;
  co_await boost::asio::post(executor, boost::asio::deferred);
  code->called(Place::handler);
  co_return result<void>();
}
/// A forwarder that is user code, when it is called, begins, and goes on.
inline auto acting_forwarder(UserCode& code) {
  return [&code](const auto& /*message*/) {
    code.called(Place::handler);
    return forward(&code);
  };
}

// Deeds to a store, if that is there yet.

template <class Store_>
void stop_store(std::optional<Store_>& store) {
  if (store) {
    store->stop();
  }
}
template <class Store_>
void erase_agents(std::optional<Store_>& store, std::initializer_list<const char*> nodes) {
  for (const auto* const node : nodes) {
    if (store) {
      store->erase(node);
    }
  }
}
/// Opens a poll of each node beside those of the transport.
template <class Store_, class Poll>
void open_polls(std::optional<Store_>& store, std::initializer_list<const char*> nodes,
                std::deque<Poll>& polls) {
  for (const auto* const node : nodes) {
    if (store) {
      if (const auto agent = store->retrieve(node)) {
        polls.emplace_back(*agent, 99);
      }
    }
  }
}

/// What must hold when no poll goes on.
template <class Store_>
void check_no_poll(const std::optional<Store_>& store) {
  if (store) {
    store->for_each([](const auto& agent) { CHECK(agent.open_polls() == 0); });
  }
}
/// Stops the store, and checks what must hold then.
template <class Store_>
void stop_and_check(std::optional<Store_>& store) {
  if (store) {
    CHECK(store->counters().balanced());
    store->stop();
    const auto counters = store->counters();
    CHECK(counters.balanced());
    CHECK(counters.open_requests == 0);
    CHECK(counters.queued == 0);
    CHECK(counters.leased == 0);
    CHECK(store->size() == 0);
  }
}
/// Nothing is left to do, not even at a later time.
inline void check_out_of_work(Loop& loop) {
  loop.drain();
  loop.io.restart();
  loop.io.poll();
  CHECK(loop.io.stopped());
}

/// Lets user code do the deed in its first call, in its second, and so on to the last.
/**
 * @tparam Scene Made with the deed and the number of the call; has `code`, and `play`, which plays
 * a story to its end and checks what must hold.
 */
template <class Scene, class... With>
void act_in_every_call(const Deed<Scene>& deed, const With&... with) {
  const std::string name = deed.name;
  CAPTURE(name);
  bool reached = true;
  for (std::size_t n = 1; reached; ++n) {
    CAPTURE(n);
    Scene scene(deed, n, with...);
    scene.play();
    reached = scene.code.reached();
    // The story has that many calls.
    CHECK((reached || n > Scene::least_calls));
  }
}

}  // namespace test
