#include "boot/entry_state.h"

#include <array>

#include "boot/platform_layout.h"

namespace doppel::boot {
namespace {

using x86::CpuState;
using x86::Segment;
using x86::SegReg;

constexpr std::uint16_t kCodeSelector = 0x10, kDataSelector = 0x18;
/// Segment attributes as x86::Segment has them.
constexpr std::uint32_t kAccessedCode = 0x9B, kAccessedData = 0x93, kBusyTss = 0x8B, kLdt = 0x82;
constexpr std::uint32_t kFlat32 = Segment::kDb | Segment::kG, kFlat64 = Segment::kL | Segment::kG;

/// The 8-byte descriptor of a flat segment (SDM vol. 3, figure 3-8): base 0, limit 4 GiB.
constexpr std::uint64_t flat_descriptor(std::uint32_t attributes) {
  return 0xFFFF | std::uint64_t{0xF} << 48 | std::uint64_t{attributes & 0xFF} << 40 |
         std::uint64_t{attributes & 0xF000} << 40;
}

Segment flat_segment(std::uint16_t selector, std::uint32_t attributes) {
  return {.base = 0, .limit = 0xFFFF'FFFF, .attributes = attributes, .selector = selector};
}

CpuState entry_state(memory::GuestMemory& memory, std::uint64_t entry, std::uint32_t code_attributes) {
  const std::uint32_t data_attributes = kAccessedData | kFlat32;
  const std::array<std::uint64_t, 4> gdt{0, 0, flat_descriptor(code_attributes), flat_descriptor(data_attributes)};
  memory.write(layout::kBootGdt, std::as_bytes(std::span{gdt}));

  CpuState cpu;
  apply_firmware_defaults(cpu);
  cpu.rip = entry;
  cpu.gpr[x86::kRsp] = layout::kBootStackTop;
  for (Segment& segment : cpu.segment) segment = flat_segment(kDataSelector, data_attributes);
  cpu.seg(SegReg::Cs) = flat_segment(kCodeSelector, code_attributes);
  cpu.ldtr = {.base = 0, .limit = 0xFFFF, .attributes = kLdt, .selector = 0};
  cpu.tr = {.base = 0, .limit = 0x67, .attributes = kBusyTss, .selector = 0};
  cpu.gdtr = {.base = layout::kBootGdt, .limit = sizeof gdt - 1};
  cpu.idtr = {.base = 0, .limit = 0};
  cpu.cr0 = x86::cr0::kPe | x86::cr0::kEt;
  return cpu;
}

/// Returns the address of the top table. Accessed and dirty are set beforehand: nobody asks for them.
std::uint64_t write_identity_map(memory::GuestMemory& memory) {
  constexpr std::uint64_t kPresentWritable = 0x3, kAccessedDirty = 0x60, kLargePage = 0x80;
  constexpr std::uint64_t kPdpt = layout::kPageTables + 0x1000, kDirectories = layout::kPageTables + 0x2000;
  using Table = std::array<std::uint64_t, 512>;
  static_assert(kDirectories + 4 * sizeof(Table) == layout::kPageTablesEnd);

  const auto write = [&](std::uint64_t address, const Table& table) {
    memory.write(address, std::as_bytes(std::span{table}));
  };
  Table pml4{}, pdpt{};
  pml4[0] = kPdpt | kPresentWritable | 0x20;
  for (std::uint64_t gib = 0; gib < 4; ++gib) {
    pdpt[gib] = (kDirectories + gib * sizeof(Table)) | kPresentWritable | 0x20;
    Table directory{};
    for (std::uint64_t i = 0; i < directory.size(); ++i) {
      directory[i] = ((gib << 30) + (i << 21)) | kPresentWritable | kAccessedDirty | kLargePage;
    }
    write(kDirectories + gib * sizeof(Table), directory);
  }
  write(kPdpt, pdpt);
  write(layout::kPageTables, pml4);
  return layout::kPageTables;
}

}  // namespace

void apply_firmware_defaults(CpuState& cpu) {
  constexpr std::uint64_t kMtrrEnable = 1 << 11, kWriteBack = 6;
  cpu.mtrr_def_type = kMtrrEnable | kWriteBack;
}

CpuState protected_mode_entry(memory::GuestMemory& memory, std::uint32_t entry) {
  return entry_state(memory, entry, kAccessedCode | kFlat32);
}

CpuState long_mode_entry(memory::GuestMemory& memory, std::uint64_t entry) {
  CpuState cpu = entry_state(memory, entry, kAccessedCode | kFlat64);
  cpu.cr3 = write_identity_map(memory);
  cpu.cr4 = x86::cr4::kPae;
  cpu.efer = x86::efer::kLme | x86::efer::kLma;
  cpu.cr0 |= x86::cr0::kPg;
  return cpu;
}

}  // namespace doppel::boot
