#include <doctest/doctest.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/slice.h>

#include <cstddef>
#include <string>

#include "fedagent/transport/grpc/inbox.hpp"

using fedagent::grpc::detail::Inbox;

namespace {

::grpc::ByteBuffer buffer(const std::string& bytes) {
  const ::grpc::Slice slice(bytes);
  return {&slice, 1};
}

std::string popped(Inbox& inbox) {
  ::grpc::ByteBuffer message;
  inbox.pop(message);
  ::grpc::Slice slice;
  REQUIRE(message.DumpToSingleSlice(&slice).ok());
  return {reinterpret_cast<const char*>(slice.begin()), slice.size()};
}

void push(Inbox& inbox, const std::string& bytes) {
  REQUIRE(inbox.has_room());
  auto message = buffer(bytes);
  inbox.push(message);
  CHECK_FALSE(message.Valid());
}

}  // namespace

TEST_CASE("An inbox has room for eight messages, and gives them in their order, round and round") {
  Inbox inbox;
  CHECK(inbox.empty());
  int in = 0;
  int out = 0;
  for (int turn = 0; turn < 5; ++turn) {
    while (inbox.has_room()) {
      push(inbox, std::to_string(in++));
    }
    CHECK(in - out == 8);
    for (int i = 0; i < 3 + turn; ++i) {
      CHECK(popped(inbox) == std::to_string(out++));
      CHECK(inbox.has_room());
    }
  }
  while (!inbox.empty()) {
    CHECK(popped(inbox) == std::to_string(out++));
  }
  CHECK(out == in);
}

TEST_CASE("One large message is enough for an inbox, and an empty one counts") {
  constexpr std::size_t most = 64 << 10;
  Inbox inbox;
  push(inbox, "");
  CHECK_FALSE(inbox.empty());
  push(inbox, std::string(most - 1, 'x'));
  push(inbox, "y");
  CHECK_FALSE(inbox.has_room());
  CHECK(popped(inbox).empty());
  CHECK_FALSE(inbox.has_room());
  CHECK(popped(inbox).size() == most - 1);
  CHECK(inbox.has_room());
  push(inbox, std::string(most + 1, 'z'));
  CHECK_FALSE(inbox.has_room());
  CHECK(popped(inbox) == "y");
  CHECK(popped(inbox).size() == most + 1);
  CHECK(inbox.empty());
  CHECK(inbox.has_room());
}
