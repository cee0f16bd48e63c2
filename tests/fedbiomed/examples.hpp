#pragma once

#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "fedagent/fedbiomed/extra_types.hpp"
#include "fedagent/fedbiomed/replies.hpp"
#include "fedagent/fedbiomed/requests.hpp"

namespace examples {

using namespace fedagent::fedbiomed;

inline Json tensor() { return to_json(Tensor{Tensor::Kind::torch, "float32", {1}, Bytes(4, 7)}); }
inline Json map() { return {{"é", 0.1}}; }

/// Each class with all its fields set.
inline auto full() {
  const std::string code = "class Plan:\n  pass\n";
  return std::tuple(
      PingRequest{}, SearchRequest{{"#MNIST", "é"}}, ListRequest{}, ApprovalRequest{"why", code},
      TrainingPlanStatusRequest{"E", code},
      TrainRequest{"E",
                   "S",
                   map(),
                   "D",
                   true,
                   map(),
                   {{"w", tensor()}},
                   code,
                   "Plan",
                   3,
                   map(),
                   map(),
                   map()},
      FARequest{"E", "D", "F", Json{"mean"}, map(), make_tuple({1, "a"}), map()},
      PreprocRequest{"E", "D", 1, -2, "P", map(), "S"}, SecaggRequest{"G", 1, "E", {"A", "B", "C"}},
      AdditiveSSSetupRequest{"G", 1, "E", {"A", "B", "C"}}, SecaggDeleteRequest{"G", 1, "E"},
      PingReply{"N", "name"}, SearchReply{Json::array({map(), map()}), "N", "name", 2},
      ListReply{true, Json::array({map()}), "N", "name", 1},
      ApprovalReply{"T", "registered", "N", "name", 0, true},
      TrainingPlanStatusReply{"N", "name", "E", true, true, "Approved", "m", code, "T"},
      TrainReply{"E", true, "N", "name", "D", map(), "m", "S", 100, true, Json{1, 2}, map(), map(),
                 Json{3}},
      FAReply{"E", "F", "N", "name", Json{"mean"}, nullptr, true, Json{1}, Json{"mean"}},
      PreprocReply{"E", "N", "name", "m", map(), "S"}, SecaggReply{"G", true, "N", "name", "m"},
      AdditiveSSSetupReply{"G", true, "N", "name", "m",
                           make_extra("int", Json::binary({0, 1, 0, 0, 0, 0, 0, 0, 0, 0}))},
      SecaggDeleteReply{"G", true, "N", "name", "m"}, ErrorMessage{"N", "name", "oh", "FB300"},
      OverlayMessage{"A", "B", Bytes(40, 1), true, Bytes(32, 2), Bytes(16, 3)});
}

/// Calls `use(body)` for each class with all its fields set, and with as few as it can have.
template <class Use>
void for_each(Use use) {
  std::apply([&](const auto&... body) { (use(body), ...); }, full());
  std::apply(
      [&]<class... Class>(const Class&...) {
        const auto use_least = [&]<class C>(C least) {
          if constexpr (std::is_same_v<C, OverlayMessage>) {
            least.dest_node_id = "B";
          }
          use(least);
        };
        (use_least(Class{}), ...);
      },
      full());
}

}  // namespace examples
