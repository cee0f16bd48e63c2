#pragma once

// What the two servers of the gRPC benchmark and their nodes send: messages of the Fed-BioMed wire.
#include <grpcpp/grpcpp.h>

#include <cstddef>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>

#include "fedagent/fedbiomed/chunks.hpp"
#include "fedagent/fedbiomed/msgpack_writer.hpp"
#include "fedagent/fedbiomed/wire.hpp"
#include "net_server.hpp"

namespace bench {

inline constexpr std::string_view poll_method = "/researcher.ResearcherService/GetTaskUnary";
inline constexpr std::string_view reply_method = "/researcher.ResearcherService/ReplyTask";

/// The id of a node has this length, so that a server without agents finds it quickly.
inline std::string node_id(std::size_t number) {
  char id[32];
  std::snprintf(id, sizeof id, "node-%06zu", number);
  return id;
}

inline std::string encoded(std::string_view message_class, std::string_view request_id,
                           std::string_view node_id, std::size_t payload) {
  fedagent::fedbiomed::MsgpackWriter writer;
  writer.map(node_id.empty() ? 5 : 6);
  if (!node_id.empty()) {
    writer.string("node_id").string(node_id);
  }
  writer.string("protocol_version").string("7");
  writer.string("request_id").string(request_id);
  writer.string("researcher_id").string("researcher");
  writer.string("payload").binary(std::string(payload, 'p'));
  writer.string("__type_message__").map(2);
  writer.string("module").string("fedbiomed.common.message");
  writer.string("class").string(message_class);
  return writer.take();
}

/// A file given by `--name path`; empty when it is not given.
inline std::string file_argument(int count, char** values, std::string_view name) {
  for (int i = 1; i + 1 < count; ++i) {
    if (values[i] == name) {
      std::ifstream file(values[i + 1], std::ios::binary);
      return {std::istreambuf_iterator<char>(file), {}};
    }
  }
  return {};
}

/// The whole of a message in one chunk.
inline ::grpc::ByteBuffer as_chunk(std::string_view bytes) {
  const ::grpc::Slice slice(fedagent::fedbiomed::encode(fedagent::fedbiomed::Chunk{1, 1, bytes}));
  return {&slice, 1};
}

}  // namespace bench
