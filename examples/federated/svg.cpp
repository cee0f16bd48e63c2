#include "svg.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <string_view>
#include <utility>

namespace federated {

namespace {

using fedagent::NodeActiveStatus;

// From the palette of Okabe and Ito, which people with any kind of colour vision can tell apart.
// What the colours say is also said by shape: dashes, diamonds, the height of a band, hatching.
constexpr std::string_view blue = "#0072B2";
constexpr std::string_view sky = "#56B4E9";
constexpr std::string_view orange = "#E69F00";
constexpr std::string_view vermillion = "#D55E00";
constexpr std::string_view green = "#009E73";
constexpr std::string_view ink = "#222222";
constexpr std::string_view quiet = "#666666";
constexpr std::string_view faint = "#DDDDDD";

/// Names of nodes come from outside; they must not become markup.
std::string escaped(std::string_view text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      default:
        // XML 1.0 knows no control characters, not even escaped.
        result += static_cast<unsigned char>(c) < 0x20 ? '?' : c;
    }
  }
  return result;
}

struct Point {
  double x = 0.0;
  double y = 0.0;
};

/// A drawing, element after element.
class Canvas {
 public:
  Canvas(double width, double height, std::string_view title) {
    text_ = fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0:.0f} {1:.0f}\" "
        "width=\"{0:.0f}\" "
        "height=\"{1:.0f}\" font-family=\"Helvetica, Arial, 'DejaVu Sans', sans-serif\" "
        "font-size=\"13\" "
        "role=\"img\">\n<title>{2}</title>\n<rect width=\"100%\" height=\"100%\" "
        "fill=\"white\"/>\n",
        width, height, escaped(title));
    text({24, 32}, title, "font-size=\"18\" font-weight=\"bold\"");
  }

  void raw(std::string_view element) {
    text_ += element;
    text_ += '\n';
  }
  void text(Point at, std::string_view words, std::string_view style = "") {
    raw(fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" fill=\"{}\" {}>{}</text>", at.x, at.y, ink,
                    style, escaped(words)));
  }
  void line(Point from, Point to, std::string_view colour, std::string_view style = "") {
    raw(fmt::format(
        "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\" {}/>", from.x,
        from.y, to.x, to.y, colour, style));
  }
  void rectangle(Point corner, Point size, std::string_view fill, std::string_view style = "") {
    raw(fmt::format(
        "<rect x=\"{:.2f}\" y=\"{:.1f}\" width=\"{:.2f}\" height=\"{:.1f}\" fill=\"{}\" {}/>",
        corner.x, corner.y, size.x, size.y, fill, style));
  }
  void dot(Point at, bool filled) {
    raw(
        fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3.6\" fill=\"{}\" stroke=\"{}\" "
                    "stroke-width=\"1.8\"/>",
                    at.x, at.y, filled ? blue : "white", blue));
  }
  void diamond(Point at, std::string_view colour) {
    raw(fmt::format("<path d=\"M{:.1f} {:.1f}l6 6l-6 6l-6 -6z\" fill=\"{}\"/>", at.x, at.y - 6,
                    colour));
  }

  std::string finish() && {
    text_ += "</svg>\n";
    return std::move(text_);
  }

 private:
  std::string text_;
};

/// A straight line from numbers to places on the paper.
struct Axis {
  double from = 0.0, to = 1.0;       // numbers
  double begin = 0.0, finish = 1.0;  // places

  double operator()(double number) const {
    return begin + (number - from) / (to - from) * (finish - begin);
  }
};

/// A step of 1, 2 or 5 times a power of ten that cuts `length` into at most `pieces`.
double tick_step(double length, double pieces) {
  const double rough = length / pieces;
  const double power = std::pow(10.0, std::floor(std::log10(rough)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= rough * 0.999) {
      return factor * power;
    }
  }
  return 10.0 * power;
}

/// Ticks are counted, not summed up: 0.1 added ten times is not 1.
template <class Draw>
void for_each_tick(double from, double to, double step, Draw draw) {
  const auto first = static_cast<long>(std::ceil(from / step - 1e-6));
  const auto last = static_cast<long>(std::floor(to / step + 1e-6));
  for (long i = first; i <= last; ++i) {
    draw(static_cast<double>(i) * step);
  }
}

/// Moves labels apart that would overlap, and keeps them between `top` and `bottom` when there is
/// room.
void spread(std::vector<double>& places, double distance, double top, double bottom) {
  std::vector<std::size_t> order(places.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](auto a, auto b) { return places[a] < places[b]; });
  double least = top;
  for (const auto i : order) {
    places[i] = std::max(places[i], least);
    least = places[i] + distance;
  }
  double most = bottom;
  std::reverse(order.begin(), order.end());
  for (const auto i : order) {
    places[i] = std::min(places[i], most);
    most = places[i] - distance;
  }
}

std::string percent(double share) { return fmt::format("{:.1f} %", 100.0 * share); }

double lowest_accuracy(const AccuracyChart& chart) {
  double lowest = chart.pooled.value_or(1.0);
  for (const auto& round : chart.rounds) {
    lowest = std::min(lowest, round.accuracy);
  }
  for (const auto& alone : chart.alone) {
    lowest = std::min(lowest, alone.accuracy);
  }
  return lowest;
}

struct Frame {
  double left, top, right, bottom;
};

void draw_accuracy_axes(Canvas& canvas, const Frame& frame, const Axis& x, const Axis& y,
                        double step) {
  for_each_tick(y.from, y.to, step, [&](double share) {
    canvas.line({frame.left, y(share)}, {frame.right, y(share)}, faint);
    canvas.text({frame.left - 8, y(share) + 4}, fmt::format("{:.6g} %", 100.0 * share),
                "text-anchor=\"end\"");
  });
  // Whole rounds only: the step is not less than 1.
  for_each_tick(1.0, x.to, std::max(1.0, tick_step(x.to - 1.0, 8)), [&](double round) {
    canvas.line({x(round), frame.bottom}, {x(round), frame.bottom + 5}, quiet);
    canvas.text({x(round), frame.bottom + 20}, fmt::format("{:.0f}", round),
                "text-anchor=\"middle\"");
  });
  canvas.line({frame.left, frame.top}, {frame.left, frame.bottom}, quiet);
  canvas.line({frame.left, frame.bottom}, {frame.right, frame.bottom}, quiet);
  canvas.text({(frame.left + frame.right) / 2, frame.bottom + 42}, "round",
              "text-anchor=\"middle\"");
  const double middle = (frame.top + frame.bottom) / 2;
  canvas.text({20, middle}, "accuracy on the test rows",
              fmt::format("text-anchor=\"middle\" transform=\"rotate(-90 20 {:.1f})\"", middle));
}

void draw_accuracy_legend(Canvas& canvas, const AccuracyChart& chart) {
  constexpr double y = 58;
  canvas.line({24, y}, {54, y}, blue, "stroke-width=\"2.4\"");
  canvas.dot({39, y}, true);
  canvas.text({62, y + 4}, "federated");
  canvas.dot({150, y}, false);
  canvas.text({162, y + 4}, "a node was missing");
  if (chart.pooled) {
    canvas.line({300, y}, {332, y}, vermillion, "stroke-width=\"2.4\" stroke-dasharray=\"8 5\"");
    canvas.text({340, y + 4}, "all rows pooled in one place");
  }
  if (!chart.alone.empty()) {
    canvas.diamond({545, y}, green);
    canvas.text({558, y + 4}, "one hospital alone");
  }
}

// The end values: written at the right edge, moved apart where they would overlap, and tied to
// their place by a line.
void draw_end_values(Canvas& canvas, const AccuracyChart& chart, const Frame& frame,
                     const Axis& y) {
  struct Label {
    double value;
    std::string words;
    std::string_view colour;
    bool diamond;
  };
  std::vector<Label> labels;
  if (!chart.rounds.empty()) {
    labels.push_back({chart.rounds.back().accuracy, "federated", blue, false});
  }
  if (chart.pooled) {
    labels.push_back({*chart.pooled, "pooled", vermillion, false});
  }
  for (const auto& alone : chart.alone) {
    labels.push_back({alone.accuracy, alone.name, green, true});
  }

  std::vector<double> places;
  places.reserve(labels.size());
  for (const auto& label : labels) {
    places.push_back(y(label.value));
  }
  spread(places, 18, frame.top, frame.bottom);
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const auto& label = labels[i];
    const double text_x = frame.right + 44;
    canvas.line({frame.right + 14, y(label.value)}, {text_x - 5, places[i]}, label.colour);
    if (label.diamond) {
      canvas.diamond({frame.right + 14, y(label.value)}, label.colour);
    }
    canvas.text({text_x, places[i] + 4}, fmt::format("{} {}", percent(label.value), label.words),
                label.diamond ? "" : "font-weight=\"bold\"");
  }
}

// How a status looks: a poll is open (full band), the node is at work or lost (half), it is given
// up (hatched).
struct Look {
  NodeActiveStatus status;
  std::string_view fill;
  double height;  // share of the band
  std::string_view meaning;
};
constexpr std::array<Look, 3> looks = {{
    {NodeActiveStatus::active, sky, 1.0, "ACTIVE: waits for a task"},
    {NodeActiveStatus::waiting, orange, 0.55, "WAITING: has a task, or was just lost"},
    {NodeActiveStatus::disconnected, "url(#hatched)", 1.0, "DISCONNECTED: given up for now"},
}};

const Look& look_of(NodeActiveStatus status) {
  const auto* const found = std::find_if(
      looks.begin(), looks.end(), [status](const Look& look) { return look.status == status; });
  return found != looks.end() ? *found : looks.back();
}

void draw_status(Canvas& canvas, NodeActiveStatus status, Point corner, Point size) {
  const auto& look = look_of(status);
  const double height = size.y * look.height;
  const bool hatched = status == NodeActiveStatus::disconnected;
  canvas.rectangle({corner.x, corner.y + size.y - height}, {size.x, height}, look.fill,
                   hatched ? "stroke=\"#444444\" stroke-width=\"0.8\"" : "");
}

void draw_timeline_legend(Canvas& canvas, bool with_marks) {
  double x = 24;
  for (const auto& look : looks) {
    draw_status(canvas, look.status, {x, 48}, {26, 18});
    canvas.text({x + 34, 62}, look.meaning);
    x += 52 + 7.1 * static_cast<double>(look.meaning.size());
  }
  if (with_marks) {
    canvas.text({x, 62}, "▼ event");
  }
}

constexpr double band_height = 26;
constexpr double band_pitch = 54;

void draw_rounds(Canvas& canvas, const Timeline& timeline, const Frame& frame, const Axis& x) {
  double free_from = frame.left - 30;  // numbers that would overlap are left out
  for (std::size_t i = 0; i < timeline.rounds.size(); ++i) {
    const double place = x(timeline.rounds[i]);
    canvas.line({place, frame.top - 6}, {place, frame.bottom}, "#999999", "stroke-width=\"0.7\"");
    if (place >= free_from) {
      canvas.text({place + 2, frame.top - 10}, fmt::format("{}", i + 1),
                  fmt::format("font-size=\"11\" style=\"fill:{}\"", quiet));
      free_from = place + 20;
    }
  }
  if (!timeline.rounds.empty()) {
    canvas.text({frame.left - 12, frame.top - 10}, "round", "text-anchor=\"end\" font-size=\"11\"");
  }
}

// Equal marks that are close together have one text; at the right edge it is left of the sign.
void draw_marks(Canvas& canvas, const Timeline& timeline, const Frame& frame, const Axis& x) {
  auto marks = timeline.marks;
  std::stable_sort(marks.begin(), marks.end(), [](const auto& one, const auto& other) {
    return std::pair(one.band, one.time) < std::pair(other.band, other.time);
  });
  for (std::size_t i = 0; i < marks.size(); ++i) {
    const auto& mark = marks[i];
    const Point at{x(mark.time), frame.top + 17 + band_pitch * static_cast<double>(mark.band)};
    const double width = 20 + 7.5 * static_cast<double>(mark.text.size());
    const bool same_follows = i + 1 < marks.size() && marks[i + 1].band == mark.band &&
                              marks[i + 1].text == mark.text && x(marks[i + 1].time) < at.x + width;
    constexpr std::string_view style = "font-size=\"12\" font-weight=\"bold\"";
    if (same_follows) {
      canvas.text({at.x - 5, at.y}, "▼", style);
    } else if (at.x + width > frame.right) {
      canvas.text({at.x + 5, at.y}, fmt::format("{} ▼", mark.text),
                  fmt::format("{} text-anchor=\"end\"", style));
    } else {
      canvas.text({at.x - 5, at.y}, fmt::format("▼ {}", mark.text), style);
    }
  }
}

void draw_seconds(Canvas& canvas, const Timeline& timeline, const Frame& frame, const Axis& x) {
  canvas.line({frame.left, frame.bottom}, {frame.right, frame.bottom}, quiet);
  for_each_tick(0.0, timeline.end, tick_step(x.to, 10), [&](double second) {
    canvas.line({x(second), frame.bottom}, {x(second), frame.bottom + 5}, quiet);
    canvas.text({x(second), frame.bottom + 20}, fmt::format("{:.6g}", second),
                "text-anchor=\"middle\"");
  });
  canvas.text({(frame.left + frame.right) / 2, frame.bottom + 40}, "seconds since the start",
              "text-anchor=\"middle\"");
}

}  // namespace

std::string accuracy_svg(const AccuracyChart& chart) {
  constexpr Frame frame{86, 84, 690, 440};
  // From a tick below everything up to 100 %; a range of less than 5 points would show mere noise.
  const double lowest = std::clamp(lowest_accuracy(chart) - 0.005, 0.0, 0.95);
  const double step = tick_step(1.0 - lowest, 8);
  const double bottom = std::max(0.0, std::floor(lowest / step + 1e-6) * step);
  const auto rounds = static_cast<double>(std::max<std::size_t>(chart.rounds.size(), 2));
  const Axis x{1.0, rounds, frame.left + 12, frame.right - 8};
  const Axis y{bottom, 1.0, frame.bottom, frame.top};

  Canvas canvas(900, 500, "Accuracy of the federated model, round by round");
  draw_accuracy_axes(canvas, frame, x, y, step);
  draw_accuracy_legend(canvas, chart);
  if (chart.pooled) {
    canvas.line({frame.left, y(*chart.pooled)}, {frame.right + 14, y(*chart.pooled)}, vermillion,
                "stroke-width=\"2.4\" stroke-dasharray=\"8 5\"");
  }
  std::string path;
  for (std::size_t i = 0; i < chart.rounds.size(); ++i) {
    path +=
        fmt::format("{:.1f},{:.1f} ", x(static_cast<double>(i + 1)), y(chart.rounds[i].accuracy));
  }
  canvas.raw(fmt::format(
      "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2.4\"/>", path, blue));
  for (std::size_t i = 0; i < chart.rounds.size(); ++i) {
    canvas.dot({x(static_cast<double>(i + 1)), y(chart.rounds[i].accuracy)},
               chart.rounds[i].all_answered);
  }
  draw_end_values(canvas, chart, frame, y);
  return std::move(canvas).finish();
}

std::string timeline_svg(const Timeline& timeline) {
  const double bottom = 112 + band_pitch * static_cast<double>(timeline.bands.size());
  const Frame frame{120, 108, 1160, bottom};
  const Axis x{0.0, timeline.end > 0.0 ? timeline.end : 1.0, frame.left, frame.right};

  Canvas canvas(1190, bottom + 56, "Status of every node during the run");
  canvas.raw(
      "<defs><pattern id=\"hatched\" width=\"7\" height=\"7\" patternUnits=\"userSpaceOnUse\" "
      "patternTransform=\"rotate(45)\"><rect width=\"7\" height=\"7\" fill=\"#FFFFFF\"/>"
      "<rect width=\"3\" height=\"7\" fill=\"#444444\"/></pattern></defs>");
  draw_timeline_legend(canvas, !timeline.marks.empty());
  for (std::size_t i = 0; i < timeline.bands.size(); ++i) {
    const auto& band = timeline.bands[i];
    const double top = frame.top + 20 + band_pitch * static_cast<double>(i);
    canvas.text({frame.left - 12, top + 18}, band.name, "text-anchor=\"end\"");
    for (const auto& span : band.spans) {
      const double begin = x(std::clamp(span.begin, 0.0, x.to));
      const double end = x(std::clamp(span.end, 0.0, x.to));
      draw_status(canvas, span.status, {begin, top}, {end - begin, band_height});
    }
    canvas.line({frame.left, top + band_height}, {frame.right, top + band_height}, "#BBBBBB",
                "stroke-width=\"0.7\"");
  }
  draw_rounds(canvas, timeline, frame, x);
  draw_marks(canvas, timeline, frame, x);
  draw_seconds(canvas, timeline, frame, x);
  return std::move(canvas).finish();
}

}  // namespace federated
