#include "boot/module_list.h"

#include <fmt/format.h>

#include "base/bits.h"

namespace doppel::boot {

Result<PlacedModule> place_initrd(RamPlan& plan, const BootOptions& options, memory::GuestPhysical last) {
  std::uint64_t size = 0;
  for (const std::span<const std::byte> part : options.initrds) size = align_up(size, 4) + part.size();
  if (size == 0) return PlacedModule{};
  Result<memory::GuestPhysical> start = plan.claim_high(size, memory::kPageSize, last, "the initial RAM file system");
  if (!start) return start.error();
  zero_ram(plan.memory(), *start, size);
  std::uint64_t offset = 0;
  for (const std::span<const std::byte> part : options.initrds) {
    offset = align_up(offset, 4);
    plan.memory().write(*start + offset, part);
    offset += part.size();
  }
  return PlacedModule{static_cast<std::uint32_t>(*start), static_cast<std::uint32_t>(size), {}};
}

Result<std::vector<PlacedModule>> place_modules(RamPlan& plan, const BootOptions& options) {
  std::vector<PlacedModule> placed;
  const memory::GuestPhysical last = plan.end() - 1;
  Result<PlacedModule> initrd = place_initrd(plan, options, last);
  if (!initrd) return initrd.error();
  if (initrd->size != 0) placed.push_back(*initrd);
  for (const Module& module : options.modules) {
    Result<memory::GuestPhysical> start =
        plan.place_file(module.bytes, last, fmt::format("module \"{}\"", module.command_line));
    if (!start) return start.error();
    placed.push_back(
        {static_cast<std::uint32_t>(*start), static_cast<std::uint32_t>(module.bytes.size()), module.command_line});
  }
  return placed;
}

std::uint32_t InfoWriter::add(std::span<const std::byte> bytes) {
  const memory::GuestPhysical address = next_;
  ok_ = ok_ && bytes.size() <= end_ - next_;
  if (!ok_) return 0;
  memory_.write(address, bytes);
  next_ = std::min(align_up(address + bytes.size(), 8), end_);
  return static_cast<std::uint32_t>(address);
}

std::uint32_t InfoWriter::add(const std::string& text) {
  return add(std::as_bytes(std::span{text.c_str(), text.size() + 1}));
}

}  // namespace doppel::boot
