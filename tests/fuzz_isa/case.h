#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "fuzz_isa/form.h"
#include "fuzz_isa/segments.h"
#include "x86/cpu_state.h"

/// One experiment: a processor's user-visible state and a few instructions, to be executed at CPL 3 by the host's
/// processor and by an engine. What both make of it has to be the same.
namespace doppel::fuzz_isa {

/// Each case has a slot of the code, filled up with HLT: #GP ends it. The last one of a page reaches into the first one
/// of the next page, which therefore belongs to nobody.
inline constexpr std::size_t kSlotSize = 128, kSlotsPerPage = 4096 / kSlotSize;
inline constexpr std::size_t kBatch = kCodePages * (kSlotsPerPage - 1);
inline constexpr std::uint8_t kHlt = 0xF4;
constexpr std::uint64_t slot_of(std::size_t index) {
  return kCodeBase + (index / (kSlotsPerPage - 1) * kSlotsPerPage + index % (kSlotsPerPage - 1) + 1) * kSlotSize;
}

/// Where a case that runs through jumps to, in 64-bit code. On the host's side that leads to what saves its state, on
/// an engine's to an INT3.
inline constexpr std::uint64_t kWayOut = 0x3200'0000;
/// No longer is the jump there.
inline constexpr std::uint64_t kWayOutJump = 8;

struct Image {
  std::array<std::uint64_t, 16> gpr{};
  std::uint64_t rip = 0;
  std::uint64_t rflags = x86::rflags::kReserved1 | x86::rflags::kIf;
  std::uint16_t cs = kUserCode64, ss = kUserData, ds = kUserData, es = kUserData, fs = 0, gs = 0;
  std::uint64_t fs_base = kFsBase, gs_base = kGsBase;
  x86::FpuState fpu;
  std::array<x86::Ymm, 16> ymm;

  Mode mode() const { return cs == kUserCode64 ? Mode::Bits64 : cs == kUserCode32 ? Mode::Bits32 : Mode::Bits16; }
  bool bits64() const { return mode() == Mode::Bits64; }
  /// The address of the first instruction.
  std::uint64_t linear_rip() const { return mode() == Mode::Bits16 ? rip + kCodeBase : rip; }
};

struct Instruction {
  std::array<std::uint8_t, 15> bytes{};
  std::uint8_t length = 0;
  std::uint16_t mnemonic = 0;                       ///< ZydisMnemonic
  std::uint8_t branch_offset = 0, branch_size = 0;  ///< of a relative target: in bytes, in bits
  bool branches = false;                            ///< relative or not
  std::uint64_t branch_target = 0;                  ///< of a relative one: linear
  Reached reached;                                  ///< for the table of coverage
};

struct Case {
  Image start;
  std::vector<Instruction> instructions;  ///< one after the other from start.rip
  std::uint64_t undefined_flags = 0;      ///< those that the manuals leave undefined at some time
  bool several_accesses = false;          ///< which of them is made first is the processor's business
  bool wraps = false;                     ///< may access what lies at both ends of a segment of 64 KiB
  bool looks_far_up = false;              ///< how much of the stack it looks at is the processor's business
  bool far_calls = false;                 ///< may call other code by the stack as that sees it
  bool gathers = false;                   ///< may be interrupted between two elements by a pending trap
};

/// How a case ended.
struct Outcome {
  enum class Kind : std::uint8_t {
    NotRun,
    End,  ///< it ran through; RIP and CS are not known
    Exception,
    Endless,     ///< had to be stopped
    SystemCall,  ///< strayed into code that is one; nothing can be compared
    Broken,      ///< the engine left in an unexpected way
  };
  Kind kind = Kind::NotRun;
  std::uint8_t vector = 0;
  std::uint32_t error_code = 0;
  std::uint64_t address = 0;  ///< CR2, of a page fault
  std::uint64_t memory = 0;   ///< digest of the writable pages
  Image end;
};

using Memory = std::array<std::uint64_t, kDataSize / 8>;

/// A digest of the writable pages; 0 when they hold what they held at the start.
inline std::uint64_t digest(const void* writable, const Memory& start) {
  if (std::memcmp(writable, start.data(), kWritableSize) == 0) return 0;
  const auto* words = static_cast<const std::uint64_t*>(writable);
  std::uint64_t a = 1, b = 2, c = 3, d = 4;
  for (std::size_t i = 0; i < kWritableSize / 8; i += 4) {
    a = (a ^ words[i]) * 0x9E37'79B9'7F4A'7C15;
    b = (b ^ words[i + 1]) * 0xC2B2'AE3D'27D4'EB4F;
    c = (c ^ words[i + 2]) * 0x1656'67B1'9E37'79F9;
    d = (d ^ words[i + 3]) * 0x27D4'EB2F'1656'67C5;
  }
  return (a >> 29 ^ a) + (b >> 31 ^ b) * 3 + (c >> 30 ^ c) * 5 + (d >> 28 ^ d) * 7;
}

}  // namespace doppel::fuzz_isa
