#pragma once

#include <array>
#include <cstdint>

#include "isa/insn.h"
#include "isa/system.h"
#include "x86/mmu.h"

namespace doppel::isa {

struct DecodedOp;

/// What generated code knows of the processor that it runs on. An engine's context derives from it and holds the
/// CpuState at the fixed distance that it gives to ThunkCache. Belongs to the vCPU's thread.
struct ThunkContext {
  const x86::Mmu::TlbEntry* tlb = nullptr;  ///< of the view that data accesses have now
  std::uint64_t block_rip = 0;              ///< where the running block starts
  std::uint64_t zero = 0;                   ///< stands in for an absent base or index register
  std::uint32_t host_mxcsr = 0x1F80;        ///< what the host's own code runs with
};

/// Executes one DecodedOp and goes on to the next by calling its handler last, or returns to end the block.
using Handler = void (*)(ThunkContext* context, const DecodedOp* op);

/// Executes an instruction of the host's on the operands of a DecodedOp, its memory operand at `memory`. Returns
/// kThunkDone, or the vector of the exception that the host raised; then nothing but MXCSR has changed.
using CoreThunk = int (*)(ThunkContext* context, const DecodedOp* op, void* memory);
inline constexpr int kThunkDone = -1;

/// One instruction of a block, ready to execute; an array of them, in order, is a block. Generated code reads it.
/// Offsets of registers count from the ThunkContext.
struct alignas(64) DecodedOp {
  Handler handler = nullptr;
  union {
    CoreThunk core = nullptr;  ///< of an instruction that the host executes
    SystemOp system;           ///< of one that isa/system executes
  };
  const Insn* insn = nullptr;
  std::uint64_t imm = 0;
  std::int32_t displacement = 0;
  std::array<std::uint16_t, 4> reg{};  ///< of the explicit register operands, by operand
  std::uint16_t base = 0, index = 0;   ///< of the address's registers; ThunkContext::zero where there is none
  std::uint16_t segment_base = 0;      ///< ThunkContext::zero where there is none
  std::uint16_t start = 0, next = 0;   ///< bytes from the block's start to this instruction and to its end
  std::uint8_t size = 0;               ///< of the memory operand, in bytes
  std::uint8_t scale = 1;              ///< of the index register
  std::uint8_t ordinal = 0;            ///< instructions of the block before this one
  /// The memory operand's linear address is base + index * scale + displacement + segment_base, without further ado.
  bool flat = false;
};
static_assert(sizeof(DecodedOp) == 64);

}  // namespace doppel::isa
