#include "hospital_work.hpp"

#include <fmt/core.h>

#include <stdexcept>
#include <variant>

namespace federated {

namespace {

struct Worker {
  const Dataset& rows;

  // The Scaling and the Model are of one size (decode() has checked it); only our file can differ.
  void require_features(std::size_t features) const {
    if (features != rows.features) {
      throw std::invalid_argument(fmt::format("the model is for {} features, the rows here have {}",
                                              features, rows.features));
    }
  }

  Content operator()(const StatisticsTask&) const { return StatisticsReply{statistics_of(rows)}; }
  Content operator()(const TrainTask& task) const {
    require_features(task.scaling.mean.size());
    return TrainReply{
        {train(task.model, standardised(rows, task.scaling), task.options), rows.rows()}};
  }
  Content operator()(const FinalTask& task) const {
    require_features(task.scaling.mean.size());
    return FinalReply{accuracy(task.model, standardised(rows, task.scaling))};
  }
  template <class NotForUs>
  Content operator()(const NotForUs&) const {
    throw std::invalid_argument("this is nothing that a hospital does");
  }
};

}  // namespace

Payload do_task(const Dataset& rows, std::string_view bytes) {
  Payload reply;
  try {
    const auto task = decode(bytes);
    reply.round = task.round;
    reply.content = std::visit(Worker{rows}, task.content);
  } catch (const std::exception& error) {
    reply.content = Refusal{error.what()};
  }
  return reply;
}

}  // namespace federated
