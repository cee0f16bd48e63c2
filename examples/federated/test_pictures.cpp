#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "svg.hpp"
#include "table.hpp"
#include "test_support.hpp"

namespace {

using namespace federated;
using fedagent::NodeActiveStatus;
using federated::testing::complaint_of;

std::size_t count(const std::string& text, std::string_view part) {
  std::size_t found = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) {
    ++found;
  }
  return found;
}

/// Every element is closed, by itself or by its end, and nothing that is not a number was printed
/// as one.
void check_well_formed(const std::string& svg) {
  CHECK(svg.starts_with("<svg "));
  CHECK(svg.ends_with("</svg>\n"));
  CHECK(count(svg, "<") == count(svg, "/>") + 2 * count(svg, "</"));
  CHECK(count(svg, "\"") % 2 == 0);
  CHECK(count(svg, "nan") == 0);
  CHECK(count(svg, "inf") == 0);
}

}  // namespace

TEST_CASE("accuracy picture: a dot per round, the pooled line, a mark per hospital") {
  AccuracyChart chart;
  chart.rounds = {{0.9, true}, {0.92, false}, {0.95, true}};
  chart.pooled = 0.96;
  chart.alone = {{"hospital-1", 0.91}, {"hospital-2", 0.91}};
  const auto svg = accuracy_svg(chart);
  check_well_formed(svg);
  CHECK(count(svg, "<circle ") == 3 + 2);      // and two in the legend
  CHECK(count(svg, "stroke-dasharray") == 2);  // and one in the legend
  CHECK(count(svg, "hospital-1</text>") == 1);
  CHECK(count(svg, "95.0 % federated") == 1);
  CHECK(count(svg, "96.0 % pooled") == 1);
  CHECK(count(svg, ">88 %<") == 1);  // the axis begins at a tick below the lowest value
}

TEST_CASE("accuracy picture: nothing, one round, and values at both ends can be drawn") {
  check_well_formed(accuracy_svg({}));
  check_well_formed(accuracy_svg({{{1.0, true}}, 1.0, {}}));
  check_well_formed(accuracy_svg({{{0.0, true}, {1.0, true}}, 0.0, {{"x", 1.0}}}));
  check_well_formed(accuracy_svg({std::vector<AccuracyChart::Round>(1000), {}, {}}));
}

TEST_CASE("accuracy picture: labels of equal values do not overlap") {
  AccuracyChart chart;
  chart.alone.assign(8, {"same", 0.9501});
  const auto svg = accuracy_svg(chart);
  std::vector<double> heights;
  for (auto at = svg.find(" same</text>"); at != std::string::npos;
       at = svg.find(" same</text>", at + 1)) {
    heights.push_back(std::stod(svg.substr(svg.rfind(" y=\"", at) + 4)));
  }
  REQUIRE(heights.size() == 8);
  std::sort(heights.begin(), heights.end());
  for (std::size_t i = 1; i < heights.size(); ++i) {
    CHECK(heights[i] - heights[i - 1] > 13.0);
  }
}

TEST_CASE("timeline picture: a band per node, a line per round, names made harmless") {
  Timeline timeline;
  timeline.end = 3.0;
  timeline.rounds = {0.5, 1.5};
  timeline.bands = {{"a<b>&\"c\"\n",
                     {{0.0, 1.0, NodeActiveStatus::active},
                      {1.0, 2.0, NodeActiveStatus::waiting},
                      {2.0, 99.0, NodeActiveStatus::disconnected}}},
                    {"quiet", {}}};
  timeline.marks = {{0, 1.2, "killed"}};
  const auto svg = timeline_svg(timeline);
  check_well_formed(svg);
  CHECK(count(svg, "a&lt;b&gt;&amp;&quot;c&quot;?</text>") == 1);
  CHECK(count(svg, "quiet</text>") == 1);
  CHECK(count(svg, "▼ killed") == 1);
  CHECK(count(svg, "url(#hatched)") == 1 + 1);  // and one in the legend
  CHECK(count(svg, "ACTIVE: ") == 1);
  CHECK(count(svg, "font-size=\"11\"") == 2 + 1);  // the numbers of the rounds, and the word
}

TEST_CASE(
    "timeline picture: equal marks close together have one text, which stays in the picture") {
  Timeline timeline;
  timeline.end = 100.0;
  timeline.bands = {{"a", {}}, {"b", {}}};
  timeline.marks = {{1, 50.0, "late"}, {0, 50.5, "late"}, {1, 52.0, "back"},
                    {0, 51.0, "late"}, {0, 90.0, "late"}, {0, 99.5, "late"}};
  const auto svg = timeline_svg(timeline);
  check_well_formed(svg);
  CHECK(count(svg, "▼ late</text>") == 3);   // of b, and of a the second and the third
  CHECK(count(svg, ">▼</text>") == 1);       // the first of a: the second says what it is
  CHECK(count(svg, ">late ▼</text>") == 1);  // at the edge
  CHECK(count(svg, "▼ back</text>") == 1);
}

TEST_CASE("timeline picture: nothing, and a run of no length can be drawn") {
  check_well_formed(timeline_svg({}));
  Timeline timeline;
  timeline.bands = {{"a", {{0.0, 0.0, NodeActiveStatus::active}}}};
  check_well_formed(timeline_svg(timeline));
}

TEST_CASE("table: columns are as wide as their widest cell") {
  Table table({{"node"}, {"rows", Align::right}, {"note"}});
  table.add_row({"hospital-1", "26", ""});
  table.add_row({"h", "132", "straggler"});
  CHECK(table.text() ==
        "  node        rows  note\n"
        "  ----------  ----  ---------\n"
        "  hospital-1    26\n"
        "  h            132  straggler\n");
}

TEST_CASE("table: a row of another width is refused") {
  Table table({{"a"}, {"b"}});
  CHECK(complaint_of<std::invalid_argument>([&] { table.add_row({"1"}); }) ==
        "table: 1 cells for 2 columns");
}
