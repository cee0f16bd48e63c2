#include "file.hpp"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <stdexcept>

#include <fmt/core.h>

namespace federated {

void write_file(const std::string& path, std::string_view text) {
  errno = 0;
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(text.data(), static_cast<std::streamsize>(text.size()));
  file.close();  // only now is it certain that the disk took everything
  if (!file) {
    throw std::runtime_error(fmt::format("{}: cannot be written: {}", path,
                                         errno != 0 ? std::strerror(errno) : "unknown error"));
  }
}

}  // namespace federated
