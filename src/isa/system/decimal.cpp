#include <bit>

#include "isa/system/operands.h"
#include "isa/system/ops.h"
#include "x86/segmentation.h"

/// Decimal arithmetic on AL and AX, which 64-bit mode does not have (SDM vol. 1, 7.3.7), and the other two instructions
/// on AL alone: SALC and XLAT. Undefined flags are left as they were, but OF, which is cleared.
namespace doppel::isa {
namespace {

using x86::Cpu;
using x86::CpuState;
namespace rflags = x86::rflags;

std::uint8_t al(const CpuState& state) {
  return static_cast<std::uint8_t>(state.gpr[x86::kRax]);
}
std::uint8_t ah(const CpuState& state) {
  return static_cast<std::uint8_t>(state.gpr[x86::kRax] >> 8);
}
bool flag(const CpuState& state, std::uint64_t mask) {
  return (state.rflags_without_of & mask) != 0;
}

std::uint64_t sign_zero_parity(std::uint8_t value) {
  return (value >= 0x80 ? rflags::kSf : 0) | (value == 0 ? rflags::kZf : 0) |
         (std::popcount(value) % 2 == 0 ? rflags::kPf : 0);
}

/// DAA (`sign` +1) and DAS (-1).
template <int kSign>
void adjust_packed(Cpu& cpu, const Insn&) {
  CpuState& state = cpu.state;
  const std::uint8_t old = al(state);
  const bool old_carry = flag(state, rflags::kCf);
  const bool low = (old & 0xF) > 9 || flag(state, rflags::kAf);
  const bool high = old > 0x99 || old_carry;
  const int adjustment = (low ? 6 : 0) + (high ? 0x60 : 0);
  const auto result = static_cast<std::uint8_t>(old + kSign * adjustment);
  // DAS also carries when taking off the low six borrows.
  const bool carry = high || (kSign < 0 && low && old < 6);
  write_gpr(state, x86::kRax, 1, result);
  set_flags(state, rflags::kStatus, sign_zero_parity(result) | (low ? rflags::kAf : 0) | (carry ? rflags::kCf : 0));
}

/// AAA (`sign` +1) and AAS (-1).
template <int kSign>
void adjust_unpacked(Cpu& cpu, const Insn&) {
  CpuState& state = cpu.state;
  const bool adjusts = (al(state) & 0xF) > 9 || flag(state, rflags::kAf);
  const auto old = static_cast<std::uint16_t>(state.gpr[x86::kRax]);
  const auto sum = static_cast<std::uint16_t>(adjusts ? old + kSign * 0x106 : old);
  write_gpr(state, x86::kRax, 2, sum & 0xFF0F);
  const std::uint64_t both = rflags::kAf | rflags::kCf;
  set_flags(state, both, adjusts ? both : 0);
}

void aam(Cpu& cpu, const Insn& insn) {
  const auto base = static_cast<std::uint8_t>(insn.imm[0]);
  if (base == 0) x86::raise(x86::vector::kDe);
  const std::uint8_t value = al(cpu.state);
  const auto remainder = static_cast<std::uint8_t>(value % base);
  write_gpr(cpu.state, x86::kRax, 2, (static_cast<unsigned>(value / base) << 8) | remainder);
  set_flags(cpu.state, rflags::kStatus, sign_zero_parity(remainder));
}

void aad(Cpu& cpu, const Insn& insn) {
  const auto result = static_cast<std::uint8_t>(al(cpu.state) + ah(cpu.state) * (insn.imm[0] & 0xFF));
  write_gpr(cpu.state, x86::kRax, 2, result);
  set_flags(cpu.state, rflags::kStatus, sign_zero_parity(result));
}

void salc(Cpu& cpu, const Insn&) {
  write_gpr(cpu.state, x86::kRax, 1, flag(cpu.state, rflags::kCf) ? 0xFF : 0);
}

void xlat(Cpu& cpu, const Insn& insn) {
  const std::uint64_t offset = (cpu.state.gpr[x86::kRbx] + al(cpu.state)) & low_mask(insn.address_size * 8U);
  const x86::LinearAddress address = x86::segment_address(cpu, insn.mem.segment, offset, 1, x86::Access::Read);
  write_gpr(cpu.state, x86::kRax, 1, read_memory(cpu, address, 1));
}

constexpr SystemEntry kOps[] = {
    {ZYDIS_MNEMONIC_DAA, adjust_packed<1>},
    {ZYDIS_MNEMONIC_DAS, adjust_packed<-1>},
    {ZYDIS_MNEMONIC_AAA, adjust_unpacked<1>},
    {ZYDIS_MNEMONIC_AAS, adjust_unpacked<-1>},
    {ZYDIS_MNEMONIC_AAM, aam},
    {ZYDIS_MNEMONIC_AAD, aad},
    {ZYDIS_MNEMONIC_SALC, salc},
    {ZYDIS_MNEMONIC_XLAT, xlat},
};

}  // namespace

std::span<const SystemEntry> decimal_ops() {
  return kOps;
}

}  // namespace doppel::isa
