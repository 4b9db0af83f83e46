#pragma once

#include <Zydis/Zydis.h>

#include <array>
#include <cstdint>

#include "x86/registers.h"

namespace doppel::isa {

/// The code segment's width; with the bytes it fixes what an instruction means.
enum class CodeSize : std::uint8_t { Bits16, Bits32, Bits64 };

enum class OperandKind : std::uint8_t {
  None,
  Gpr,      ///< `reg` 0–15
  GprHigh,  ///< AH, CH, DH, BH: `reg` 0–3
  Segment,  ///< `reg` is an x86::SegReg
  Control,  ///< CRn
  Debug,    ///< DRn
  Mmx,
  X87,  ///< ST(n)
  Xmm,
  Ymm,
  Memory,     ///< Insn::mem
  Immediate,  ///< Insn::imm[reg]
  Relative,   ///< branch target: Insn::imm[0], relative to the next instruction
  FarPointer  ///< selector in imm[1], offset in imm[0]
};

/// Which part of the encoding names a register operand.
enum class OperandField : std::uint8_t { Implied, ModrmReg, ModrmRm, Vvvv, Opcode, Is4 };

struct Operand {
  OperandKind kind = OperandKind::None;
  OperandField field = OperandField::Implied;
  std::uint8_t reg = 0;
  std::uint16_t size = 0;  ///< bytes; of a register its whole width under the name that the instruction uses
  bool read = false;
  bool written = false;
};

inline constexpr std::uint8_t kNoRegister = 0xFF;
inline constexpr std::uint8_t kRipRegister = 0x10;

struct MemoryOperand {
  std::uint8_t base = kNoRegister;   ///< Gpr number, or kRipRegister: the address of the next instruction
  std::uint8_t index = kNoRegister;  ///< Gpr number; a vector register for gathers
  std::uint8_t scale = 1;
  x86::SegReg segment = x86::SegReg::Ds;
  std::uint8_t address_size = 8;  ///< bytes: 2, 4 or 8
  bool gather = false;            ///< the index is a vector: one access an element
  bool index_ymm = false;         ///< … of 256 bits
  std::int64_t displacement = 0;
};

/// How an instruction was written, for whoever writes it again with other registers (SDM vol. 2, ch. 2).
struct Encoding {
  enum class Map : std::uint8_t { Default, Map0F, Map0F38, Map0F3A };
  Map map = Map::Default;
  std::uint8_t opcode = 0;
  std::uint8_t modrm = 0;
  bool has_modrm = false;
  bool vex = false;
  bool w = false;                 ///< REX.W or VEX.W
  bool l = false;                 ///< VEX.L
  std::uint8_t vvvv = 0;          ///< VEX.vvvv, not inverted
  bool operand_size = false;      ///< 66, as a prefix or as part of the opcode
  std::uint8_t repeat = 0;        ///< F2 or F3 where it counts, else 0
  std::uint8_t immediate_at = 0;  ///< offset of the immediate, which reaches to the instruction's end; 0: none
};

/// The part of the processor that executes an instruction; it decides which of CR0.EM, CR0.TS, CR4.OSFXSR, CR4.OSXSAVE
/// and XCR0 must allow it (SDM vol. 3, table 2-2 and 13.1).
enum class Unit : std::uint8_t { Integer, X87, Mmx, Sse, Avx };

/// One decoded instruction: all that its semantics need, none of its encoding beyond what a re-encoder wants. Immutable
/// once decoded.
struct Insn {
  ZydisMnemonic mnemonic = ZYDIS_MNEMONIC_INVALID;
  std::uint8_t length = 0;        ///< bytes
  std::uint8_t operand_size = 0;  ///< effective: 2, 4 or 8 bytes (the OSZ attribute, not that of byte forms)
  std::uint8_t address_size = 0;  ///< effective: 2, 4 or 8 bytes
  CodeSize code_size = CodeSize::Bits64;
  bool lock = false, rep = false, repne = false;
  bool string = false;  ///< MOVSD and CMPSD are mnemonics of SSE2, too
  Unit unit = Unit::Integer;
  bool far_branch = false;  ///< JMP, CALL or RET to another segment, which share their mnemonics with the near ones
  std::uint8_t operand_count = 0;  ///< explicit ones
  std::array<Operand, 5> op{};
  MemoryOperand mem{};  ///< explicit, or implied: XLAT's, and the source of OUTS, LODS, MOVS and CMPS (for its segment)
  std::array<std::uint64_t, 2> imm{};  ///< sign-extended where the manual says so
};

}  // namespace doppel::isa
