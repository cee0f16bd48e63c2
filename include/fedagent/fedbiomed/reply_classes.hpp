#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>

#include "fedagent/fedbiomed/fields.hpp"
#include "fedagent/fedbiomed/json.hpp"
#include "fedagent/fedbiomed/version.hpp"

/// @file
/// What nodes reply (c.7). Each has the node's id; its name is there since version 7. The request
/// id, the researcher's id and the version are those of the `Message`.

namespace fedagent::fedbiomed {

namespace detail {

template <class T>
constexpr auto node_id_field() {
  return field("node_id", &T::node_id);
}
template <class T>
constexpr auto node_name_field() {
  return field("node_name", &T::node_name).since(Version::v7);
}

}  // namespace detail

/// The node is there.
struct PingReply {
  static constexpr std::string_view message_class = "PingReply";
  std::string node_id{};
  std::string node_name{};

  static constexpr auto fields() {
    using T = PingReply;
    return std::tuple(detail::node_id_field<T>(), detail::node_name_field<T>());
  }
};

/// The data sets that have all the tags.
struct SearchReply {
  static constexpr std::string_view message_class = "SearchReply";
  /// Maps that describe a data set each.
  Json databases = Json::array();
  std::string node_id{};
  std::string node_name{};
  std::int64_t count = 0;

  static constexpr auto fields() {
    using T = SearchReply;
    return std::tuple(detail::field("databases", &T::databases, detail::json_array),
                      detail::node_id_field<T>(), detail::node_name_field<T>(),
                      detail::field("count", &T::count));
  }
};

/// The data sets of the node.
struct ListReply {
  static constexpr std::string_view message_class = "ListReply";
  bool success = true;
  Json databases = Json::array();
  std::string node_id{};
  std::string node_name{};
  std::int64_t count = 0;

  static constexpr auto fields() {
    using T = ListReply;
    return std::tuple(detail::field("success", &T::success),
                      detail::field("databases", &T::databases, detail::json_array),
                      detail::node_id_field<T>(), detail::node_name_field<T>(),
                      detail::field("count", &T::count));
  }
};

/// The training plan was registered, and waits for somebody to look at it.
struct ApprovalReply {
  static constexpr std::string_view message_class = "ApprovalReply";
  std::optional<std::string> training_plan_id{};
  std::string message{};
  std::string node_id{};
  std::string node_name{};
  /// Always 0.
  std::int64_t status = 0;
  bool success = true;

  static constexpr auto fields() {
    using T = ApprovalReply;
    using detail::field;
    return std::tuple(field("training_plan_id", &T::training_plan_id),
                      field("message", &T::message), detail::node_id_field<T>(),
                      detail::node_name_field<T>(), field("status", &T::status),
                      field("success", &T::success));
  }
};

/// Whether the training plan may be run.
struct TrainingPlanStatusReply {
  static constexpr std::string_view message_class = "TrainingPlanStatusReply";
  std::string node_id{};
  std::string node_name{};
  std::string experiment_id{};
  bool success = true;
  bool approval_obligation = false;
  std::string status{};
  std::string msg{};
  std::string training_plan{};
  std::optional<std::string> training_plan_id{};

  static constexpr auto fields() {
    using T = TrainingPlanStatusReply;
    using detail::field;
    return std::tuple(detail::node_id_field<T>(), detail::node_name_field<T>(),
                      field("experiment_id", &T::experiment_id), field("success", &T::success),
                      field("approval_obligation", &T::approval_obligation),
                      field("status", &T::status), field("msg", &T::msg),
                      field("training_plan", &T::training_plan),
                      field("training_plan_id", &T::training_plan_id));
  }
};

/// What a round of training has made.
struct TrainReply {
  static constexpr std::string_view message_class = "TrainReply";
  std::string experiment_id{};
  bool success = true;
  std::string node_id{};
  std::string node_name{};
  std::string dataset_id{};
  Json timing = Json::object();
  std::string msg{};
  std::optional<std::string> state_id{};
  std::optional<std::int64_t> sample_size{};
  bool encrypted = false;
  /// A map, or an array when encrypted.
  Json params{};
  Json optimizer_args{};
  Json optim_aux_var{};
  Json encryption_factor{};

  static constexpr auto fields() {
    using T = TrainReply;
    using detail::field;
    using detail::json_array;
    using detail::json_map;
    return std::tuple(field("experiment_id", &T::experiment_id), field("success", &T::success),
                      detail::node_id_field<T>(), detail::node_name_field<T>(),
                      field("dataset_id", &T::dataset_id), field("timing", &T::timing, json_map),
                      field("msg", &T::msg), field("state_id", &T::state_id),
                      field("sample_size", &T::sample_size),
                      field("encrypted", &T::encrypted).defaulted(),
                      field("params", &T::params, json_map | json_array).or_nil(),
                      field("optimizer_args", &T::optimizer_args, json_map).or_nil(),
                      field("optim_aux_var", &T::optim_aux_var, json_map).or_nil(),
                      field("encryption_factor", &T::encryption_factor, json_array).or_nil());
  }
};

/// Statistics of a data set.
struct FAReply {
  static constexpr std::string_view message_class = "FAReply";
  static constexpr Version first_version = Version::v7;
  std::string experiment_id{};
  std::string fa_id{};
  std::string node_id{};
  std::string node_name{};
  Json stats{};
  Json output{};
  bool encrypted = false;
  Json params_encrypted{};
  Json output_schema{};

  /// What is encrypted is in its own two fields, and not in `output`.
  bool is_consistent() const noexcept {
    return encrypted ? !params_encrypted.is_null() && !output_schema.is_null() && output.is_null()
                     : params_encrypted.is_null() && output_schema.is_null();
  }

  static constexpr auto fields() {
    using T = FAReply;
    using detail::field;
    using detail::json_array;
    return std::tuple(field("experiment_id", &T::experiment_id), field("fa_id", &T::fa_id),
                      detail::node_id_field<T>(), detail::node_name_field<T>(),
                      field("stats", &T::stats, json_array).or_nil(),
                      field("output", &T::output, detail::json_map | detail::json_tuple).or_nil(),
                      field("encrypted", &T::encrypted).defaulted(),
                      field("params_encrypted", &T::params_encrypted, json_array).or_nil(),
                      field("output_schema", &T::output_schema, json_array).or_nil());
  }
};

/// What a step of a preprocessing has made.
struct PreprocReply {
  static constexpr std::string_view message_class = "PreprocReply";
  static constexpr Version first_version = Version::v7;
  std::string experiment_id{};
  std::string node_id{};
  std::string node_name{};
  std::string msg{};
  Json preproc_output = Json::object();
  std::optional<std::string> state_id{};

  static constexpr auto fields() {
    using T = PreprocReply;
    using detail::field;
    return std::tuple(field("experiment_id", &T::experiment_id), detail::node_id_field<T>(),
                      detail::node_name_field<T>(), field("msg", &T::msg),
                      field("preproc_output", &T::preproc_output, detail::json_map),
                      field("state_id", &T::state_id));
  }
};

/// The node has what a secure aggregation needs.
struct SecaggReply {
  static constexpr std::string_view message_class = "SecaggReply";
  std::string secagg_id{};
  bool success = true;
  std::string node_id{};
  std::string node_name{};
  /// In version 5 always there.
  std::optional<std::string> msg{};

  static constexpr auto fields() {
    using T = SecaggReply;
    using detail::field;
    return std::tuple(field("secagg_id", &T::secagg_id), field("success", &T::success),
                      detail::node_id_field<T>(), detail::node_name_field<T>(),
                      field("msg", &T::msg).nil_since(Version::v7));
  }
};

/// The same for additive secret sharing, with the node's share.
struct AdditiveSSSetupReply {
  static constexpr std::string_view message_class = "AdditiveSSSetupReply";
  std::string secagg_id{};
  bool success = true;
  std::string node_id{};
  std::string node_name{};
  std::optional<std::string> msg{};
  /// An integer, often one of more than 64 bits, or an array.
  Json share = 0;

  static constexpr auto fields() {
    using T = AdditiveSSSetupReply;
    using detail::field;
    return std::tuple(field("secagg_id", &T::secagg_id), field("success", &T::success),
                      detail::node_id_field<T>(), detail::node_name_field<T>(),
                      field("msg", &T::msg),
                      field("share", &T::share, detail::json_integer | detail::json_array));
  }
};

/// The node has forgotten what was made for a secure aggregation.
struct SecaggDeleteReply {
  static constexpr std::string_view message_class = "SecaggDeleteReply";
  std::string secagg_id{};
  bool success = true;
  std::string node_id{};
  std::string node_name{};
  std::optional<std::string> msg{};

  static constexpr auto fields() {
    using T = SecaggDeleteReply;
    using detail::field;
    return std::tuple(field("secagg_id", &T::secagg_id), field("success", &T::success),
                      detail::node_id_field<T>(), detail::node_name_field<T>(),
                      field("msg", &T::msg));
  }
};

}  // namespace fedagent::fedbiomed
