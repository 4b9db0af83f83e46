#pragma once

#include <asmjit/x86.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "engine/engine.h"
#include "x86/fake_platform.h"

/// A processor on the interpreter, set up by hand in each of its modes, without firmware or kernel.
namespace doppel::engine::test {

using x86::CpuState;
using x86::Segment;
using x86::SegReg;

inline constexpr std::uint64_t kCodeAddress = 0x10'0000;
inline constexpr std::uint64_t kStackTop = 0x20'0000;
inline constexpr std::uint64_t kDataAddress = 0x30'0000;

inline Segment flat_segment(std::uint16_t selector, bool code, bool long_mode) {
  Segment segment;
  segment.selector = selector;
  segment.limit = 0xFFFF'FFFF;
  segment.attributes = (code ? 0xBU : 0x3U) | Segment::kS | Segment::kP | Segment::kG;
  segment.attributes |= code && long_mode ? Segment::kL : Segment::kDb;
  return segment;
}

/// 64-bit mode, CPL 0, 4-level paging that maps the first gigabyte to itself, supervisor and writable, in 2 MiB pages.
/// The tables are at 1000h.
inline CpuState long_mode(memory::GuestMemory& memory) {
  constexpr std::uint64_t kPml4 = 0x1000, kPdpt = 0x2000, kPd = 0x3000, kPresentWritable = 3, kLarge = 0x80;
  EXPECT_TRUE(memory.write_value(kPml4, kPdpt | kPresentWritable));
  EXPECT_TRUE(memory.write_value(kPdpt, kPd | kPresentWritable));
  for (std::uint64_t i = 0; i < 512; ++i)
    EXPECT_TRUE(memory.write_value(kPd + 8 * i, i << 21 | kPresentWritable | kLarge));
  CpuState state;
  state.reset(false, true);
  state.cr0 = x86::cr0::kPe | x86::cr0::kPg | x86::cr0::kEt | x86::cr0::kNe | x86::cr0::kWp | x86::cr0::kMp;
  state.cr3 = kPml4;
  state.cr4 = x86::cr4::kPae | x86::cr4::kOsfxsr | x86::cr4::kOsxmmexcpt | x86::cr4::kOsxsave;
  state.xcr0 = x86::xcr0::kX87 | x86::xcr0::kSse | x86::xcr0::kAvx;
  state.efer = x86::efer::kLme | x86::efer::kLma | x86::efer::kSce;
  state.seg(SegReg::Cs) = flat_segment(0x08, true, true);
  for (const SegReg data : {SegReg::Es, SegReg::Ss, SegReg::Ds, SegReg::Fs, SegReg::Gs})
    state.seg(data) = flat_segment(0x10, false, true);
  state.rip = kCodeAddress;
  state.gpr[x86::kRsp] = kStackTop;
  return state;
}

inline constexpr std::uint64_t kGdtAddress = 0x4000, kIdtAddress = 0x5000, kHandlers = 0x8000;
inline constexpr std::uint64_t kHandlerSize = 16;

/// A GDT for long_mode()'s selectors and an IDT whose handlers halt: HLT for vector n lies at handler_address(n).
inline void install_handlers(memory::GuestMemory& memory, CpuState& state) {
  constexpr std::uint64_t kCode64 = 0x00AF'9B00'0000'FFFF, kData = 0x00CF'9300'0000'FFFF;
  constexpr std::uint64_t kInterruptGate = 0x8E00, kCodeSelector = 0x08;
  EXPECT_TRUE(memory.write_value(kGdtAddress + 8, kCode64));
  EXPECT_TRUE(memory.write_value(kGdtAddress + 16, kData));
  for (std::uint64_t vector = 0; vector < 256; ++vector) {
    const std::uint64_t handler = kHandlers + vector * kHandlerSize;
    EXPECT_TRUE(memory.write_value(handler, std::uint8_t{0xF4}));
    const std::uint64_t gate = (handler & 0xFFFF) | kCodeSelector << 16 | kInterruptGate << 32 | (handler >> 16) << 48;
    EXPECT_TRUE(memory.write_value(kIdtAddress + 16 * vector, gate));
    EXPECT_TRUE(memory.write_value(kIdtAddress + 16 * vector + 8, handler >> 32));
  }
  state.gdtr = {kGdtAddress, 23};
  state.idtr = {kIdtAddress, 0xFFF};
}

/// What asmjit makes of `write`, to run at `address`.
inline std::vector<std::byte> assemble(std::uint64_t address, const std::function<void(asmjit::x86::Assembler&)>& write,
                                       asmjit::Arch arch = asmjit::Arch::kX64) {
  asmjit::CodeHolder code;
  code.init(asmjit::Environment(arch), address);
  asmjit::x86::Assembler assembler(&code);
  write(assembler);
  code.flatten();
  code.resolveUnresolvedLinks();
  code.relocateToBase(address);
  std::vector<std::byte> bytes(code.codeSize());
  code.copyFlattenedData(bytes.data(), bytes.size());
  return bytes;
}

}  // namespace doppel::engine::test
