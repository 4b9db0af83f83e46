#pragma once

#include <cstdint>

#include "isa/insn.h"
#include "isa/system.h"
#include "x86/cpu.h"

/// What the system instructions' helpers read and write: registers, memory and flags by operand size, as the manuals
/// define it (SDM vol. 1, 3.4.1.1). Sizes are bytes.
namespace doppel::isa {

std::uint64_t read_gpr(const x86::CpuState& state, unsigned reg, unsigned size);
/// Four bytes clear the upper half; one and two leave the rest of the register alone.
void write_gpr(x86::CpuState& state, unsigned reg, unsigned size, std::uint64_t value);

/// 1, 2, 4 or 8 bytes with the rights of an ordinary data access.
std::uint64_t read_memory(x86::Cpu& cpu, x86::LinearAddress address, unsigned size);
void write_memory(x86::Cpu& cpu, x86::LinearAddress address, unsigned size, std::uint64_t value);

/// A part of a memory operand of several, `distance` bytes from its start: the next part of one that ends with the
/// addresses is at their beginning.
std::uint64_t read_part(x86::Cpu& cpu, const Insn& insn, unsigned distance, unsigned size);

/// A general register, memory or immediate operand, zero-extended.
std::uint64_t read_operand(x86::Cpu& cpu, const Insn& insn, const Operand& operand);
void write_operand(x86::Cpu& cpu, const Insn& insn, const Operand& operand, std::uint64_t value);

/// A selector or machine status word operand: 16 bits wherever it is.
std::uint16_t read_word_operand(x86::Cpu& cpu, const Insn& insn, const Operand& operand);
/// The same as a destination: `value` fills a register by its operand size, but only 16 bits go to memory.
void write_word_operand(x86::Cpu& cpu, const Insn& insn, const Operand& operand, std::uint64_t value);

/// Replaces the flags of `mask` by those of `value`.
inline void set_flags(x86::CpuState& state, std::uint64_t mask, std::uint64_t value) {
  state.set_rflags((state.rflags() & ~mask) | (value & mask));
}

/// Width of an address-sized register's wrap: adds to it, keeping the upper bits of 16-bit registers only.
/// Bytes of the offset in a far pointer in memory: AMD's processors have no 64-bit ones (APM vol. 3, CALL far).
unsigned far_offset_size(const x86::Cpu& cpu, const Insn& insn);
void add_to_address_register(x86::CpuState& state, unsigned reg, unsigned address_size, std::int64_t delta);

}  // namespace doppel::isa
