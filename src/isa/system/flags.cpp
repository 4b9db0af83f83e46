#include "isa/system/checks.h"
#include "isa/system/operands.h"
#include "isa/system/ops.h"
#include "x86/stack.h"

/// RFLAGS: the interrupt flag under IOPL, virtual-8086 extensions and protected-mode virtual interrupts (SDM vol. 3,
/// 20.3), the images of PUSHF and POPF, and the single flags.
namespace doppel::isa {
namespace {

using x86::Cpu;
using x86::CpuState;
namespace rflags = x86::rflags;

/// Which flag CLI and STI work on.
enum class InterruptFlag { Real, Virtual };

InterruptFlag interrupt_flag(const CpuState& state) {
  if (state.virtual_8086()) {
    if (iopl(state) == 3) return InterruptFlag::Real;
    if ((state.cr4 & x86::cr4::kVme) != 0) return InterruptFlag::Virtual;
  } else {
    if (state.cpl() <= iopl(state)) return InterruptFlag::Real;
    if (state.cpl() == 3 && (state.cr4 & x86::cr4::kPvi) != 0) return InterruptFlag::Virtual;
  }
  x86::raise_gp();
}

void cli(Cpu& cpu, const Insn&) {
  const bool real = interrupt_flag(cpu.state) == InterruptFlag::Real;
  set_flags(cpu.state, real ? rflags::kIf : rflags::kVif, 0);
}

void sti(Cpu& cpu, const Insn&) {
  CpuState& state = cpu.state;
  if (interrupt_flag(state) == InterruptFlag::Virtual) {
    if ((state.rflags_without_of & rflags::kVip) != 0) x86::raise_gp();
    set_flags(state, rflags::kVif, rflags::kVif);
    return;
  }
  if ((state.rflags_without_of & rflags::kIf) == 0) state.sti_shadow = true;
  set_flags(state, rflags::kIf, rflags::kIf);
}

/// Virtual-8086 mode with IOPL below 3: PUSHF and POPF work on VIF under CR4.VME, in their 16-bit forms only.
bool uses_virtual_image(const CpuState& state, unsigned operand_size) {
  if (!state.virtual_8086() || iopl(state) == 3) return false;
  if ((state.cr4 & x86::cr4::kVme) == 0 || operand_size != 2) x86::raise_gp();
  return true;
}

void pushf(Cpu& cpu, const Insn& insn) {
  std::uint64_t image = cpu.state.rflags() & ~(rflags::kVm | rflags::kRf);
  if (uses_virtual_image(cpu.state, insn.operand_size)) {
    image &= ~rflags::kIf;
    if ((image & rflags::kVif) != 0) image |= rflags::kIf;
    image |= rflags::kIopl;
  }
  x86::push(cpu, image, insn.operand_size);
}

constexpr std::uint64_t kUserFlags = rflags::kStatus | rflags::kTf | rflags::kDf | rflags::kNt;

void pop_virtual_image(Cpu& cpu, std::uint64_t image) {
  const bool enables = (image & rflags::kIf) != 0;
  const bool pending = (cpu.state.rflags_without_of & rflags::kVip) != 0;
  if ((image & rflags::kTf) != 0 || (enables && pending)) x86::raise_gp();
  set_flags(cpu.state, kUserFlags | rflags::kVif, (image & kUserFlags) | (enables ? rflags::kVif : 0));
}

void popf(Cpu& cpu, const Insn& insn) {
  CpuState& state = cpu.state;
  const unsigned size = insn.operand_size;
  const bool virtual_image = uses_virtual_image(state, size);
  const std::uint64_t image = x86::peek(cpu, 0, size);
  if (virtual_image) {
    pop_virtual_image(cpu, image);
  } else {
    std::uint64_t writable = kUserFlags;
    if (size > 2) writable |= rflags::kAc | rflags::kId;
    if (state.cpl() <= iopl(state)) writable |= rflags::kIf;
    if (state.cpl() == 0) writable |= rflags::kIopl;
    set_flags(state, writable | rflags::kRf, image & writable);
  }
  x86::add_to_stack_pointer(state, size);
  cpu.mmu.refresh_view();
}

constexpr std::uint64_t kAhFlags = rflags::kSf | rflags::kZf | rflags::kAf | rflags::kPf | rflags::kCf;

void lahf(Cpu& cpu, const Insn&) {
  std::uint64_t& rax = cpu.state.gpr[x86::kRax];
  const std::uint64_t image = (cpu.state.rflags_without_of & kAhFlags) | rflags::kReserved1;
  rax = (rax & ~std::uint64_t{0xFF00}) | (image << 8);
}

void sahf(Cpu& cpu, const Insn&) {
  set_flags(cpu.state, kAhFlags, bits(cpu.state.gpr[x86::kRax], 15, 8));
}

template <std::uint64_t kFlag, bool kValue>
void set_flag(Cpu& cpu, const Insn&) {
  set_flags(cpu.state, kFlag, kValue ? kFlag : 0);
}

void cmc(Cpu& cpu, const Insn&) {
  cpu.state.rflags_without_of ^= rflags::kCf;
}

template <bool kValue>
void set_ac(Cpu& cpu, const Insn&) {
  require_feature(cpu, x86::CpuidModel::Feature::Smap);
  if (cpu.state.cpl() != 0) x86::raise_ud();
  set_flags(cpu.state, rflags::kAc, kValue ? rflags::kAc : 0);
  cpu.mmu.refresh_view();
}

constexpr SystemEntry kOps[] = {
    {ZYDIS_MNEMONIC_CLI, cli},
    {ZYDIS_MNEMONIC_STI, sti},
    {ZYDIS_MNEMONIC_PUSHF, pushf},
    {ZYDIS_MNEMONIC_PUSHFD, pushf},
    {ZYDIS_MNEMONIC_PUSHFQ, pushf},
    {ZYDIS_MNEMONIC_POPF, popf},
    {ZYDIS_MNEMONIC_POPFD, popf},
    {ZYDIS_MNEMONIC_POPFQ, popf},
    {ZYDIS_MNEMONIC_LAHF, lahf},
    {ZYDIS_MNEMONIC_SAHF, sahf},
    {ZYDIS_MNEMONIC_CLC, set_flag<rflags::kCf, false>},
    {ZYDIS_MNEMONIC_STC, set_flag<rflags::kCf, true>},
    {ZYDIS_MNEMONIC_CMC, cmc},
    {ZYDIS_MNEMONIC_CLD, set_flag<rflags::kDf, false>},
    {ZYDIS_MNEMONIC_STD, set_flag<rflags::kDf, true>},
    {ZYDIS_MNEMONIC_CLAC, set_ac<false>},
    {ZYDIS_MNEMONIC_STAC, set_ac<true>},
};

}  // namespace

std::span<const SystemEntry> flag_ops() {
  return kOps;
}

}  // namespace doppel::isa
