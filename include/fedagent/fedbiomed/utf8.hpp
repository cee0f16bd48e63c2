#pragma once

#include <cstddef>
#include <string_view>

namespace fedagent::fedbiomed {

/// Whether the text is UTF-8: no overlong form, no surrogate, nothing above U+10FFFF.
constexpr bool is_utf8(std::string_view text) noexcept {
  std::size_t at = 0;
  while (at < text.size()) {
    const auto first = static_cast<unsigned char>(text[at++]);
    if (first < 0x80) {
      continue;
    }
    if (first < 0xc2 || first > 0xf4) {
      return false;
    }
    const std::size_t more = first < 0xe0 ? 1U : first < 0xf0 ? 2U : 3U;
    if (text.size() - at < more) {
      return false;
    }
    // What the second byte may be follows from the first one; the others are free.
    unsigned least = 0x80;
    unsigned most = 0xbf;
    if (first == 0xe0) {
      least = 0xa0;
    } else if (first == 0xed) {
      most = 0x9f;
    } else if (first == 0xf0) {
      least = 0x90;
    } else if (first == 0xf4) {
      most = 0x8f;
    }
    for (std::size_t i = 0; i < more; ++i) {
      const auto next = static_cast<unsigned char>(text[at++]);
      if (next < least || next > most) {
        return false;
      }
      least = 0x80;
      most = 0xbf;
    }
  }
  return true;
}

}  // namespace fedagent::fedbiomed
