#include "boot/ram_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/bits.h"
#include "boot/platform_layout.h"

namespace doppel::boot {

using memory::GuestPhysical;

RamPlan::RamPlan(memory::GuestMemory& memory)
    : memory_(memory), end_(memory.regions().front().start + memory.regions().front().size) {
  taken_.push_back({0, layout::kCommandLineEnd, "the boot information"});
  taken_.push_back({layout::kEbda, layout::kBiosAreaEnd, "the BIOS and video areas"});
}

const RamPlan::Range* RamPlan::overlapping(GuestPhysical start, GuestPhysical end) const {
  const auto found = std::find_if(taken_.begin(), taken_.end(),
                                  [&](const Range& range) { return start < range.end && range.start < end; });
  return found == taken_.end() ? nullptr : &*found;
}

Result<void> RamPlan::claim(GuestPhysical start, std::uint64_t size, std::string_view what) {
  if (size == 0) return {};
  if (start >= end_ || size > end_ - start) {
    const bool possible = start < memory::kPciHoleStart && size <= memory::kPciHoleStart - start;
    const std::string remedy =
        possible ? fmt::format("give the machine at least {}", human_size(align_up(start + size, 1 << 20)))
                 : "no machine has RAM there";
    return Error{fmt::format("{} needs {} of memory at address {:#x}, but RAM ends at {}: {}", what, human_size(size),
                             start, human_size(end_), remedy)};
  }
  if (const Range* other = overlapping(start, start + size)) {
    return Error{fmt::format("{} (address {:#x}, {}) would lie over {} (address {:#x} to {:#x})", what, start,
                             human_size(size), other->what, other->start, other->end - 1)};
  }
  taken_.push_back({start, start + size, std::string(what)});
  return {};
}

Result<GuestPhysical> RamPlan::claim_high(std::uint64_t size, std::uint64_t alignment, GuestPhysical last,
                                          std::string_view what) {
  GuestPhysical limit = last < end_ ? last + 1 : end_;
  while (size <= limit) {
    const GuestPhysical start = align_down(limit - size, alignment);
    const Range* other = overlapping(start, start + std::max<std::uint64_t>(size, 1));
    if (other == nullptr) {
      if (Result<void> claimed = claim(start, size, what); !claimed) return claimed.error();
      return start;
    }
    limit = other->start;
  }
  return Error{fmt::format("{} ({}) does not fit into memory beside the kernel: give the machine more memory", what,
                           human_size(size))};
}

Result<GuestPhysical> RamPlan::place_file(std::span<const std::byte> bytes, GuestPhysical last, std::string_view what) {
  Result<GuestPhysical> start = claim_high(bytes.size(), memory::kPageSize, last, what);
  if (start && !memory_.write(*start, bytes)) return Error{fmt::format("{} does not lie in RAM", what)};
  return start;
}

void zero_ram(memory::GuestMemory& memory, GuestPhysical start, std::uint64_t size) {
  static constexpr std::array<std::byte, memory::kPageSize> kZeros{};
  const auto write = [&](std::uint64_t length) {
    if (length != 0) memory.write(start, std::span{kZeros.data(), static_cast<std::size_t>(length)});
    start += length;
    size -= length;
  };
  write(std::min(size, (memory::kPageSize - start % memory::kPageSize) % memory::kPageSize));
  const std::uint64_t whole = size - size % memory::kPageSize;
  if (whole != 0) memory.discard(start, whole);
  start += whole;
  size -= whole;
  write(size);
}

std::string human_size(std::uint64_t bytes) {
  if (bytes >= (1 << 20) && bytes % (1 << 20) == 0) return fmt::format("{} MiB", bytes >> 20);
  if (bytes >= 10 << 20) return fmt::format("{} MiB", (bytes + (1 << 20) - 1) >> 20);
  if (bytes >= 1 << 10) return fmt::format("{} KiB", (bytes + (1 << 10) - 1) >> 10);
  return fmt::format("{} bytes", bytes);
}

}  // namespace doppel::boot
