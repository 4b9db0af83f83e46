#pragma once

#include <array>
#include <initializer_list>
#include <vector>

#include "isa/decoder.h"
#include "isa/system.h"
#include "x86/fake_platform.h"

namespace doppel::isa::test {

/// A processor in a mode of the test's choice, without paging, that executes one system instruction at a time from its
/// bytes: decoder and helper together, as an engine uses them.
class SystemTest : public x86::test::CpuTest {
 protected:
  static constexpr std::uint64_t kCode = 0x1000, kStackTop = 0x8000, kData = 0x4000;

  Decoder decoder{cpuid};

  SystemTest() { enter_64_bit(0); }

  void enter_real_mode() {
    reset_state();
    cpu.state.cr0 = x86::cr0::kEt;
    for (x86::Segment& segment : cpu.state.segment) segment = {0, 0xFFFF, 0x93, 0};
    cpu.state.seg(x86::SegReg::Cs).attributes = 0x9B;
    cpu.mmu.refresh_view();
  }
  void enter_protected_32(unsigned cpl) {
    reset_state();
    cpu.state.cr0 = x86::cr0::kEt | x86::cr0::kPe;
    set_flat_segments(cpl, x86::Segment::kDb | x86::Segment::kG);
  }
  void enter_64_bit(unsigned cpl) {
    reset_state();
    cpu.state.cr0 = x86::cr0::kEt | x86::cr0::kPe;
    cpu.state.efer = x86::efer::kLma | x86::efer::kLme | x86::efer::kSce;
    set_flat_segments(cpl, x86::Segment::kG);
    cpu.state.seg(x86::SegReg::Cs).attributes |= x86::Segment::kL;
  }
  void enter_virtual_8086(unsigned iopl) {
    enter_real_mode();
    cpu.state.cr0 |= x86::cr0::kPe;
    for (x86::Segment& segment : cpu.state.segment) segment.attributes = 0xF3;
    cpu.state.set_rflags(x86::rflags::kVm | (std::uint64_t{iopl} << 12));
    cpu.mmu.refresh_view();
  }
  void set_iopl(unsigned iopl) {
    cpu.state.set_rflags((cpu.state.rflags() & ~x86::rflags::kIopl) | (std::uint64_t{iopl} << 12));
  }

  Insn decode(const std::vector<std::uint8_t>& bytes) {
    const x86::CpuState& state = cpu.state;
    CodeSize size = CodeSize::Bits16;
    if (state.code_64())
      size = CodeSize::Bits64;
    else if (state.seg(x86::SegReg::Cs).default_32())
      size = CodeSize::Bits32;
    Insn insn;
    const bool protected_mode = state.protected_mode() && !state.virtual_8086();
    EXPECT_EQ(decoder.decode(std::as_bytes(std::span{bytes}), size, protected_mode, insn), DecodeStatus::Ok);
    return insn;
  }

  /// As an engine does: RIP moves on before, and back when there is a fault.
  void execute(const std::vector<std::uint8_t>& bytes) {
    const Insn insn = decode(bytes);
    const SystemOp op = system_op(insn.mnemonic);
    ASSERT_NE(op, nullptr);
    cpu.instruction_start = cpu.state.rip;
    cpu.state.rip += insn.length;
    try {
      op(cpu, insn);
    } catch (const x86::Fault&) {
      cpu.state.rip = cpu.instruction_start;
      throw;
    }
  }

  std::uint64_t& gpr(x86::Gpr reg) { return cpu.state.gpr[reg]; }
  std::uint64_t flags() const { return cpu.state.rflags(); }
  bool flag(std::uint64_t mask) const { return (cpu.state.rflags() & mask) != 0; }
  void set_flag(std::uint64_t mask, bool value) {
    cpu.state.set_rflags((cpu.state.rflags() & ~mask) | (value ? mask : 0));
  }
  template <class T>
  T peek(std::uint64_t address) {
    return peek_physical<T>(address);
  }

 private:
  void reset_state() {
    cpu.state = x86::CpuState{};
    cpu.state.rip = kCode;
    cpu.state.gpr[x86::kRsp] = kStackTop;
  }
  void set_flat_segments(unsigned cpl, std::uint32_t attributes) {
    const std::uint32_t dpl = cpl << 5;
    for (x86::Segment& segment : cpu.state.segment)
      segment = {0, 0xFFFF'FFFF, 0x93 | dpl | attributes, static_cast<std::uint16_t>(0x10 | cpl)};
    cpu.state.seg(x86::SegReg::Cs).attributes = 0x9B | dpl | attributes;
    cpu.state.seg(x86::SegReg::Cs).selector = static_cast<std::uint16_t>(0x08 | cpl);
    cpu.mmu.refresh_view();
  }
};

}  // namespace doppel::isa::test
