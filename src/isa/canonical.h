#pragma once

#include <array>
#include <cstdint>

#include "isa/insn.h"

namespace doppel::isa {

/// Where generated code gets an operand of the canonical instruction from, and where it puts it.
enum class OperandSource : std::uint8_t {
  None,       ///< fixed by the opcode or baked into it
  Register,   ///< DecodedOp::reg[i]
  Immediate,  ///< DecodedOp::imm; put back, if written, to DecodedOp::reg[0]
};

/// How a guest's instruction is written for the host: the same instruction on registers that generated code has chosen,
/// so that few distinct ones exist. Explicit general registers are r8, r9, r10 in turn, vector operand i
/// is xmm1 + i, MMX operand i mm i; memory is [r11].
struct Canonical {
  std::array<std::uint8_t, 15> bytes{};
  std::uint8_t length = 0;

  struct Slot {
    OperandKind kind = OperandKind::None;
    OperandSource source = OperandSource::None;
    std::uint8_t host = 0;  ///< number of the host register
    bool read = false, written = false;
    bool low_word = false;  ///< the immediate replaces the low 16 bits of the register only
  };
  std::array<Slot, 4> slot{};

  bool has_memory = false, memory_read = false, memory_written = false;
  std::uint16_t memory_size = 0;

  // Operands that the opcode implies.
  std::uint16_t gpr_read = 0, gpr_written = 0;  ///< bit n: Gpr n; only RAX, RCX, RDX, RBX
  bool xmm0_read = false, xmm0_written = false;

  std::uint64_t flags_tested = 0;   ///< status flags that its result depends on
  std::uint64_t flags_read = 0;     ///< … and those that must hold the guest's values before, to be right after
  std::uint64_t flags_written = 0;  ///< status flags that are different after

  Unit unit = Unit::Integer;
  bool uses_mxcsr = false;    ///< rounds or raises SIMD floating-point exceptions
  bool may_fault = false;     ///< the host may raise #DE, #XM, #MF or #GP
  bool bit_string = false;    ///< BT and its kin on memory: the register operand reaches beyond the operand
  bool address_only = false;  ///< LEA
};

/// Whether the instruction's immediate, a byte then, is part of its canonical form, instead of an operand.
bool bakes_immediate(const Insn& insn);

/// Whether Insn::operand_size, which no explicit operand shows, changes what the instruction does.
bool depends_on_operand_size(ZydisMnemonic mnemonic);

/// False when the instruction cannot be written so.
bool canonicalize(const Insn& insn, Canonical& canonical);

}  // namespace doppel::isa
