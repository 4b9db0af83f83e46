#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "memory/guest_memory.h"

namespace doppel::boot {

/// Who gets which part of RAM below the PCI hole while a kernel is loaded. Nothing is ever placed over something else:
/// not over the first 192 KiB (the structures of platform_layout.h), nor over the EBDA, video memory and BIOS area.
/// Refers to the memory, which must outlive it.
class RamPlan {
 public:
  explicit RamPlan(memory::GuestMemory& memory);

  /// Takes [start, start + size). The error names `what` and says whether RAM or room is missing.
  Result<void> claim(memory::GuestPhysical start, std::uint64_t size, std::string_view what);

  /// Takes `size` bytes at the highest free address such that all of them are at or below `last`; `alignment` is a
  /// power of two.
  Result<memory::GuestPhysical> claim_high(std::uint64_t size, std::uint64_t alignment, memory::GuestPhysical last,
                                           std::string_view what);

  /// Places one file page-aligned and as high as possible, and copies it in.
  Result<memory::GuestPhysical> place_file(std::span<const std::byte> bytes, memory::GuestPhysical last,
                                           std::string_view what);

  /// One past the last address a loader may use.
  memory::GuestPhysical end() const { return end_; }
  memory::GuestMemory& memory() { return memory_; }

 private:
  struct Range {
    memory::GuestPhysical start;
    memory::GuestPhysical end;
    std::string what;
  };
  const Range* overlapping(memory::GuestPhysical start, memory::GuestPhysical end) const;

  memory::GuestMemory& memory_;
  memory::GuestPhysical end_;
  std::vector<Range> taken_;
};

/// Fills a range of RAM with zeros. Whole pages are given back to the host, not touched: looking at one would take it.
void zero_ram(memory::GuestMemory& memory, memory::GuestPhysical start, std::uint64_t size);

/// "64 MiB", "1536 KiB": sizes as error messages give them.
std::string human_size(std::uint64_t bytes);

}  // namespace doppel::boot
