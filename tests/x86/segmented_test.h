#pragma once

#include <cstdint>
#include <initializer_list>

#include "fake_platform.h"
#include "x86/control_registers.h"
#include "x86/descriptor.h"
#include "x86/segmentation.h"

namespace doppel::x86::test {

/// Attributes as Segment has them: type, S, DPL, P, L, D/B, G.
inline constexpr std::uint32_t kDataAttributes = 0xC093, kCodeAttributes = 0xC09B, kCode64Attributes = 0xA09B,
                               kPresent = Segment::kP;
constexpr std::uint32_t with_dpl(std::uint32_t attributes, unsigned dpl) {
  return attributes | (dpl << 5);
}

/// The eight bytes of a segment or system descriptor; `limit` in bytes, or in pages with G.
constexpr std::uint64_t descriptor(std::uint64_t base, std::uint32_t limit, std::uint32_t attributes) {
  return (limit & 0xFFFFULL) | ((base & 0xFF'FFFFULL) << 16) | (std::uint64_t{attributes & 0xFF} << 40) |
         ((limit >> 16 & 0xFULL) << 48) | (std::uint64_t{attributes >> 12 & 0xF} << 52) |
         ((base >> 24 & 0xFFULL) << 56);
}

/// The low eight bytes of a gate; `count` is a call gate's parameters or an interrupt gate's IST.
constexpr std::uint64_t gate(SystemType type, unsigned dpl, std::uint16_t selector, std::uint64_t offset,
                             unsigned count = 0, bool present = true) {
  return (offset & 0xFFFF) | (std::uint64_t{selector} << 16) | (std::uint64_t{count} << 32) |
         (std::uint64_t{type} << 40) | (std::uint64_t{dpl} << 45) | (std::uint64_t{present} << 47) |
         ((offset >> 16 & 0xFFFF) << 48);
}

/// A processor with a GDT, an IDT and a TSS in memory, in the mode of the test's choice.
class SegmentedTest : public CpuTest {
 protected:
  static constexpr std::uint64_t kGdt = 0x1000, kIdt = 0x2000, kTss = 0x3000, kLdtBase = 0x4000, kHandler = 0x5000,
                                 kStack = 0x9000, kInnerStack = 0xA000, kIstStack = 0xB008, kPageTables = 0x10000;
  static constexpr std::uint16_t kCode = 0x08, kData = 0x10, kUserCode = 0x1B, kUserData = 0x23, kTr = 0x28,
                                 kCode64 = 0x38, kUserCode64 = 0x43, kConforming = 0x48, kFree = 0x80;
  static constexpr std::uint16_t kGdtLimit = 0x1FF;

  SegmentedTest() {
    set_descriptor(kCode, descriptor(0, 0xFFFFF, kCodeAttributes));
    set_descriptor(kData, descriptor(0, 0xFFFFF, kDataAttributes));
    set_descriptor(kUserCode, descriptor(0, 0xFFFFF, with_dpl(kCodeAttributes, 3)));
    set_descriptor(kUserData, descriptor(0, 0xFFFFF, with_dpl(kDataAttributes, 3)));
    set_descriptor(kTr, descriptor(kTss, 0x67, kPresent | kTss32Busy));
    set_descriptor(kCode64, descriptor(0, 0xFFFFF, kCode64Attributes));
    set_descriptor(kUserCode64, descriptor(0, 0xFFFFF, with_dpl(kCode64Attributes, 3)));
    set_descriptor(kConforming, descriptor(0, 0xFFFFF, kCodeAttributes | 4));
    state.gdtr = {kGdt, kGdtLimit};
    state.idtr = {kIdt, 0x7FF};
    // Stacks for level 0 of a 32-bit TSS, and of a 64-bit one.
    poke_physical<std::uint32_t>(kTss + 4, kInnerStack);
    poke_physical<std::uint32_t>(kTss + 8, kData);
  }

  CpuState& state = cpu.state;

  void set_descriptor(std::uint16_t selector, std::uint64_t raw) { poke_physical(kGdt + (selector & 0xFFF8U), raw); }
  std::uint64_t descriptor_of(std::uint16_t selector) {
    return peek_physical<std::uint64_t>(kGdt + (selector & 0xFFF8U));
  }
  void set_gate(std::uint8_t vector, std::uint64_t low) {
    const std::uint64_t address = kIdt + vector * (state.long_mode_active() ? 16U : 8U);
    poke_physical(address, low);
    if (state.long_mode_active()) poke_physical<std::uint64_t>(address + 8, 0);
  }

  void load_from_gdt(Segment& segment, std::uint16_t selector) {
    segment = decode_segment(descriptor_of(selector), selector);
  }

  /// Flat 32-bit protected mode without paging.
  void enter_protected_mode(unsigned cpl) {
    state.cr0 |= cr0::kPe;
    load_flat(cpl == 3 ? kUserCode : kCode, cpl == 3 ? kUserData : kData);
    load_from_gdt(state.tr, kTr);
  }

  /// Long mode over an identity map of the first 16 MiB; 64-bit code unless `compatibility`.
  void enter_long_mode(unsigned cpl, bool compatibility = false) {
    constexpr std::uint64_t kTable = 7, kLargePage = 0x87;  // present, writable, user; page size
    poke_physical(kPageTables, (kPageTables + 0x1000) | kTable);
    poke_physical(kPageTables + 0x1000, (kPageTables + 0x2000) | kTable);
    for (std::uint64_t i = 0; i < 8; ++i) poke_physical(kPageTables + 0x2000 + 8 * i, (i << 21) | kLargePage);
    state.cr3 = kPageTables;
    state.cr4 |= cr4::kPae;
    state.cr0 |= cr0::kPe | cr0::kPg;
    state.efer |= efer::kLme | efer::kLma | efer::kSce;
    poke_physical<std::uint64_t>(kGdt + kTr + 8, 0);
    poke_physical<std::uint64_t>(kTss + 4, kInnerStack);
    poke_physical<std::uint64_t>(kTss + 0x24, kIstStack);
    load_from_gdt(state.tr, kTr);
    if (compatibility) {
      load_flat(cpl == 3 ? kUserCode : kCode, cpl == 3 ? kUserData : kData);
    } else {
      load_flat(cpl == 3 ? kUserCode64 : kCode64, cpl == 3 ? kUserData : kData);
    }
  }

  void enter_virtual_8086_mode(unsigned iopl) {
    enter_protected_mode(3);
    state.set_rflags(rflags::kVm | rflags::kIf | (std::uint64_t{iopl} << 12));
    for (std::uint16_t i = 0; i < 6; ++i) set_virtual_8086_segment(state.segment[i], 0x100 * i);
    state.seg(SegReg::Ss).selector = 0x800;
    state.seg(SegReg::Ss).base = 0x8000;
    state.gpr[kRsp] = 0x1000;
    cpu.mmu.refresh_view();
  }

  void enter_real_mode() {
    for (Segment& segment : state.segment) set_real_mode_segment(segment, 0);
    state.rip = 0x7C00;
    state.gpr[kRsp] = kStack;
    state.idtr = {0, 0x3FF};
  }

  void push_words(unsigned size, std::initializer_list<std::uint64_t> values) {
    const std::uint64_t base = state.code_64() ? 0 : state.seg(SegReg::Ss).base;
    for (const std::uint64_t value : values) {
      state.gpr[kRsp] -= size;
      const std::uint64_t address = base + state.gpr[kRsp];
      if (size == 2) poke_physical(address, static_cast<std::uint16_t>(value));
      if (size == 4) poke_physical(address, static_cast<std::uint32_t>(value));
      if (size == 8) poke_physical(address, value);
    }
  }

  std::uint16_t selector(SegReg reg) const { return state.seg(reg).selector; }

  /// Everything that a fault must leave alone.
  struct Snapshot {
    std::array<std::uint64_t, 16> gpr;
    std::uint64_t rip, flags;
    std::array<std::uint16_t, 6> selectors;
    unsigned cpl;
    bool operator==(const Snapshot&) const = default;
  };
  Snapshot snapshot() const {
    Snapshot result{state.gpr, state.rip, state.rflags(), {}, state.cpl()};
    for (std::size_t i = 0; i < 6; ++i) result.selectors[i] = state.segment[i].selector;
    return result;
  }

 private:
  void load_flat(std::uint16_t code, std::uint16_t data) {
    load_from_gdt(state.seg(SegReg::Cs), code);
    for (const SegReg reg : {SegReg::Ss, SegReg::Ds, SegReg::Es, SegReg::Fs, SegReg::Gs})
      load_from_gdt(state.seg(reg), data);
    state.rip = 0x7000;
    state.gpr[kRsp] = kStack;
    state.set_rflags(rflags::kIf);
    cpu.mmu.refresh_view();
    cpu.mmu.flush_all();
  }
};

}  // namespace doppel::x86::test
