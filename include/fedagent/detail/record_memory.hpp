#pragma once

#include <array>
#include <boost/smart_ptr/intrusive_ref_counter.hpp>
#include <cstddef>
#include <new>

namespace fedagent::detail {

/// Memory of records that have ended, kept for the next ones: a bounded part of each size.
/**
 * So a store that sends and gets replies at a steady pace allocates nothing for it. Records hold
 * it: one may outlive its agent in a `Task`.
 */
class RecordMemory
    : public boost::intrusive_ref_counter<RecordMemory, boost::thread_unsafe_counter> {
 public:
  RecordMemory() = default;
  RecordMemory(const RecordMemory&) = delete;
  RecordMemory& operator=(const RecordMemory&) = delete;
  ~RecordMemory() {
    for (auto& kept : kept_) {
      while (kept.first != nullptr) {
        ::operator delete(kept.pop());
      }
    }
  }

  void* take(std::size_t size) {
    const auto index = (size - 1) / step;
    if (index < kept_.size() && kept_[index].first != nullptr) {
      return kept_[index].pop();
    }
    return ::operator new((index + 1) * step);
  }

  /// @param size As it was taken.
  void give_back(void* memory, std::size_t size) noexcept {
    const auto index = (size - 1) / step;
    if (index < kept_.size() && kept_[index].count < most_kept) {
      kept_[index].push(memory);
    } else {
      ::operator delete(memory);
    }
  }

  /// How many pieces for this size there are.
  std::size_t kept(std::size_t size) const noexcept {
    const auto index = (size - 1) / step;
    return index < kept_.size() ? kept_[index].count : 0;
  }

 private:
  /// Sizes are rounded up to a multiple of this; what is larger than all of them is not kept.
  static constexpr std::size_t step = 32;
  static constexpr std::size_t sizes = 16;
  static constexpr std::size_t most_kept = 1024;

  struct Free {
    Free* next;
  };
  struct Kept {
    void push(void* memory) noexcept {
      first = ::new (memory) Free{first};
      ++count;
    }
    void* pop() noexcept {
      Free* const popped = first;
      first = popped->next;
      --count;
      return popped;
    }

    Free* first = nullptr;
    std::size_t count = 0;
  };

  std::array<Kept, sizes> kept_{};
};

}  // namespace fedagent::detail
