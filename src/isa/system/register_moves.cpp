#include "isa/system/checks.h"
#include "isa/system/operands.h"
#include "isa/system/ops.h"
#include "x86/control_registers.h"
#include "x86/segmentation.h"
#include "x86/stack.h"

/// MOV, PUSH and POP of segment, control and debug registers. They share their mnemonics with the ordinary forms, which
/// are the engines' own.
namespace doppel::isa {
namespace {

using x86::Cpu;
using x86::SegReg;

/// MOV to and from CRn and DRn always moves a whole register, whatever the operand size.
unsigned register_width(const Cpu& cpu) {
  return cpu.state.code_64() ? 8 : 4;
}

bool control_register_exists(const Cpu& cpu, unsigned index) {
  return index == 0 || (index >= 2 && index <= 4) || (index == 8 && cpu.state.code_64());
}

std::uint64_t read_control_register(Cpu& cpu, unsigned index) {
  switch (index) {
    case 0:
      return cpu.state.cr0;
    case 2:
      return cpu.state.cr2;
    case 3:
      return cpu.state.cr3;
    case 4:
      return cpu.state.cr4;
    default:
      return cpu.ports.io.cr8();
  }
}

void write_control_register(Cpu& cpu, unsigned index, std::uint64_t value) {
  switch (index) {
    case 0:
      return x86::write_cr0(cpu, value);
    case 2:
      cpu.state.cr2 = value;
      return;
    case 3:
      return x86::write_cr3(cpu, value);
    case 4:
      return x86::write_cr4(cpu, value);
    default:
      if (value > 0xF) x86::raise_gp();
      return cpu.ports.io.set_cr8(static_cast<std::uint8_t>(value));
  }
}

void move_control_register(Cpu& cpu, const Operand& to, const Operand& from) {
  const bool writes = to.kind == OperandKind::Control;
  const unsigned index = writes ? to.reg : from.reg;
  if (!control_register_exists(cpu, index)) x86::raise_ud();
  require_cpl0(cpu);
  if (writes)
    write_control_register(cpu, index, read_gpr(cpu.state, from.reg, register_width(cpu)));
  else
    write_gpr(cpu.state, to.reg, register_width(cpu), read_control_register(cpu, index));
}

void move_debug_register(Cpu& cpu, const Operand& to, const Operand& from) {
  const bool writes = to.kind == OperandKind::Debug;
  const unsigned index = writes ? to.reg : from.reg;
  if (index > 7) x86::raise_ud();
  require_cpl0(cpu);
  if (writes)
    x86::write_debug_register(cpu, index, read_gpr(cpu.state, from.reg, register_width(cpu)));
  else
    write_gpr(cpu.state, to.reg, register_width(cpu), x86::read_debug_register(cpu, index));
}

void load_segment_register(Cpu& cpu, SegReg reg, std::uint16_t selector) {
  if (reg == SegReg::Cs) x86::raise_ud();
  x86::load_segment(cpu, reg, selector);
  if (reg == SegReg::Ss) cpu.state.ss_shadow = true;
}

void mov(Cpu& cpu, const Insn& insn) {
  const Operand& to = insn.op[0];
  const Operand& from = insn.op[1];
  if (to.kind == OperandKind::Control || from.kind == OperandKind::Control)
    move_control_register(cpu, to, from);
  else if (to.kind == OperandKind::Debug || from.kind == OperandKind::Debug)
    move_debug_register(cpu, to, from);
  else if (to.kind == OperandKind::Segment)
    load_segment_register(cpu, static_cast<SegReg>(to.reg), read_word_operand(cpu, insn, from));
  else if (from.kind == OperandKind::Segment)
    write_word_operand(cpu, insn, to, cpu.state.seg(static_cast<SegReg>(from.reg)).selector);
  else
    x86::raise_ud();
}

void push(Cpu& cpu, const Insn& insn) {
  if (insn.op[0].kind != OperandKind::Segment) x86::raise_ud();
  x86::push(cpu, cpu.state.seg(static_cast<SegReg>(insn.op[0].reg)).selector, insn.operand_size);
}

void pop(Cpu& cpu, const Insn& insn) {
  if (insn.op[0].kind != OperandKind::Segment) x86::raise_ud();
  // The stack pointer moves by the old SS's width, so before the load; a fault of the load takes it back.
  const std::uint64_t old_rsp = cpu.state.gpr[x86::kRsp];
  const auto selector = static_cast<std::uint16_t>(x86::pop(cpu, insn.operand_size));
  try {
    load_segment_register(cpu, static_cast<SegReg>(insn.op[0].reg), selector);
  } catch (const x86::Fault&) {
    cpu.state.gpr[x86::kRsp] = old_rsp;
    throw;
  }
}

constexpr SystemEntry kOps[] = {
    {ZYDIS_MNEMONIC_MOV, mov},
    {ZYDIS_MNEMONIC_PUSH, push},
    {ZYDIS_MNEMONIC_POP, pop},
};

}  // namespace

std::span<const SystemEntry> register_move_ops() {
  return kOps;
}

}  // namespace doppel::isa
