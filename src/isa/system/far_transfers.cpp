#include "isa/system/operands.h"
#include "isa/system/ops.h"
#include "x86/transfer.h"

/// The operands of transfers to other segments; what they do is x86/transfer.h.
namespace doppel::isa {
namespace {

using x86::Cpu;

struct FarPointer {
  std::uint16_t selector;
  std::uint64_t offset;
};

FarPointer far_target(Cpu& cpu, const Insn& insn) {
  if (insn.op[0].kind == OperandKind::FarPointer) return {static_cast<std::uint16_t>(insn.imm[1]), insn.imm[0]};
  if (insn.op[0].kind != OperandKind::Memory) x86::raise_ud();
  const unsigned size = far_offset_size(cpu, insn);
  const std::uint64_t offset = read_part(cpu, insn, 0, size);
  return {static_cast<std::uint16_t>(read_part(cpu, insn, size, 2)), offset};
}

void jmp(Cpu& cpu, const Insn& insn) {
  const FarPointer target = far_target(cpu, insn);
  x86::far_jump(cpu, target.selector, target.offset, insn.operand_size);
}

void call(Cpu& cpu, const Insn& insn) {
  const FarPointer target = far_target(cpu, insn);
  x86::far_call(cpu, target.selector, target.offset, insn.operand_size);
}

void ret(Cpu& cpu, const Insn& insn) {
  const std::uint64_t released = insn.operand_count > 0 ? insn.imm[0] : 0;
  x86::far_return(cpu, insn.operand_size, static_cast<std::uint16_t>(released));
}

void iret(Cpu& cpu, const Insn& insn) {
  x86::interrupt_return(cpu, insn.operand_size);
}

void syscall(Cpu& cpu, const Insn&) {
  x86::syscall(cpu);
}
void sysret(Cpu& cpu, const Insn& insn) {
  x86::sysret(cpu, insn.operand_size);
}
void sysenter(Cpu& cpu, const Insn&) {
  x86::sysenter(cpu);
}
void sysexit(Cpu& cpu, const Insn& insn) {
  x86::sysexit(cpu, insn.operand_size);
}

constexpr SystemEntry kOps[] = {
    {ZYDIS_MNEMONIC_JMP, jmp},         {ZYDIS_MNEMONIC_CALL, call},     {ZYDIS_MNEMONIC_RET, ret},
    {ZYDIS_MNEMONIC_IRET, iret},       {ZYDIS_MNEMONIC_IRETD, iret},    {ZYDIS_MNEMONIC_IRETQ, iret},
    {ZYDIS_MNEMONIC_SYSCALL, syscall}, {ZYDIS_MNEMONIC_SYSRET, sysret}, {ZYDIS_MNEMONIC_SYSENTER, sysenter},
    {ZYDIS_MNEMONIC_SYSEXIT, sysexit},
};

}  // namespace

std::span<const SystemEntry> far_transfer_ops() {
  return kOps;
}

}  // namespace doppel::isa
