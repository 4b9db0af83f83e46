#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "boot/options.h"
#include "boot/ram_plan.h"

namespace doppel::boot {

struct PlacedModule {
  std::uint32_t start = 0;
  std::uint32_t size = 0;
  std::string command_line;
};

/// Puts the initial RAM file system (its parts joined, as one module without a command line) and the modules into
/// memory, each on pages of its own. The kernel's range must have been claimed before.
Result<std::vector<PlacedModule>> place_modules(RamPlan& plan, const BootOptions& options);

/// Copies the parts one after another on 4-byte boundaries into the highest free pages at or below `last`.
Result<PlacedModule> place_initrd(RamPlan& plan, const BootOptions& options, memory::GuestPhysical last);

/// Writes zero-terminated strings and records one after another into a range of low memory; PVH and Multiboot describe
/// a machine by such lists that point to each other.
class InfoWriter {
 public:
  InfoWriter(memory::GuestMemory& memory, memory::GuestPhysical start, memory::GuestPhysical end)
      : memory_(memory), next_(start), end_(end) {}

  /// Returns where the bytes went; 8-byte aligned. Past the end nothing is written, and ok() is false from then on.
  std::uint32_t add(std::span<const std::byte> bytes);
  std::uint32_t add(const std::string& text);
  bool ok() const { return ok_; }

 private:
  memory::GuestMemory& memory_;
  memory::GuestPhysical next_;
  memory::GuestPhysical end_;
  bool ok_ = true;
};

}  // namespace doppel::boot
