#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "fedagent/fedbiomed/codec.hpp"
#include "fedagent/fedbiomed/fields.hpp"
#include "fedagent/fedbiomed/json.hpp"
#include "fedagent/fedbiomed/version.hpp"

/// @file
/// What a researcher asks of a node (c.7): give one of these with a `Head` to `encode`.

namespace fedagent::fedbiomed {

/// Is the node there?
struct PingRequest {
  static constexpr std::string_view message_class = "PingRequest";
  static constexpr auto fields() { return std::tuple(); }
};

/// Which data sets of the node have all these tags?
struct SearchRequest {
  static constexpr std::string_view message_class = "SearchRequest";
  std::vector<std::string> tags{};

  static constexpr auto fields() { return std::tuple(detail::field("tags", &SearchRequest::tags)); }
};

/// Which data sets does the node have?
struct ListRequest {
  static constexpr std::string_view message_class = "ListRequest";
  static constexpr auto fields() { return std::tuple(); }
};

/// May this training plan be run, when somebody has looked at it?
struct ApprovalRequest {
  static constexpr std::string_view message_class = "ApprovalRequest";
  std::string description{};
  /// Source text.
  std::string training_plan{};

  static constexpr auto fields() {
    using T = ApprovalRequest;
    return std::tuple(detail::field("description", &T::description),
                      detail::field("training_plan", &T::training_plan));
  }
};

/// May this training plan be run now?
struct TrainingPlanStatusRequest {
  static constexpr std::string_view message_class = "TrainingPlanStatusRequest";
  std::string experiment_id{};
  std::string training_plan{};

  static constexpr auto fields() {
    using T = TrainingPlanStatusRequest;
    return std::tuple(detail::field("experiment_id", &T::experiment_id),
                      detail::field("training_plan", &T::training_plan));
  }
};

/// One round of training, or of validation alone.
struct TrainRequest {
  static constexpr std::string_view message_class = "TrainRequest";
  std::string experiment_id{};
  std::optional<std::string> state_id{};
  Json training_args = Json::object();
  std::string dataset_id{};
  bool training = true;
  Json model_args = Json::object();
  Json params = Json::object();
  std::string training_plan{};
  std::string training_plan_class{};
  std::int64_t round = 0;
  Json aggregator_args = Json::object();
  Json secagg_arguments{};
  Json optim_aux_var{};

  static constexpr auto fields() {
    using T = TrainRequest;
    using detail::field;
    using detail::json_map;
    return std::tuple(
        field("experiment_id", &T::experiment_id), field("state_id", &T::state_id),
        field("training_args", &T::training_args, json_map), field("dataset_id", &T::dataset_id),
        field("training", &T::training), field("model_args", &T::model_args, json_map),
        field("params", &T::params, json_map), field("training_plan", &T::training_plan),
        field("training_plan_class", &T::training_plan_class), field("round", &T::round),
        field("aggregator_args", &T::aggregator_args, json_map),
        field("secagg_arguments", &T::secagg_arguments, json_map).or_nil(),
        field("optim_aux_var", &T::optim_aux_var, json_map).or_nil());
  }
};

/// Statistics of a data set (federated analytics).
struct FARequest {
  static constexpr std::string_view message_class = "FARequest";
  static constexpr Version first_version = Version::v7;
  std::string experiment_id{};
  std::string dataset_id{};
  std::string fa_id{};
  Json stats{};
  Json stats_args{};
  Json dataset_schema{};
  Json secagg_arguments{};

  static constexpr auto fields() {
    using T = FARequest;
    using detail::field;
    using detail::json_array;
    using detail::json_map;
    return std::tuple(
        field("experiment_id", &T::experiment_id), field("dataset_id", &T::dataset_id),
        field("fa_id", &T::fa_id), field("stats", &T::stats, json_array).or_nil(),
        field("stats_args", &T::stats_args, json_map).or_nil(),
        field("dataset_schema", &T::dataset_schema, json_array | json_map | detail::json_tuple)
            .or_nil(),
        field("secagg_arguments", &T::secagg_arguments, json_map).or_nil());
  }
};

/// One step of a preprocessing.
struct PreprocRequest {
  static constexpr std::string_view message_class = "PreprocRequest";
  static constexpr Version first_version = Version::v7;
  std::string experiment_id{};
  std::string dataset_id{};
  std::int64_t preproc_type = 0;
  std::int64_t preproc_step = 0;
  std::string preproc_id{};
  Json preproc_args = Json::object();
  std::optional<std::string> state_id{};

  static constexpr auto fields() {
    using T = PreprocRequest;
    using detail::field;
    return std::tuple(field("experiment_id", &T::experiment_id),
                      field("dataset_id", &T::dataset_id), field("preproc_type", &T::preproc_type),
                      field("preproc_step", &T::preproc_step), field("preproc_id", &T::preproc_id),
                      field("preproc_args", &T::preproc_args, detail::json_map),
                      field("state_id", &T::state_id));
  }
};

/// Make what a secure aggregation among these parties needs.
struct SecaggRequest {
  static constexpr std::string_view message_class = "SecaggRequest";
  std::string secagg_id{};
  std::int64_t element = 0;
  std::string experiment_id{};
  std::vector<std::string> parties{};

  static constexpr auto fields() {
    using T = SecaggRequest;
    using detail::field;
    return std::tuple(field("secagg_id", &T::secagg_id), field("element", &T::element),
                      field("experiment_id", &T::experiment_id), field("parties", &T::parties));
  }
};

/// The same by additive secret sharing.
struct AdditiveSSSetupRequest {
  static constexpr std::string_view message_class = "AdditiveSSSetupRequest";
  std::string secagg_id{};
  std::int64_t element = 0;
  std::string experiment_id{};
  std::vector<std::string> parties{};

  static constexpr auto fields() {
    using T = AdditiveSSSetupRequest;
    using detail::field;
    return std::tuple(field("secagg_id", &T::secagg_id), field("element", &T::element),
                      field("experiment_id", &T::experiment_id), field("parties", &T::parties));
  }
};

/// Forget what was made for a secure aggregation.
struct SecaggDeleteRequest {
  static constexpr std::string_view message_class = "SecaggDeleteRequest";
  std::string secagg_id{};
  std::int64_t element = 0;
  std::optional<std::string> experiment_id{};

  static constexpr auto fields() {
    using T = SecaggDeleteRequest;
    using detail::field;
    return std::tuple(field("secagg_id", &T::secagg_id), field("element", &T::element),
                      field("experiment_id", &T::experiment_id));
  }
};

}  // namespace fedagent::fedbiomed
