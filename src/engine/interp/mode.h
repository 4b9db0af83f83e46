#pragma once

#include <cstdint>

#include "isa/insn.h"
#include "x86/cpu_state.h"

namespace doppel::engine::interp {

/// Everything about the processor that decoded blocks depend on, packed into a key: blocks of different modes live side
/// by side.
struct Mode {
  std::uint32_t key = 0;

  enum Bit : std::uint32_t {
    kCodeSizeMask = 3,    ///< isa::CodeSize
    kProtected = 1 << 2,  ///< CR0.PE, and not virtual-8086 mode
    kFlatEs = 1 << 3,     ///< ES, SS, DS: base 0, no limit, writable
    kFlatSs = 1 << 4,
    kFlatDs = 1 << 5,
    kX87 = 1 << 7,      ///< x87, MMX instructions need no check …
    kSse = 1 << 8,      ///< … nor do SSE
    kAvx = 1 << 9,      ///< … nor AVX
    kSingle = 1 << 10,  ///< one instruction a block
    kAlone = 1 << 6,    ///< the same, repetitions at once: another engine executes the rest
    kUser = 1 << 11,    ///< CPL 3: other pages may be fetched from, but the code is the same
  };
  bool has(std::uint32_t bits) const { return (key & bits) == bits; }
  isa::CodeSize code_size() const { return static_cast<isa::CodeSize>(key & kCodeSizeMask); }
  bool code_64() const { return code_size() == isa::CodeSize::Bits64; }
  /// What decoded blocks are told apart by.
  std::uint32_t block_key() const { return key & ~kUser; }

  static Mode of(const x86::CpuState& state, bool single);
};

}  // namespace doppel::engine::interp
