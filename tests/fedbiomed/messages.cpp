// For test_agree.py. Without arguments: prints an example of every class as a line of JSON. With
// `decode`: reads messages in hex, a line each, and prints `well` or what is wrong with each. With
// `wire`: reads the name and the bytes of a protobuf message in each line, and prints them anew.

#include <iostream>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>

#include "fedagent/fedbiomed/wire.hpp"
#include "fedbiomed/examples.hpp"
#include "fedbiomed/hex.hpp"

namespace fedbiomed = fedagent::fedbiomed;
using fedbiomed::Head;
using fedbiomed::Message;
using fedbiomed::Version;

namespace {

void print_examples() {
  for (const auto version : {Version::v5, Version::v7}) {
    examples::for_each([&](const auto& body) {
      if (const auto message = fedbiomed::encode(Head{"R", "q1", version}, body)) {
        const fedbiomed::Json line{{"class", message->type()},
                                   {"version", to_string(version)},
                                   {"hex", support::to_hex(message->bytes())}};
        std::cout << line.dump() << '\n';
      }
    });
  }
}

std::string verdict_of(const std::string& bytes) {
  const auto message = Message::parse(bytes);
  if (!message) {
    return message.error().message();
  }
  std::string verdict = make_error_code(fedbiomed::errc::unknown_class).message();
  std::apply(
      [&]<class... Class>(const Class&...) {
        const auto try_one = [&]<class C>(std::type_identity<C>) {
          std::string_view fault;
          if (message->type() == C::message_class) {
            const auto body = fedbiomed::decode<C>(*message, &fault);
            verdict = body ? "well" : body.error().message() + ": " + std::string(fault);
          }
        };
        (try_one(std::type_identity<Class>{}), ...);
      },
      examples::full());
  return verdict;
}

template <class T>
std::string anew(const boost::system::result<T>& decoded) {
  return decoded ? support::to_hex(encode(*decoded)) : "bad";
}

std::string wire_anew(std::string_view name, const std::string& bytes) {
  if (name == "TaskRequest") {
    return anew(fedbiomed::decode_task_request(bytes));
  }
  if (name == "TaskResponse") {
    return anew(fedbiomed::decode_chunk(bytes));
  }
  return anew(fedbiomed::decode_feedback(bytes));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    print_examples();
    return 0;
  }
  const bool wire = std::string_view(argv[1]) == "wire";
  for (std::string line; std::getline(std::cin, line);) {
    const auto space = line.find(' ');
    std::cout << (wire ? wire_anew(line.substr(0, space), support::from_hex(line.substr(space + 1)))
                       : verdict_of(support::from_hex(line)))
              << '\n';
  }
}
