// The two pictures of a run, as SVG text: accuracy over the rounds, and the status of each node
// over time.
#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "fedagent/node_status.hpp"

namespace federated {

/// How good the federated model was after each round, next to what else could have been done with
/// the rows.
struct AccuracyChart {
  struct Round {
    double accuracy = 0.0;     ///< Between 0 and 1.
    bool all_answered = true;  ///< Rounds in which a node was missing are drawn as an empty dot.
  };
  struct Alone {
    std::string name;
    double accuracy = 0.0;
  };

  std::vector<Round> rounds;
  std::optional<double> pooled;  ///< The same model trained on all rows in one place.
  std::vector<Alone> alone;      ///< The same model trained by one hospital on its own rows.
};

/// Works for any number of rounds and hospitals, none included.
std::string accuracy_svg(const AccuracyChart& chart);

/// What each node was doing. Times are seconds since the start of the run.
struct Timeline {
  struct Span {
    double begin = 0.0;
    double end = 0.0;
    fedagent::NodeActiveStatus status = fedagent::NodeActiveStatus::active;
  };
  struct Band {
    std::string name;
    std::vector<Span> spans;
  };
  /// Something that happened to a node, worth a sign above its band.
  struct Mark {
    std::size_t band = 0;
    double time = 0.0;
    std::string text;
  };

  double end = 0.0;
  std::vector<double> rounds;  ///< When each training round began.
  std::vector<Band> bands;
  std::vector<Mark> marks;
};

std::string timeline_svg(const Timeline& timeline);

}  // namespace federated
