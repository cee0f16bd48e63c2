#include "logistic.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "fedavg.hpp"
#include "test_support.hpp"

namespace {

using namespace federated;
using federated::testing::complaint_of;

Dataset one_feature(std::vector<double> values, std::vector<int> labels) {
  return Dataset{{"no", "yes"}, 1, std::move(values), std::move(labels)};
}

}  // namespace

TEST_CASE("statistics: mean and squared distances of each feature") {
  const auto statistics = statistics_of(Dataset{{"a", "b"}, 2, {1, 10, 2, 10, 3, 10}, {0, 0, 1}});
  CHECK(statistics.count == 3);
  CHECK(statistics.mean[0] == doctest::Approx(2.0));
  CHECK(statistics.squares[0] == doctest::Approx(2.0));
  CHECK(statistics.mean[1] == 10.0);
  CHECK(statistics.squares[1] == 0.0);
}

TEST_CASE("statistics: merged parts say what the pooled rows say") {
  const auto split = split_dataset(read_dataset(FEDERATED_WDBC), {});
  Statistics together;
  for (const auto& hospital : split.hospitals) {
    together = merged(together, statistics_of(hospital));
  }
  const auto at_once = statistics_of(pooled(split.hospitals));
  CHECK(together.count == at_once.count);
  for (std::size_t j = 0; j < 30; ++j) {
    CHECK(together.mean[j] == doctest::Approx(at_once.mean[j]).epsilon(1e-12));
    CHECK(together.squares[j] == doctest::Approx(at_once.squares[j]).epsilon(1e-10));
  }
  CHECK(merged(at_once, Statistics{}).count == at_once.count);
}

TEST_CASE("statistics: no digits are lost where the mean is large") {
  // Sums of squares would need 18 digits more than a double has.
  const auto left = statistics_of(one_feature({1e9 + 1, 1e9 + 2}, {0, 1}));
  const auto right = statistics_of(one_feature({1e9 + 3}, {0}));
  CHECK(merged(left, right).squares[0] == doctest::Approx(2.0));
}

TEST_CASE("statistics: parts of different shape do not merge") {
  const auto one = statistics_of(one_feature({1}, {0}));
  const auto two = statistics_of(Dataset{{"a", "b"}, 2, {1, 2}, {0}});
  CHECK(complaint_of<std::invalid_argument>([&] { merged(one, two); }) ==
        "statistics: 1 and 2 features do not fit together");
}

TEST_CASE("scaling: standardised features have mean 0 and deviation 1") {
  const Dataset data{{"a", "b"}, 2, {1, 7, 3, 7, 8, 7}, {0, 0, 1}};
  const auto again = statistics_of(standardised(data, scaling_from(statistics_of(data))));
  CHECK(again.mean[0] == doctest::Approx(0.0));
  CHECK(again.squares[0] == doctest::Approx(3.0));
  CHECK(again.squares[1] == 0.0);  // a feature that never changes becomes 0, not a division by 0
  CHECK(again.mean[1] == 0.0);

  CHECK(complaint_of<std::invalid_argument>([] { scaling_from({}); }) ==
        "scaling: no rows were counted");
  CHECK(complaint_of<std::invalid_argument>([&] {
          standardised(data, {{1}, {1}});
        }) == "standardisation: 2 and 1 features do not fit together");
}

TEST_CASE("logistic: one step of training follows the formula") {
  // At weight 0 every prediction is 1/2; the gradient of the weight is the mean of error * x.
  const auto data = one_feature({2.0, -1.0}, {1, 0});
  const auto model = train({0.0, 0.0}, data, {.epochs = 1, .learning_rate = 1.0, .l2 = 0.0});
  CHECK(model[0] == doctest::Approx((0.5 * 2.0 + 0.5 * 1.0) / 2.0));
  CHECK(model[1] == doctest::Approx(0.0));

  const auto pulled =
      train({1.0, 1.0}, one_feature({0.0}, {1}), {.epochs = 1, .learning_rate = 1.0, .l2 = 0.25});
  CHECK(pulled[0] == doctest::Approx(0.75));  // only the pull: the feature is 0
  CHECK(pulled[1] == doctest::Approx(2.0 - 1.0 / (1.0 + std::exp(-1.0))));  // the bias: none
}

TEST_CASE("logistic: separable rows are learned") {
  const auto data = one_feature({-2, -1, 1, 2}, {0, 0, 1, 1});
  const auto model = train(zero_model(1), data, {.epochs = 200, .learning_rate = 0.5});
  CHECK(accuracy(model, data) == 1.0);
  CHECK(predict(model, std::vector{3.0}) > 0.9);
  CHECK(predict(model, std::vector{-3.0}) < 0.1);
  CHECK(accuracy(model, one_feature({-2, 2, 2, 2}, {1, 1, 1, 0})) == 0.5);
  CHECK(train(model, data, {.epochs = 0}) == model);
}

TEST_CASE("logistic: predictions stay between 0 and 1 for any row") {
  CHECK(predict({1e6, 0}, std::vector{1e6}) == 1.0);
  CHECK(predict({1e6, 0}, std::vector{-1e6}) == 0.0);
}

TEST_CASE("logistic: a model for other features is refused") {
  CHECK(complaint_of<std::invalid_argument>([] {
          train(zero_model(2), one_feature({1}, {0}), {});
        }) == "training (with the bias): 2 and 3 features do not fit together");
}

TEST_CASE("federated average: weighted by rows") {
  const std::vector<Update> updates = {{{1.0, 0.0}, 1}, {{4.0, 3.0}, 2}};
  const auto model = federated_average(updates);
  CHECK(model[0] == doctest::Approx(3.0));
  CHECK(model[1] == doctest::Approx(2.0));
}

TEST_CASE("federated average: of one step each, it is one step on the pooled rows") {
  const auto split = split_dataset(read_dataset(FEDERATED_WDBC), {});
  const auto pool = pooled(split.hospitals);
  const auto scaling = scaling_from(statistics_of(pool));
  const TrainOptions once{.epochs = 1};
  std::vector<Update> updates;
  updates.reserve(split.hospitals.size());
  for (const auto& hospital : split.hospitals) {
    updates.push_back(
        {train(zero_model(30), standardised(hospital, scaling), once), hospital.rows()});
  }
  const auto average = federated_average(updates);
  const auto at_once = train(zero_model(30), standardised(pool, scaling), once);
  for (std::size_t j = 0; j < average.size(); ++j) {
    CHECK(average[j] == doctest::Approx(at_once[j]).epsilon(1e-12));
  }
}

TEST_CASE("federated average: nothing, no rows and models that do not fit are refused") {
  const auto complaint = [](std::vector<Update> updates) {
    return complaint_of<std::invalid_argument>([&] { federated_average(updates); });
  };
  CHECK(complaint({}) == "federated average: no updates");
  CHECK(complaint({{{1.0}, 0}}) == "federated average: the updates stand for no rows");
  CHECK(complaint({{{1.0}, 1}, {{1.0, 2.0}, 1}}) ==
        "federated average: models of 1 and 2 numbers do not fit together");
}

// The demo's promise, without a network: hospital 2 gone for some rounds, hospital 4 often late.
TEST_CASE("federated training comes within 2 points of training on the pooled rows") {
  for (const std::uint64_t seed : {2U, 3U, 5U, 8U, 13U, 21U}) {
    CAPTURE(seed);
    const auto split = split_dataset(read_dataset(FEDERATED_WDBC), {.seed = seed});
    const auto pool = pooled(split.hospitals);
    const auto scaling = scaling_from(statistics_of(pool));
    const auto test = standardised(split.test, scaling);

    TrainOptions options;
    auto model = zero_model(30);
    for (int round = 1; round <= 30; ++round) {
      std::vector<Update> updates;
      for (std::size_t i = 0; i < split.hospitals.size(); ++i) {
        const bool gone = i == 1 && round >= 8 && round <= 16;
        const bool late = i == 3 && round % 3 == 0;
        if (!gone && !late) {
          updates.push_back({train(model, standardised(split.hospitals[i], scaling), options),
                             split.hospitals[i].rows()});
        }
      }
      model = federated_average(updates);
    }
    options.epochs *= 30;
    const auto pooled_model = train(zero_model(30), standardised(pool, scaling), options);
    CHECK(accuracy(pooled_model, test) > 0.93);
    CHECK(accuracy(model, test) >= accuracy(pooled_model, test) - 0.02);
  }
}
