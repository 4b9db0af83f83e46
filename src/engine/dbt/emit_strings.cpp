#include "engine/dbt/emitter.h"

namespace doppel::engine::dbt {

namespace {

/// The binary logarithm of what one iteration moves or stores.
unsigned element_log(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_MOVSB:
    case ZYDIS_MNEMONIC_STOSB:
      return 0;
    case ZYDIS_MNEMONIC_MOVSW:
    case ZYDIS_MNEMONIC_STOSW:
      return 1;
    case ZYDIS_MNEMONIC_MOVSD:
    case ZYDIS_MNEMONIC_STOSD:
      return 2;
    default:
      return 3;
  }
}

}  // namespace

/// REP MOVS and REP STOS in 64-bit code; others are rare.
Emitter::Next Emitter::string(const SourceInsn& source) {
  const isa::Insn& insn = source.insn;
  const bool overridden = insn.mem.segment == x86::SegReg::Fs || insn.mem.segment == x86::SegReg::Gs;
  if (!mode_.code_64 || insn.address_size != 8 || !(insn.rep || insn.repne)) return Next::Untranslated;
  const auto call_routine = [&](const std::byte* routine) {
    established_.reset();
    call_unnumbered(routine, add_site(here()));
    return Next::Continue;
  };
  switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_MOVSB:
    case ZYDIS_MNEMONIC_MOVSW:
    case ZYDIS_MNEMONIC_MOVSD:
    case ZYDIS_MNEMONIC_MOVSQ:
      if (overridden) return Next::Untranslated;
      return call_routine(trampolines_.move_string[element_log(insn.mnemonic)]);
    case ZYDIS_MNEMONIC_STOSB:
    case ZYDIS_MNEMONIC_STOSW:
    case ZYDIS_MNEMONIC_STOSD:
    case ZYDIS_MNEMONIC_STOSQ:
      return call_routine(trampolines_.store_string[element_log(insn.mnemonic)]);
    default:
      return Next::Untranslated;
  }
}

}  // namespace doppel::engine::dbt
