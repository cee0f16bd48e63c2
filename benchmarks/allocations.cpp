#include "allocations.hpp"

#include <malloc.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>

// The allocator of the GNU C library under its own names.
extern "C" {
void* __libc_malloc(std::size_t size);                           // NOLINT
void* __libc_calloc(std::size_t count, std::size_t size);        // NOLINT
void* __libc_realloc(void* memory, std::size_t size);            // NOLINT
void* __libc_memalign(std::size_t alignment, std::size_t size);  // NOLINT
void __libc_free(void* memory);                                  // NOLINT
}

namespace {

// One for each thread, so that counting costs no locked instruction.
constinit thread_local bench::Allocations counted{};

// A chunk is what the caller may use and one word before it.
std::uint64_t chunk(void* memory) noexcept { return malloc_usable_size(memory) + sizeof(void*); }

void* took(void* memory) noexcept {
  if (memory != nullptr) {
    ++counted.count;
    counted.taken += chunk(memory);
  }
  return memory;
}

void gives_back(void* memory) noexcept {
  if (memory != nullptr) {
    counted.given_back += chunk(memory);
  }
}

}  // namespace

bench::Allocations bench::Allocations::now() noexcept { return counted; }

std::size_t bench::resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  std::size_t pages = 0;
  statm >> pages >> pages;  // the second number
  return pages * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

// What stands here is found before the library's own, also by the libraries this program uses.
extern "C" {

void* malloc(std::size_t size) noexcept { return took(__libc_malloc(size)); }
void* calloc(std::size_t count, std::size_t size) noexcept {
  return took(__libc_calloc(count, size));
}
void* realloc(void* memory, std::size_t size) noexcept {
  gives_back(memory);
  return took(__libc_realloc(memory, size));
}
void* memalign(std::size_t alignment, std::size_t size) noexcept {
  return took(__libc_memalign(alignment, size));
}
void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  return took(__libc_memalign(alignment, size));
}
int posix_memalign(void** memory, std::size_t alignment, std::size_t size) noexcept {
  *memory = took(__libc_memalign(alignment, size));
  return *memory == nullptr ? ENOMEM : 0;
}
void free(void* memory) noexcept {
  gives_back(memory);
  __libc_free(memory);
}

}  // extern "C"
