#include "engine/dbt/emitter.h"
#include "isa/op_table.h"

/// The system instructions that are worth being translated.
namespace doppel::engine::dbt {

namespace host = asmjit::x86;
using isa::OpClass;

namespace {

/// An instruction that stays in its block and leaves through C++ only to come back: the shadow of STI ends with it.
bool may_follow_sti(const SourceInsn& source) {
  switch (source.insn.mnemonic) {
    case ZYDIS_MNEMONIC_PUSH:
    case ZYDIS_MNEMONIC_POP:
      return source.insn.op[0].kind == isa::OperandKind::Gpr;
    default:
      return isa::op_class(source.insn) == OpClass::HostAlu && source.insn.unit == isa::Unit::Integer;
  }
}

}  // namespace

Emitter::Next Emitter::system(const SourceInsn& source, const SourceInsn* following) {
  switch (source.insn.mnemonic) {
    case ZYDIS_MNEMONIC_CLC:
      a_.clc();
      return Next::Continue;
    case ZYDIS_MNEMONIC_STC:
      a_.stc();
      return Next::Continue;
    case ZYDIS_MNEMONIC_CMC:
      a_.cmc();
      return Next::Continue;
    case ZYDIS_MNEMONIC_LAHF:
      a_.lahf();
      return Next::Continue;
    case ZYDIS_MNEMONIC_SAHF:
      a_.sahf();
      return Next::Continue;
    case ZYDIS_MNEMONIC_CLI:
      if (mode_.user) return Next::Untranslated;
      a_.mov(env(DOPPEL_ENV(interrupt_flag)), 0);
      return Next::Continue;
    case ZYDIS_MNEMONIC_SWAPGS:
      if (mode_.user) return Next::Untranslated;
      a_.mov(host::rcx, env(DOPPEL_ENV(gs_base)));
      a_.mov(host::r11, env(DOPPEL_ENV(kernel_gs_base)));
      a_.mov(env(DOPPEL_ENV(gs_base)), host::r11);
      a_.mov(env(DOPPEL_ENV(kernel_gs_base)), host::rcx);
      return Next::Continue;
    case ZYDIS_MNEMONIC_STI: {
      if (mode_.user || following == nullptr || !may_follow_sti(*following)) return Next::Untranslated;
      // With an interrupt waiting, the interpreter sees to its delivery.
      const Label calm = a_.newLabel();
      a_.mov(host::rcx, env(DOPPEL_ENV(interrupt_waiting)));
      a_.short_().jecxz(host::rcx, calm);
      call_out(ExitReason::InterpretAndLook, add_site());
      sites_.back().looks_around = true;
      a_.bind(calm);
      a_.mov(env(DOPPEL_ENV(interrupt_flag)), static_cast<std::int32_t>(x86::rflags::kIf));
      return Next::Continue;
    }
    case ZYDIS_MNEMONIC_PUSHF:
    case ZYDIS_MNEMONIC_PUSHFD:
    case ZYDIS_MNEMONIC_PUSHFQ:
      if (source.insn.operand_size != stack_size()) return Next::Untranslated;
      push_flags();
      return Next::Continue;
    default:
      return Next::Untranslated;
  }
}

/// Puts the image together by additions that leave flags alone: LAHF has the lower five, OF goes to bit 11.
void Emitter::push_flags() {
  constexpr unsigned kOfToBit11 = 32 - 11;
  const unsigned size = stack_size();
  a_.lea(host::r11, write_stack().operand(8));
  keep_islands_in_reach();
  a_.mov(env(DOPPEL_ENV(value)), host::rax);
  a_.lahf();
  a_.seto(host::al);
  a_.movzx(host::ecx, host::ah);
  a_.movzx(host::eax, host::al);
  a_.rorx(host::eax, host::eax, kOfToBit11);
  a_.lea(host::rcx, host::ptr(host::rcx, host::rax));
  for (const std::int32_t part : {DOPPEL_ENV(interrupt_flag), DOPPEL_ENV(pushed_flags)}) {
    a_.mov(host::rax, env(part));
    a_.lea(host::rcx, host::ptr(host::rcx, host::rax));
  }
  a_.mov(host::rax, env(DOPPEL_ENV(value)));
  a_.mov(Mem(host::r11, 0, size), reg(kHostRcx, size));
  a_.lea(reg(kHostR10, size), host::ptr(host::r10, -static_cast<std::int32_t>(size)));
}

}  // namespace doppel::engine::dbt
