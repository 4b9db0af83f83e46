#include "isa/op_table.h"

#include <algorithm>
#include <array>

#include "isa/system.h"

namespace doppel::isa {

namespace {

struct Row {
  ZydisMnemonic mnemonic;
  OpClass op_class;
};

// clang-format off
constexpr std::array kRows{
    Row{ZYDIS_MNEMONIC_ADC, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_ADCX, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_ADD, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_ADOX, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_AND, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_ANDN, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_BEXTR, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_BLSI, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_BLSMSK, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_BLSR, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_BSF, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_BSR, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_BSWAP, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_BT, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_BTC, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_BTR, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_BTS, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_BZHI, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_CALL, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_CBW, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_CDQ, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_CDQE, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_CMOVB, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_CMOVBE, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_CMOVL, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_CMOVLE, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_CMOVNB, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_CMOVNBE, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_CMOVNL, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_CMOVNLE, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_CMOVNO, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_CMOVNP, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_CMOVNS, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_CMOVNZ, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_CMOVO, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_CMOVP, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_CMOVS, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_CMOVZ, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_CMP, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_CMPXCHG, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_CMPXCHG16B, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_CMPXCHG8B, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_CQO, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_CRC32, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_CWD, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_CWDE, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_DEC, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_DIV, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_IDIV, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_IMUL, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_INC, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_JB, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_JBE, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_JCXZ, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_JECXZ, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_JL, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_JLE, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_JMP, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_JNB, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_JNBE, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_JNL, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_JNLE, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_JNO, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_JNP, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_JNS, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_JNZ, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_JO, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_JP, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_JRCXZ, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_JS, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_JZ, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_LEA, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_LEAVE, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_LFENCE, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_LOOP, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_LOOPE, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_LOOPNE, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_LZCNT, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_MASKMOVDQU, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_MASKMOVQ, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_MFENCE, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_MOV, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_MOVBE, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_MOVNTI, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_MOVSX, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_MOVSXD, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_MOVZX, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_MUL, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_MULX, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_NEG, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_NOP, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_NOT, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_OR, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_PAUSE, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_PDEP, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_PEXT, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_POP, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_POPCNT, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_PREFETCH, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_PREFETCHNTA, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_PREFETCHT0, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_PREFETCHT1, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_PREFETCHT2, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_PREFETCHW, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_PREFETCHWT1, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_PUSH, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_RCL, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_RCR, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_RET, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_ROL, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_ROR, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_RORX, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_SAR, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_SARX, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_SBB, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_SETB, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_SETBE, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_SETL, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_SETLE, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_SETNB, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_SETNBE, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_SETNL, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_SETNLE, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_SETNO, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_SETNP, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_SETNS, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_SETNZ, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_SETO, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_SETP, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_SETS, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_SETZ, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_SFENCE, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_SHL, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_SHLD, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_SHLX, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_SHR, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_SHRD, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_SHRX, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_SUB, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_TEST, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_TZCNT, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_VGATHERDPD, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_VGATHERDPS, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_VGATHERQPD, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_VGATHERQPS, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_VMASKMOVDQU, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_VMASKMOVPD, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_VMASKMOVPS, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_VPGATHERDD, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_VPGATHERDQ, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_VPGATHERQD, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_VPGATHERQQ, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_VPMASKMOVD, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_VPMASKMOVQ, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_VZEROALL, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_VZEROUPPER, OpClass::Cpp},
    Row{ZYDIS_MNEMONIC_XADD, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_XCHG, OpClass::HostAlu},
    Row{ZYDIS_MNEMONIC_XOR, OpClass::HostAlu},
};
// clang-format on

/// By mnemonic; those without a row are Undefined here.
constexpr auto kTable = [] {
  std::array<OpClass, ZYDIS_MNEMONIC_MAX_VALUE + 1> table{};
  table.fill(OpClass::Undefined);
  for (const Row& row : kRows) table[row.mnemonic] = row.op_class;
  return table;
}();

/// MOV, PUSH and POP of these are no arithmetic.
bool names_system_register(const Insn& insn) {
  return std::any_of(insn.op.begin(), insn.op.begin() + insn.operand_count, [](const Operand& operand) {
    return operand.kind == OperandKind::Segment || operand.kind == OperandKind::Control ||
           operand.kind == OperandKind::Debug;
  });
}

}  // namespace

OpClass op_class(const Insn& insn) {
  const bool helper = system_op(insn.mnemonic) != nullptr;
  // REP STOS and the like are known by their form: SSE2's MOVSD and CMPSD share their mnemonics.
  if (insn.string) return helper ? OpClass::System : OpClass::Cpp;
  const OpClass listed = kTable[insn.mnemonic];
  if (insn.far_branch || names_system_register(insn)) return helper ? OpClass::System : OpClass::Undefined;
  if (listed != OpClass::Undefined) return listed;
  if (helper) return OpClass::System;
  // Every vector and x87 instruction that the guest's processor has and that nobody else claims is the host's.
  return insn.unit != Unit::Integer ? OpClass::HostAlu : OpClass::Undefined;
}

}  // namespace doppel::isa
