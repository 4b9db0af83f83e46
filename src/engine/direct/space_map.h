#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "engine/direct/process.h"
#include "memory/guest_memory.h"
#include "x86/tlb.h"

namespace doppel::engine::direct {

/// Which pages of a guest's address space a process has mapped, and how: a TLB whose entries are pages of the host's.
/// The vCPU's thread.
class SpaceMap {
 public:
  explicit SpaceMap(Process& process) : process_(process) {}

  /// Whether a page can be mapped where the guest has it.
  bool mappable(x86::LinearAddress page) const;
  bool has(x86::LinearAddress page, bool writable) const;
  /// A run of pages, adjacent in memory too. Replaces what was there.
  void map(x86::LinearAddress first, std::uint64_t pages, std::uint64_t memory_page, bool writable);
  void drop(x86::LinearAddress first, std::uint64_t bytes);
  /// The right to write to a page of memory, wherever it is mapped.
  void drop_writes(std::uint64_t memory_page);
  void drop_all();
  /// Keeps what `still(linear page, memory page, writable)` is true of.
  template <class Still>
  void revalidate(Still still) {
    std::vector<x86::LinearAddress> gone;
    for (const auto& [linear, page] : pages_) {
      if (!still(linear, page.memory_page, page.writable)) gone.push_back(linear);
    }
    for (const x86::LinearAddress linear : gone) drop(linear, memory::kPageSize);
  }
  std::size_t size() const { return pages_.size(); }

 private:
  struct Page {
    std::uint64_t memory_page;
    bool writable;
  };
  bool forget(x86::LinearAddress page);
  void forget_name(std::uint64_t memory_page, x86::LinearAddress linear);

  Process& process_;
  std::unordered_map<x86::LinearAddress, Page> pages_;
  std::unordered_multimap<std::uint64_t, x86::LinearAddress> writable_;  ///< by memory page
};

}  // namespace doppel::engine::direct
