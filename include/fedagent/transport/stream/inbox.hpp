#pragma once

#include <algorithm>
#include <boost/asio/basic_stream_socket.hpp>
#include <boost/asio/buffer.hpp>
#include <cstddef>
#include <memory>
#include <string_view>
#include <vector>

namespace fedagent::stream::detail {

/// Whether a stream is a socket itself, which can be waited for and then be read at once.
template <class Stream>
inline constexpr bool is_socket = false;
template <class Protocol, class Executor>
inline constexpr bool is_socket<boost::asio::basic_stream_socket<Protocol, Executor>> = true;

/// Where sockets are read to, or small frames joined; all of a context share it.
class SharedSpace {
 public:
  static constexpr std::size_t size = std::size_t{16} << 10U;

  boost::asio::mutable_buffer get() {
    bytes_.resize(size);
    return boost::asio::buffer(bytes_);
  }

 private:
  std::vector<char> bytes_;
};

/// What a connection has read ahead of its reader, so that many small frames take one read.
/**
 * Only sockets are read ahead, and to the shared space, so that an idle connection needs none of
 * its own. What is left there must be taken, or `keep`t, before the reader waits for anything.
 */
class Inbox {
 public:
  bool empty() const noexcept { return bytes_.empty(); }
  std::size_t size() const noexcept { return bytes_.size(); }
  std::string_view bytes() const noexcept { return bytes_; }

  /// Moves what there is into the spaces, and their beginnings along. @return Whether all are full.
  template <class Spaces>
  bool fill(Spaces& spaces) noexcept {
    for (auto& space : spaces) {
      const auto size = std::min(space.size(), bytes_.size());
      std::copy_n(bytes_.data(), size, static_cast<char*>(space.data()));
      bytes_.remove_prefix(size);
      space += size;
      if (space.size() > 0) {
        return false;
      }
    }
    return true;
  }

  /// So many bytes were read to the beginning of the shared space. @pre It is empty.
  void came(boost::asio::mutable_buffer space, std::size_t size) noexcept {
    kept_.reset();
    bytes_ = {static_cast<const char*>(space.data()), size};
  }
  /// Copies what is left in the shared space.
  void keep() {
    if (!bytes_.empty() && !kept_) {
      kept_ = std::make_unique_for_overwrite<char[]>(bytes_.size());
      bytes_ = {kept_.get(), bytes_.copy(kept_.get(), bytes_.size())};
    }
  }

 private:
  std::string_view bytes_;
  std::unique_ptr<char[]> kept_;
};

}  // namespace fedagent::stream::detail
