#include "engine/interp/mmx.h"

#include <algorithm>

namespace doppel::engine::interp {

void enter_mmx(x86::FpuState& fpu) {
  constexpr unsigned kTopShift = 11;
  constexpr std::uint16_t kTopMask = 7 << kTopShift;
  // st[] counts from TOP, MMX registers from physical register 0.
  const unsigned top = fpu.fsw >> kTopShift & 7;
  std::rotate(fpu.st.begin(), fpu.st.begin() + (8 - top) % 8, fpu.st.end());
  fpu.fsw &= static_cast<std::uint16_t>(~kTopMask);
  fpu.ftw = 0xFF;
}

void mark_written(x86::FpuState& fpu, const isa::Insn& insn) {
  if (insn.mnemonic == ZYDIS_MNEMONIC_EMMS) {
    fpu.ftw = 0;
    return;
  }
  for (unsigned i = 0; i < insn.operand_count; ++i) {
    if (insn.op[i].kind == isa::OperandKind::Mmx && insn.op[i].written) fpu.st[insn.op[i].reg].sign_exponent = 0xFFFF;
  }
}

}  // namespace doppel::engine::interp
