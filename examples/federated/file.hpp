// Writes a whole text file.
#pragma once

#include <string>
#include <string_view>

namespace federated {

/// Writes `text` to `path`, replacing what was there. Throws std::runtime_error that names the path
/// and the reason.
void write_file(const std::string& path, std::string_view text);

}  // namespace federated
