#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "isa/insn.h"

namespace doppel::engine::dbt {

/// A register number of the host's, or none.
using HostReg = std::uint8_t;
inline constexpr HostReg kNoHostReg = 0xFF;
inline constexpr HostReg kHostRcx = 1, kHostRsp = 4, kHostR9 = 9, kHostR10 = 10, kHostR11 = 11;

/// [base + index + displacement] of the host's.
struct HostMemory {
  HostReg base = kNoHostReg;
  HostReg index = kNoHostReg;
  std::int32_t displacement = 0;
};

/// An instruction as the guest wrote it.
struct SourceInsn {
  isa::Insn insn;
  isa::Encoding encoding;
  std::array<std::byte, 15> bytes{};
  std::uint16_t offset = 0;  ///< in its page
};

/// Where its operands are on the host: general registers by operand, and memory; a register operand in the ModRM.rm
/// field may be in memory instead.
struct HostOperands {
  std::array<HostReg, 5> reg{kNoHostReg, kNoHostReg, kNoHostReg, kNoHostReg, kNoHostReg};
  bool rm_in_memory = false;
  HostMemory memory;
};

inline constexpr std::size_t kMaxReencoded = 20;

/// Writes the same instruction for the host's 64-bit mode with other operands. Returns its length, or 0 where there is
/// no such encoding (a high-byte register beside one that needs REX).
std::size_t reencode(const SourceInsn& source, const HostOperands& operands, std::span<std::byte, kMaxReencoded> out);

}  // namespace doppel::engine::dbt
