#include "arguments.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <utility>

namespace federated {

namespace {

template <class Number>
Number number_from(std::string_view text, std::string_view kind, Number least, Number most) {
  Number number{};
  const auto* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  // Written so that "nan" is out of range too.
  if (error != std::errc{} || stop != end || !(number >= least && number <= most)) {
    throw ArgumentError(
        fmt::format("{} from {} to {} expected, found '{}'", kind, least, most, text));
  }
  return number;
}

}  // namespace

Endpoint endpoint_from(std::string_view text) {
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos) {
    throw ArgumentError(fmt::format("HOST:PORT expected, found '{}'", text));
  }
  auto host = text.substr(0, colon);
  if (host.starts_with('[') && host.ends_with(']')) {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    throw ArgumentError(fmt::format("an IPv6 address is written [ADDRESS]:PORT, found '{}'", text));
  }
  if (host.empty()) {
    throw ArgumentError(fmt::format("a host before the colon expected, found '{}'", text));
  }
  return {std::string(host),
          number_from<std::uint16_t>(text.substr(colon + 1), "a port", 0, 65535)};
}

bool plain_node_id(std::string_view id) {
  constexpr std::string_view plain =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
  return !id.empty() && id.size() <= 64 && id.find_first_not_of(plain) == std::string_view::npos;
}

Arguments::Arguments(std::string program, std::string purpose)
    : program_(std::move(program)), purpose_(std::move(purpose)) {}

void Arguments::add(Option option) { options_.push_back(std::move(option)); }

void Arguments::add(std::string name, std::string value, std::string meaning, std::string& target) {
  add({std::move(name), std::move(value), std::move(meaning), target,
       [&target](std::string_view text) {
         if (text.empty()) {
           throw ArgumentError("a value that is not empty expected");
         }
         target = text;
       }});
}

void Arguments::add(std::string name, std::string value, std::string meaning, Endpoint& target) {
  add({std::move(name), std::move(value), std::move(meaning),
       target.host.empty() ? "" : fmt::format("{}:{}", target.host, target.port),
       [&target](std::string_view text) { target = endpoint_from(text); }});
}

void Arguments::add(std::string name, std::string value, std::string meaning, std::uint64_t& target,
                    std::uint64_t least, std::uint64_t most) {
  add({std::move(name), std::move(value), std::move(meaning), fmt::format("{}", target),
       [&target, least, most](std::string_view text) {
         target = number_from<std::uint64_t>(text, "a whole number", least, most);
       }});
}

void Arguments::add(std::string name, std::string value, std::string meaning,
                    std::chrono::milliseconds& seconds, double least, double most) {
  add({std::move(name), std::move(value), std::move(meaning),
       fmt::format("{}", static_cast<double>(seconds.count()) / 1000.0),
       [&seconds, least, most](std::string_view text) {
         const double number = number_from<double>(text, "seconds", least, most);
         seconds = std::chrono::milliseconds(std::llround(number * 1000.0));
       }});
}

void Arguments::required() { options_.back().required = true; }

Arguments::Option& Arguments::find(std::string_view name) {
  const auto found = std::find_if(options_.begin(), options_.end(),
                                  [name](const Option& option) { return option.name == name; });
  if (found == options_.end()) {
    throw ArgumentError(fmt::format("there is no option {}; {} --help lists them", name, program_));
  }
  return *found;
}

bool Arguments::parse(const std::vector<std::string>& words) {
  for (auto& option : options_) {
    option.given = false;
  }
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string_view word = words[i];
    if (word == "--help" || word == "-h") {
      return false;
    }
    if (!word.starts_with("--")) {
      throw ArgumentError(
          fmt::format("an option expected, found '{}'; {} --help lists them", word, program_));
    }
    const auto equals = word.find('=');
    auto& option = find(word.substr(0, equals));
    if (std::exchange(option.given, true)) {
      throw ArgumentError(fmt::format("{} was given twice", option.name));
    }
    if (equals == std::string_view::npos && i + 1 == words.size()) {
      throw ArgumentError(fmt::format("{} needs a value: {}", option.name, option.value));
    }
    try {
      option.set(equals == std::string_view::npos ? words[++i] : word.substr(equals + 1));
    } catch (const ArgumentError& error) {
      throw ArgumentError(fmt::format("{}: {}", option.name, error.what()));
    }
  }
  for (const auto& option : options_) {
    if (option.required && !option.given) {
      throw ArgumentError(
          fmt::format("{} {} is needed; {} --help says more", option.name, option.value, program_));
    }
  }
  return true;
}

std::string Arguments::help() const {
  std::string text = fmt::format("{}: {}\n\n", program_, purpose_);
  for (const auto& option : options_) {
    text += fmt::format("  {} {}\n      {}", option.name, option.value, option.meaning);
    if (option.required) {
      text += " (needed)";
    } else if (!option.standard.empty()) {
      text += fmt::format(" (default: {})", option.standard);
    }
    text += '\n';
  }
  return text + "  --help\n      This text.\n";
}

int guarded_main(std::string_view program, int argc, char** argv,
                 const std::function<int(const std::vector<std::string>&)>& run) {
  std::setvbuf(stdout, nullptr, _IOLBF, BUFSIZ);
  try {
    return run(std::vector<std::string>(argv + std::min(argc, 1), argv + argc));
  } catch (const ArgumentError& error) {
    fmt::print(stderr, "{}: {}\n", program, error.what());
    return 2;
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}: {}\n", program, error.what());
    return 1;
  }
}

}  // namespace federated
