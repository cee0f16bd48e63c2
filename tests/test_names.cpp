// The lowest layer: error.hpp, node_status.hpp, message.hpp, transport.hpp, options.hpp,
// counters.hpp, and the concept side of observer.hpp. What is not a concept is in plain sight here.
#include <doctest/doctest.h>
#include <array>
#include <boost/asio/io_context.hpp>
#include <cstring>
#include <limits>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "fedagent/counters.hpp"
#include "fedagent/error.hpp"
#include "fedagent/message.hpp"
#include "fedagent/node_status.hpp"
#include "fedagent/observer.hpp"
#include "fedagent/options.hpp"
#include "fedagent/transport.hpp"
#include "fedagent/transport/memory.hpp"
#include "support/manual_clock.hpp"
#include "support/printing.hpp"

using fedagent::AgentOptions;
using fedagent::Counters;
using fedagent::errc;
using fedagent::NodeActiveStatus;
using fedagent::ReplyDisposition;
using fedagent::StoreOptions;

// ---- error.hpp

TEST_CASE("error: every value has a sentence of its own and the category's name is fedagent") {
  std::set<std::string> sentences;
  int count = 0;
  for (int value = 1; value <= static_cast<int>(errc::quota_exceeded); ++value) {
    const auto code = make_error_code(static_cast<errc>(value));
    CHECK(code.value() == value);
    CHECK(code.failed());
    CHECK(code.message() != "unknown fedagent error");
    sentences.insert(code.message());
    ++count;
  }
  CHECK(sentences.size() == static_cast<std::size_t>(count));
  CHECK(fedagent::error_category().name() == std::string("fedagent"));
  CHECK(fedagent::error_category().message(9999) == "unknown fedagent error");
  CHECK(make_error_code(static_cast<errc>(static_cast<int>(errc::quota_exceeded) + 1)).message() ==
        "unknown fedagent error");
}

TEST_CASE("error: an errc is an error_code by itself, and equal only to its own category's") {
  const boost::system::error_code code = errc::flushed;
  CHECK(code == errc::flushed);
  CHECK(code != errc::stopped);
  CHECK(code.category() == fedagent::error_category());
  const boost::system::error_code other(static_cast<int>(errc::flushed),
                                        boost::system::generic_category());
  CHECK(other != errc::flushed);
}

TEST_CASE("error: the reasons for a drop are the values from 1 to cancelled") {
  CHECK(fedagent::drop_reasons == static_cast<std::size_t>(errc::cancelled));
  for (const auto reason : {errc::disconnected, errc::expired, errc::retries_exhausted,
                            errc::flushed, errc::removed, errc::stopped, errc::deadline_passed,
                            errc::displaced, errc::not_encodable, errc::cancelled}) {
    CHECK(static_cast<std::size_t>(reason) >= 1);
    CHECK(static_cast<std::size_t>(reason) <= fedagent::drop_reasons);
  }
  CHECK(static_cast<std::size_t>(errc::queue_full) > fedagent::drop_reasons);
}

// ---- node_status.hpp

TEST_CASE("B14: the values are WAITING 1, ACTIVE 2, DISCONNECTED 3, spelled as in the seed") {
  CHECK(static_cast<int>(NodeActiveStatus::waiting) == 1);
  CHECK(static_cast<int>(NodeActiveStatus::active) == 2);
  CHECK(static_cast<int>(NodeActiveStatus::disconnected) == 3);
  CHECK(to_string(NodeActiveStatus::waiting) == "WAITING");
  CHECK(to_string(NodeActiveStatus::active) == "ACTIVE");
  CHECK(to_string(NodeActiveStatus::disconnected) == "DISCONNECTED");
  CHECK(to_string(static_cast<NodeActiveStatus>(0)) == "UNKNOWN");
}

// ---- message.hpp

namespace {

struct OnlyId {
  std::string request_id{};
};

struct Functions {
  std::string id, to, from;
  std::string_view request_id() const { return id; }
  const std::string& destination() const { return to; }
  std::string_view source() const { return from; }
  std::uint16_t size() const { return 77; }
};

struct Members {
  std::string request_id{}, destination{}, source{};
};

// As a generated class is: nothing in it has our names.
struct Foreign {
  std::string rid;
  int payload;
};

struct WithoutId {
  std::string name;
};

struct Immovable {
  Immovable() = default;
  Immovable(const Immovable&) = delete;
  Immovable& operator=(const Immovable&) = delete;
  std::string request_id;
};

struct MoveOnly {
  std::unique_ptr<int> weights{};
  std::string request_id{};
};

struct NumberAsId {
  int request_id = 0;
};

}  // namespace

template <>
struct fedagent::message_traits<Foreign> {
  static std::string_view request_id(const Foreign& message) { return message.rid; }
  static std::string_view destination(const Foreign&) { return {}; }
  static std::string_view source(const Foreign&) { return {}; }
  static std::size_t size(const Foreign& message) {
    return static_cast<std::size_t>(message.payload);
  }
};

namespace {

// A specialisation that forgets the size.
struct Half {
  std::string rid;
};

}  // namespace

template <>
struct fedagent::message_traits<Half> {
  static std::string_view request_id(const Half& message) { return message.rid; }
  static std::string_view destination(const Half&) { return {}; }
  static std::string_view source(const Half&) { return {}; }
};

static_assert(fedagent::Message<OnlyId>);
static_assert(fedagent::Message<Functions>);
static_assert(fedagent::Message<Members>);
static_assert(fedagent::Message<Foreign>);
static_assert(fedagent::Message<MoveOnly>);
static_assert(fedagent::Message<fedagent::memory::Message>);
static_assert(!fedagent::HasRequestId<WithoutId>);
static_assert(!fedagent::Message<WithoutId>);
static_assert(!fedagent::HasRequestId<NumberAsId>);
static_assert(fedagent::HasRequestId<Immovable>);
static_assert(!fedagent::Message<Immovable>);
static_assert(fedagent::HasRequestId<Half>);
static_assert(!fedagent::HasMessageTraits<Half>);
static_assert(!fedagent::Message<Half>);
static_assert(!fedagent::Message<int>);

TEST_CASE("message_traits: data members, functions and a specialisation are read") {
  using fedagent::message_traits;
  const Members members{"r1", "to", "from"};
  CHECK(message_traits<Members>::request_id(members) == "r1");
  CHECK(message_traits<Members>::destination(members) == "to");
  CHECK(message_traits<Members>::source(members) == "from");
  CHECK(message_traits<Members>::size(members) == sizeof(Members));

  const Functions functions{"r2", "b", "a"};
  CHECK(message_traits<Functions>::request_id(functions) == "r2");
  CHECK(message_traits<Functions>::destination(functions) == "b");
  CHECK(message_traits<Functions>::source(functions) == "a");
  CHECK(message_traits<Functions>::size(functions) == 77);

  const OnlyId only{"r3"};
  CHECK(message_traits<OnlyId>::request_id(only) == "r3");
  CHECK(message_traits<OnlyId>::destination(only).empty());
  CHECK(message_traits<OnlyId>::source(only).empty());
  CHECK(message_traits<OnlyId>::size(only) == sizeof(OnlyId));

  const Foreign foreign{"r4", 5};
  CHECK(message_traits<Foreign>::request_id(foreign) == "r4");
  CHECK(message_traits<Foreign>::size(foreign) == 5);
}

TEST_CASE("message_traits: the views point into the message, where the reply table finds them") {
  const OnlyId only{"a request id that is too long for the small string optimisation"};
  CHECK(fedagent::message_traits<OnlyId>::request_id(only).data() == only.request_id.data());
}

// ---- transport.hpp

namespace {

using Whole = fedagent::memory::Transport<>;

struct NoExecutor {
  using message_type = OnlyId;
  using wire_type = OnlyId;
  static boost::system::result<OnlyId> decode(OnlyId wire) { return wire; }
};
struct NoMessage {
  using executor_type = boost::asio::io_context::executor_type;
  using wire_type = OnlyId;
  static boost::system::result<OnlyId> decode(OnlyId wire) { return wire; }
};
struct NoWire {
  using executor_type = boost::asio::io_context::executor_type;
  using message_type = OnlyId;
};
struct NoDecode {
  using executor_type = boost::asio::io_context::executor_type;
  using message_type = OnlyId;
  using wire_type = std::string;
};
struct DecodeOfAnotherType : NoDecode {
  static OnlyId decode(std::string wire) { return {std::move(wire)}; }
};
struct DecodeOfAMember : NoDecode {
  boost::system::result<OnlyId> decode(std::string wire) { return OnlyId{std::move(wire)}; }
};
struct Decodes : NoDecode {
  static boost::system::result<OnlyId> decode(std::string wire) { return OnlyId{std::move(wire)}; }
};
struct OnWallTime : Decodes {
  using clock_type = std::chrono::system_clock;
};
struct OnManualTime : Decodes {
  using clock_type = test::ManualClock;
};
struct MoveOnlyWire {
  using executor_type = boost::asio::io_context::executor_type;
  using message_type = MoveOnly;
  using wire_type = std::unique_ptr<int>;
  static boost::system::result<MoveOnly> decode(std::unique_ptr<int> wire) {
    return MoveOnly{std::move(wire), "r"};
  }
};

}  // namespace

static_assert(fedagent::Transport<Whole>);
static_assert(fedagent::Transport<Decodes>);
static_assert(fedagent::Transport<OnManualTime>);
static_assert(fedagent::Transport<MoveOnlyWire>);
static_assert(!fedagent::HasExecutorType<NoExecutor> && !fedagent::Transport<NoExecutor>);
static_assert(!fedagent::HasMessageType<NoMessage> && !fedagent::Transport<NoMessage>);
static_assert(!fedagent::HasWireType<NoWire> && !fedagent::Transport<NoWire>);
static_assert(!fedagent::HasDecode<NoDecode> && !fedagent::Transport<NoDecode>);
static_assert(!fedagent::HasDecode<DecodeOfAnotherType>);
static_assert(!fedagent::HasDecode<DecodeOfAMember>);
static_assert(!fedagent::HasSteadyClock<OnWallTime> && !fedagent::Transport<OnWallTime>);
static_assert(!fedagent::Transport<int>);
// H29: the default is a steady clock.
static_assert(std::is_same_v<fedagent::transport_clock_t<Decodes>, std::chrono::steady_clock>);
static_assert(std::is_same_v<fedagent::transport_clock_t<OnManualTime>, test::ManualClock>);

namespace {

struct Call {
  std::string_view node_id() const { return "a"; }
  bool deliver(fedagent::MessagePtr<OnlyId>) { return true; }
};
struct CallWithoutId {
  bool deliver(fedagent::MessagePtr<OnlyId>) { return true; }
};
struct CallWithoutDeliver {
  std::string node_id() const { return "a"; }
};

}  // namespace

static_assert(fedagent::TaskCall<Call, OnlyId>);
static_assert(!fedagent::TaskCall<Call, Members>);
static_assert(!fedagent::TaskCall<CallWithoutId, OnlyId>);
static_assert(!fedagent::TaskCall<CallWithoutDeliver, OnlyId>);

// ---- options.hpp

TEST_CASE("options: the defaults are those of the seed where it has any") {
  const AgentOptions options;
  CHECK(fedagent::grpc_server_task_wait_timeout == std::chrono::seconds(10));
  CHECK(options.disconnect_timeout == std::chrono::seconds(10));
  CHECK(options.max_age == std::chrono::seconds(300));
  CHECK(options.max_retries == 5);
  CHECK(options.max_queued_messages == 4096);
  CHECK(options.overflow == fedagent::OverflowPolicy::refuse);
  CHECK(options.when_disconnected == fedagent::DisconnectedPolicy::refuse);
  CHECK(options.queued_on_disconnect == fedagent::QueuedPolicy::keep);
  CHECK(options.polls == fedagent::PollPolicy::newest_wins);
  CHECK_NOTHROW(fedagent::detail::check(options));
  CHECK_NOTHROW(fedagent::detail::check(StoreOptions{}));
}

namespace {

template <class Options>
std::string refusal(Options options) {
  try {
    fedagent::detail::check(options);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return {};
}

template <class Member>
void check_range(Member member, const std::string& name) {
  INFO(name);
  const fedagent::Duration limit = std::chrono::hours{366 * 24};
  StoreOptions options;
  member(options) = std::chrono::nanoseconds(-1);
  CHECK(refusal(options) == "fedagent: " + name + " must be from 0 to 366 days");
  member(options) = limit + std::chrono::nanoseconds(1);
  CHECK(refusal(options) == "fedagent: " + name + " must be from 0 to 366 days");
  member(options) = fedagent::Duration::max();
  CHECK(refusal(options) == "fedagent: " + name + " must be from 0 to 366 days");
  member(options) = fedagent::Duration::zero();
  CHECK(refusal(options).empty());
  member(options) = limit;
  CHECK(refusal(options).empty());
}

}  // namespace

TEST_CASE("options: what is out of range is refused by name, and both ends of a range are in it") {
  const auto agent = [](auto member) {
    return [member](StoreOptions& options) -> fedagent::Duration& { return options.agent.*member; };
  };
  check_range(agent(&AgentOptions::disconnect_timeout), "disconnect_timeout");
  check_range(agent(&AgentOptions::poll_timeout), "poll_timeout");
  check_range(agent(&AgentOptions::max_age), "max_age");
  check_range(agent(&AgentOptions::remembered_for), "remembered_for");
  check_range([](StoreOptions& options) -> fedagent::Duration& { return options.idle_expiry; },
              "idle_expiry");

  for (const double jitter : {-0.01, 1.01, std::numeric_limits<double>::quiet_NaN()}) {
    CHECK(refusal(AgentOptions{.poll_jitter = jitter}) ==
          "fedagent: poll_jitter must be from 0 to 1");
  }
  CHECK(refusal(AgentOptions{.poll_jitter = 0.0}).empty());
  CHECK(refusal(AgentOptions{.poll_jitter = 1.0}).empty());
  CHECK(refusal(StoreOptions{.max_node_id_length = 0}) ==
        "fedagent: max_node_id_length must be at least 1");
}

// ---- counters.hpp

TEST_CASE("counters: conservation and one outcome are two sums, each of which can fail") {
  Counters counters;
  CHECK(counters.balanced());
  counters.accepted = 4;
  CHECK_FALSE(counters.balanced());
  counters.confirmed = 1;
  counters.dropped[static_cast<std::size_t>(errc::expired) - 1] = 1;
  counters.queued = 1;
  CHECK_FALSE(counters.balanced());
  counters.leased = 1;
  CHECK(counters.balanced());
  counters.requests = 3;
  CHECK_FALSE(counters.balanced());
  counters.replied = 1;
  counters.failed[static_cast<std::size_t>(errc::cancelled) - 1] = 1;
  CHECK_FALSE(counters.balanced());
  counters.open_requests = 1;
  CHECK(counters.balanced());
}

TEST_CASE("counters: each reason and each disposition is told by name") {
  Counters counters;
  counters.dropped[0] = 1;
  counters.dropped[fedagent::drop_reasons - 1] = 2;
  counters.failed[1] = 3;
  counters.replies[0] = 4;
  counters.replies[fedagent::reply_dispositions - 1] = 5;
  CHECK(counters.dropped_for(errc::disconnected) == 1);
  CHECK(counters.dropped_for(errc::cancelled) == 2);
  CHECK(counters.failed_for(errc::expired) == 3);
  CHECK(counters.replies_that_were(ReplyDisposition::delivered) == 4);
  CHECK(counters.replies_that_were(ReplyDisposition::uncorrelated) == 5);
  CHECK(counters.total_dropped() == 3);
  CHECK(counters.total_failed() == 3);
}

TEST_CASE("counters: a sum adds every member") {
  Counters one;
  one.accepted = 1;
  one.refused = 2;
  one.confirmed = 3;
  one.redelivered = 4;
  one.dropped.fill(5);
  one.requests = 6;
  one.replied = 7;
  one.failed.fill(8);
  one.replies.fill(9);
  one.wrong_node = 10;
  one.handler_errors = 11;
  one.queued = 12;
  one.queued_bytes = 13;
  one.leased = 14;
  one.open_requests = 15;
  Counters sum = one;
  sum += one;
  // No member is left out: each object is an array of such numbers.
  constexpr auto words = sizeof(Counters) / sizeof(std::uint64_t);
  std::array<std::uint64_t, words> ones{};
  std::array<std::uint64_t, words> sums{};
  std::memcpy(ones.data(), &one, sizeof one);
  std::memcpy(sums.data(), &sum, sizeof sum);
  for (std::size_t i = 0; i < words; ++i) {
    CHECK(ones[i] > 0);
    CHECK(sums[i] == 2 * ones[i]);
  }
}

// ---- observer.hpp: which hooks are called

namespace {

struct OnlyStatus {
  int* calls;
  void on_status(std::string_view, NodeActiveStatus, NodeActiveStatus) { ++*calls; }
};

struct Everything {
  std::vector<std::string>* log;
  using Ptr = const fedagent::MessagePtr<OnlyId>&;
  using error_code = boost::system::error_code;

  void on_status(std::string_view, NodeActiveStatus, NodeActiveStatus) { log->push_back("status"); }
  void on_queued(std::string_view, Ptr, NodeActiveStatus) { log->push_back("queued"); }
  void on_delivered(std::string_view, Ptr) { log->push_back("delivered"); }
  void on_confirmed(std::string_view, Ptr) { log->push_back("confirmed"); }
  void on_requeued(std::string_view, Ptr, std::uint32_t) { log->push_back("requeued"); }
  void on_dropped(std::string_view, Ptr, error_code) { log->push_back("dropped"); }
  void on_refused(std::string_view, Ptr, error_code) { log->push_back("refused"); }
  void on_reply(std::string_view, Ptr, ReplyDisposition) { log->push_back("reply"); }
  void on_unknown_node(std::string_view, Ptr) { log->push_back("unknown_node"); }
  void on_wrong_node(std::string_view, std::string_view) { log->push_back("wrong_node"); }
  void on_handler_error(std::string_view, std::exception_ptr) { log->push_back("handler_error"); }
  void on_feedback(std::string_view, int) { log->push_back("feedback"); }
};

template <class Observer>
void call_all(fedagent::detail::Hooks<Observer, OnlyId>& hooks) {
  namespace hook = fedagent::detail::hook;
  const fedagent::MessagePtr<OnlyId> message;
  const boost::system::error_code late = errc::expired;
  hooks(hook::status, "n", NodeActiveStatus::active, NodeActiveStatus::waiting);
  hooks(hook::queued, "n", message, NodeActiveStatus::active);
  hooks(hook::delivered, "n", message);
  hooks(hook::confirmed, "n", message);
  hooks(hook::requeued, "n", message, 1U);
  hooks(hook::dropped, "n", message, late);
  hooks(hook::refused, "n", message, late);
  hooks(hook::reply, "n", message, ReplyDisposition::late);
  hooks(hook::unknown_node, "n", message);
  hooks(hook::wrong_node, "n", "claim");
  hooks(hook::handler_error, "n", nullptr);
}

}  // namespace

TEST_CASE("observer: hooks that are there are called, absent ones are not asked for") {
  std::vector<std::string> log;
  fedagent::detail::Hooks<Everything, OnlyId> all(Everything{&log});
  call_all(all);
  CHECK(all.feedback("n", 3));
  CHECK_FALSE(all.feedback("n", std::string("of a type that it does not take")));
  CHECK(log == std::vector<std::string>{"status", "queued", "delivered", "confirmed", "requeued",
                                        "dropped", "refused", "reply", "unknown_node", "wrong_node",
                                        "handler_error", "feedback"});

  int calls = 0;
  fedagent::detail::Hooks<OnlyStatus, OnlyId> one(OnlyStatus{&calls});
  call_all(one);
  CHECK_FALSE(one.feedback("n", 3));
  CHECK(calls == 1);
  CHECK(one.observer().calls == &calls);

  fedagent::detail::Hooks<fedagent::NoObserver, OnlyId> none(fedagent::NoObserver{});
  call_all(none);
  CHECK_FALSE(none.feedback("n", 3));
}
