// The command line of the programs: strict, with a help text made from what the program declares.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace federated {

/// A command line that cannot be understood. The text names the option and what was wrong with it.
class ArgumentError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Where to listen or to connect to.
struct Endpoint {
  std::string host;
  std::uint16_t port = 0;
};

/// Reads `HOST:PORT` or `[HOST]:PORT`. Throws ArgumentError.
Endpoint endpoint_from(std::string_view text);

/// Whether an id is made of up to 64 letters, digits and `. _ -`.
/** Ids come from the network and go to the terminal and into pictures: no others are admitted. */
bool plain_node_id(std::string_view id);

/// The options of a program, each bound to a variable whose value at that moment is the default.
class Arguments {
 public:
  Arguments(std::string program, std::string purpose);

  // `meaning` is the help text, `value` the word for the value in it. The variables must outlive
  // this object.
  void add(std::string name, std::string value, std::string meaning, std::string& target);
  void add(std::string name, std::string value, std::string meaning, Endpoint& target);
  void add(std::string name, std::string value, std::string meaning, std::uint64_t& target,
           std::uint64_t least, std::uint64_t most);
  void add(std::string name, std::string value, std::string meaning,
           std::chrono::milliseconds& seconds, double least, double most);

  /// The option that was added last has no default: it must be given.
  void required();

  /// Reads `--name value` and `--name=value`, each option at most once.
  /** @return Whether the program is to run; false when it was asked for its help, which is then in
   * help(). */
  bool parse(const std::vector<std::string>& words);

  std::string help() const;

 private:
  struct Option {
    std::string name;
    std::string value;
    std::string meaning;
    std::string standard;
    std::function<void(std::string_view)> set;
    bool required = false;
    bool given = false;
  };

  void add(Option option);
  Option& find(std::string_view name);

  std::string program_;
  std::string purpose_;
  std::vector<Option> options_;
};

/// The main() of a program around its `run`: what it throws becomes a line on stderr and an exit
/// status.
/**
 * 2: the command line was not understood. 1: anything else went wrong. Otherwise what `run`
 * returns. Lines reach whoever reads our output at once, also through a pipe.
 */
int guarded_main(std::string_view program, int argc, char** argv,
                 const std::function<int(const std::vector<std::string>&)>& run);

}  // namespace federated
