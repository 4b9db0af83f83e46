#include "isa/insn_queries.h"

#include <algorithm>
#include <array>

#include "base/bits.h"

namespace doppel::isa {

namespace {

bool is_bit_test(ZydisMnemonic mnemonic) {
  return mnemonic == ZYDIS_MNEMONIC_BT || mnemonic == ZYDIS_MNEMONIC_BTS || mnemonic == ZYDIS_MNEMONIC_BTR ||
         mnemonic == ZYDIS_MNEMONIC_BTC;
}

/// In the order of the encoding.
constexpr std::array<ZydisMnemonic, kJumpConditions> kConditionalJumps{
    ZYDIS_MNEMONIC_JO, ZYDIS_MNEMONIC_JNO, ZYDIS_MNEMONIC_JB,  ZYDIS_MNEMONIC_JNB,
    ZYDIS_MNEMONIC_JZ, ZYDIS_MNEMONIC_JNZ, ZYDIS_MNEMONIC_JBE, ZYDIS_MNEMONIC_JNBE,
    ZYDIS_MNEMONIC_JS, ZYDIS_MNEMONIC_JNS, ZYDIS_MNEMONIC_JP,  ZYDIS_MNEMONIC_JNP,
    ZYDIS_MNEMONIC_JL, ZYDIS_MNEMONIC_JNL, ZYDIS_MNEMONIC_JLE, ZYDIS_MNEMONIC_JNLE,
};

}  // namespace

bool leaves_index_in_ecx(ZydisMnemonic mnemonic) {
  return mnemonic == ZYDIS_MNEMONIC_PCMPESTRI || mnemonic == ZYDIS_MNEMONIC_PCMPISTRI ||
         mnemonic == ZYDIS_MNEMONIC_VPCMPESTRI || mnemonic == ZYDIS_MNEMONIC_VPCMPISTRI;
}

const Operand* memory_operand(const Insn& insn) {
  const auto* end = insn.op.begin() + insn.operand_count;
  const auto* found =
      std::find_if(insn.op.begin(), end, [](const Operand& op) { return op.kind == OperandKind::Memory; });
  return found == end ? nullptr : found;
}

bool is_bit_string(const Insn& insn) {
  return is_bit_test(insn.mnemonic) && insn.op[0].kind == OperandKind::Memory && insn.op[1].kind == OperandKind::Gpr;
}

std::int64_t bit_string_offset(const x86::CpuState& state, const Insn& insn) {
  if (!is_bit_string(insn)) return 0;
  const unsigned size = insn.op[0].size;
  const std::int64_t bit_offset = sign_extend(state.gpr[insn.op[1].reg], size * 8);
  return (bit_offset >> 3) & -static_cast<std::int64_t>(size);
}

std::optional<unsigned> jump_condition(ZydisMnemonic mnemonic) {
  const auto* found = std::find(kConditionalJumps.begin(), kConditionalJumps.end(), mnemonic);
  if (found == kConditionalJumps.end()) return std::nullopt;
  return static_cast<unsigned>(found - kConditionalJumps.begin());
}

}  // namespace doppel::isa
