#pragma once

#include <cstdint>

#include "memory/guest_memory.h"
#include "x86/cpu.h"

namespace doppel::x86::test {

/// Page tables of a test's processor, built in its RAM from `kTables` up, one page each as they are needed.
class FourLevelTables {
 public:
  static constexpr std::uint64_t kP = 1, kRw = 2, kUs = 4, kA = 0x20, kD = 0x40, kPs = 0x80, kG = 0x100;
  static constexpr memory::GuestPhysical kTables = 0x20'0000;

  explicit FourLevelTables(memory::GuestMemory& memory) : memory_(memory) {}

  /// Maps one page of 4 KiB, or one of 2 MiB where `flags` has PS; upper levels allow everything.
  void map(std::uint64_t linear, memory::GuestPhysical physical, std::uint64_t flags) {
    const unsigned leaf = (flags & kPs) != 0 ? 21 : 12;
    memory_.write_value(entry(linear, leaf), physical | flags);
  }
  /// The address of the entry of the level that maps 2^`shift` bytes.
  memory::GuestPhysical entry(std::uint64_t linear, unsigned shift = 12) {
    memory::GuestPhysical table = kTables;
    for (unsigned level = 39;; level -= 9) {
      const memory::GuestPhysical address = table + ((linear >> level) & 511) * 8;
      if (level == shift) return address;
      std::uint64_t value = 0;
      memory_.read_value(address, value);
      if ((value & kP) == 0) {
        value = next_ | kP | kRw | kUs;
        next_ += 0x1000;
        memory_.write_value(address, value);
      }
      table = value & ~std::uint64_t{0xFFF};
    }
  }
  std::uint64_t get(std::uint64_t linear, unsigned shift = 12) {
    std::uint64_t value = 0;
    memory_.read_value(entry(linear, shift), value);
    return value;
  }

 private:
  memory::GuestMemory& memory_;
  memory::GuestPhysical next_ = kTables + 0x1000;
};

/// A kernel's 64-bit mode with these tables.
inline void enter_long_mode(Cpu& cpu) {
  cpu.state.cr0 = cr0::kPe | cr0::kPg | cr0::kWp | cr0::kEt;
  cpu.state.cr3 = FourLevelTables::kTables;
  cpu.state.cr4 = cr4::kPae | cr4::kPge;
  cpu.state.efer = efer::kLme | efer::kLma | efer::kNxe;
  cpu.state.seg(SegReg::Cs) = {0, 0xFFFF'FFFF, 0xA09B, 8};
  cpu.state.seg(SegReg::Ss) = {0, 0xFFFF'FFFF, 0xC093, 16};
  cpu.mmu.flush_all();
  cpu.mmu.refresh_view();
}

}  // namespace doppel::x86::test
