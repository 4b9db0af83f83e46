#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "x86/cpu_state.h"

/// One experiment: a processor's user-visible state and a few instructions, to be executed at CPL 3 by the host's
/// processor and by an engine. What both make of it has to be the same.
namespace doppel::fuzz_isa {

/// Where things are, in both: below 2 GiB, so that compatibility mode reaches them.
inline constexpr std::uint64_t kCodeBase = 0x1000'0000, kCodePages = 64, kCodeSize = kCodePages * 4096;
/// Two writable pages and a read-only one, with nothing on either side. Not executable.
inline constexpr std::uint64_t kDataBase = 0x2000'0000, kWritableSize = 2 * 4096, kDataSize = 3 * 4096;
inline constexpr std::uint64_t kGsBase = kDataBase + 0x400;

/// Each case has a slot of the code, filled up with HLT: #GP ends it. The last one of a page reaches into the first one
/// of the next page, which therefore belongs to nobody.
inline constexpr std::size_t kSlotSize = 64, kSlotsPerPage = 4096 / kSlotSize;
inline constexpr std::size_t kBatch = kCodePages * (kSlotsPerPage - 1);
inline constexpr std::uint8_t kHlt = 0xF4;
constexpr std::uint64_t slot_of(std::size_t index) {
  return kCodeBase + (index / (kSlotsPerPage - 1) * kSlotsPerPage + index % (kSlotsPerPage - 1) + 1) * kSlotSize;
}

/// The selectors that Linux gives its programs.
inline constexpr std::uint16_t kUserCode32 = 0x23, kUserData = 0x2B, kUserCode64 = 0x33;

struct Image {
  std::array<std::uint64_t, 16> gpr{};
  std::uint64_t rip = 0;
  std::uint64_t rflags = x86::rflags::kReserved1 | x86::rflags::kIf;
  std::uint16_t cs = kUserCode64, ss = kUserData, ds = kUserData, es = kUserData;
  std::uint64_t gs_base = kGsBase;
  x86::FpuState fpu;
  std::array<x86::Ymm, 16> ymm;

  bool bits64() const { return cs == kUserCode64; }
};

struct Instruction {
  std::vector<std::uint8_t> bytes;
  std::string mnemonic;
  unsigned branch_offset = 0, branch_size = 0;  ///< of a relative target: in bytes, in bits
  std::string form;  ///< for the table of coverage: "register", "memory", "memory, two pages"
};

struct Case {
  Image start;
  std::vector<Instruction> instructions;  ///< one after the other from start.rip
  std::uint64_t undefined_flags = 0;      ///< those that the manuals leave undefined at some time
  bool several_accesses = false;          ///< which of them is made first is the processor's business
};

/// How a case ended: with an exception, always.
struct Outcome {
  enum class Kind : std::uint8_t {
    NotRun,
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

/// A digest of the writable pages.
inline std::uint64_t digest(const void* writable) {
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
