#pragma once

#include <boost/system/result.hpp>
#include <chrono>
#include <concepts>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>

#include "fedagent/message.hpp"

namespace fedagent {

/// Tells one life of a node from the next: a connection, or a process start. Zero: not known.
/**
 * A poll confirms all that earlier polls of its session have delivered. What was delivered in
 * another session was lost, it tells, and that is delivered again.
 */
using SessionId = std::uint64_t;

template <class T>
concept HasExecutorType = requires { typename T::executor_type; };

template <class T>
concept HasMessageType = requires { typename T::message_type; };

template <class T>
concept HasWireType = requires { typename T::wire_type; };

template <class T>
concept HasDecode = HasWireType<T> && HasMessageType<T> && requires(typename T::wire_type wire) {
  { T::decode(std::move(wire)) } -> std::same_as<boost::system::result<typename T::message_type>>;
};

namespace detail {

template <class T>
struct clock_of {
  using type = std::chrono::steady_clock;
};

template <class T>
  requires requires { typename T::clock_type; }
struct clock_of<T> {
  using type = typename T::clock_type;
};

// Stands in for what a transport does not name, so that the static_assert speaks first.
struct Missing {
  std::string_view request_id;
};

template <class T>
struct message_of {
  using type = Missing;
};

template <HasMessageType T>
struct message_of<T> {
  using type = typename T::message_type;
};

// It could not be told from a reply that the transport has decoded already.
template <class T, class M>
concept HasMessageAsWire = HasWireType<T> && std::same_as<typename T::wire_type, MessagePtr<M>>;

}  // namespace detail

/// The clock of a transport: its `clock_type`, or `std::chrono::steady_clock`.
template <class T>
using transport_clock_t = typename detail::clock_of<T>::type;

template <class T>
concept HasSteadyClock = transport_clock_t<T>::is_steady && requires {
  { transport_clock_t<T>::now() } -> std::same_as<typename transport_clock_t<T>::time_point>;
};

/// What the core asks of an RPC layer, and no more.
/**
 * - `executor_type`: where agents run.
 * - `message_type`: what is sent to nodes and what they reply.
 * - `wire_type`: a reply as it came off the wire.
 * - `static result<message_type> decode(wire_type)`: an error code for bad input; it does not
 * throw.
 * - `clock_type`, optional: a steady clock. Tests give one that they drive by hand.
 */
template <class T>
concept Transport =
    HasExecutorType<T> && HasMessageType<T> && HasWireType<T> && HasDecode<T> && HasSteadyClock<T>;

/// A reply as it is given: as it came off the wire, or a message that is decoded already.
/** What came off the wire is decoded where it is given, by whoever calls. */
template <class T, class M>
class Received {
 public:
  /// Implicit, so that a reply is given as either. @pre A pointer is not null.
  template <class Given>
    requires std::convertible_to<Given, MessagePtr<M>> ||
             std::convertible_to<Given, typename T::wire_type>
  Received(Given reply) : message_(decoded(reply)) {}

  /// The message, or what `decode` says is wrong with it.
  const Outcome<M>& message() const noexcept { return message_; }

 private:
  template <class Given>
  static Outcome<M> decoded(Given& reply) {
    using Wire = typename T::wire_type;
    if constexpr (!std::same_as<Given, Wire> && std::convertible_to<Given, MessagePtr<M>>) {
      return MessagePtr<M>(std::move(reply));
    } else {
      auto message = T::decode(Wire(std::move(reply)));
      if (!message) {
        return message.error();
      }
      return MessagePtr<M>(std::make_shared<const M>(*std::move(message)));
    }
  }

  Outcome<M> message_;
};

/// The server side of one open task call: what a transport author writes besides `decode`.
/**
 * - `node_id()`: the id of the node at the other end, *verified* by the transport.
 * - `deliver(message)`: an awaitable `result<void>`. An error or an exception means: not delivered,
 *   and the task goes back to the front of the queue. `errc::not_encodable` ends the message
 * instead.
 * - `session()`, optional: the `SessionId` of the peer.
 *
 * @par Cancellation
 * When the peer is gone, the transport cancels the `serve_task_call` operation that it started for
 * this call, by its cancellation slot or with `||`. `deliver` ends early when it is cancelled.
 */
template <class C, class M>
concept TaskCall = requires(C& call, MessagePtr<M> message) {
  { call.node_id() } -> std::convertible_to<std::string_view>;
  call.deliver(std::move(message));
};

namespace detail {

// The sentences that a user reads first when a type misses a part.
template <class T, class M>
struct check_parameters {
  static_assert(HasExecutorType<T>,
                "fedagent: Transport must provide executor_type, the executor its agents run on");
  static_assert(HasMessageType<T>,
                "fedagent: Transport must provide message_type, the type of tasks and replies");
  static_assert(HasWireType<T>,
                "fedagent: Transport must provide wire_type, a reply as it came off the wire");
  static_assert(!HasWireType<T> || !HasMessageType<T> || HasDecode<T>,
                "fedagent: Transport must provide decode(wire_type) as a static function that "
                "returns boost::system::result<message_type>");
  static_assert(!HasMessageAsWire<T, M>,
                "fedagent: Transport::wire_type must not be MessagePtr<Message>, a reply that is "
                "decoded already");
  static_assert(HasSteadyClock<T>,
                "fedagent: Transport::clock_type must be a steady clock: is_steady is true, and "
                "now() returns its time_point");
  static_assert(std::movable<M>, "fedagent: Message must be movable");
  static_assert(HasRequestId<M>,
                "fedagent: Message must provide request_id, or message_traits must be specialised "
                "for it with request_id(message)");
  static_assert(HasMessageTraits<M>,
                "fedagent: message_traits must provide destination(message), source(message) and "
                "size(message)");
  static_assert(!HasRequestId<M> || !HasMessageTraits<M> || keeps_its_strings<M>,
                "fedagent: message_traits must return views of strings that the message keeps");
  using type = void;
};

}  // namespace detail
}  // namespace fedagent
