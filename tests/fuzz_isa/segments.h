#pragma once

#include <array>
#include <cstdint>

/// The address space and the segments of a case, the same on both sides.
namespace doppel::fuzz_isa {

enum class Mode : std::uint8_t { Bits64, Bits32, Bits16 };
inline constexpr std::size_t kModes = 3;

/// Below 2 GiB, so that compatibility mode reaches them. The code is all of a 16-bit segment.
inline constexpr std::uint64_t kCodeBase = 0x1000'0000, kCodePages = 16, kCodeSize = kCodePages * 4096;
/// Two writable pages and a read-only one, with nothing on either side. Not executable.
inline constexpr std::uint64_t kDataBase = 0x2000'0000, kWritableSize = 2 * 4096, kDataSize = 3 * 4096;
inline constexpr std::uint64_t kFsBase = kDataBase + 0x900, kGsBase = kDataBase + 0x400;
/// A load of a 16-bit stack segment leaves the upper bits of RSP as they are, these.
inline constexpr std::uint64_t kUpperSp = 0x3000'0000, kUpperSpReach = 0x1'0000;

/// The selectors that Linux gives its programs, and those of kLocalSegments.
inline constexpr std::uint16_t kUserCode32 = 0x23, kUserData = 0x2B, kUserCode64 = 0x33, kUserCode16 = 0x0F;

/// What a program may ask Linux to put into its LDT, by modify_ldt(2); all of DPL 3.
struct LocalSegment {
  std::uint32_t base = 0, limit = 0;
  bool big = false;           ///< D/B
  std::uint8_t contents = 0;  ///< 0 data, 1 data that expands down, 2 code
  bool read_only = false;     ///< of code: execute-only
  bool present = true;

  constexpr bool code() const { return contents == 2; }
  constexpr unsigned type() const { return (read_only ? 0U : 2U) | contents << 2 | 1; }
  constexpr std::uint64_t descriptor() const {
    return (limit & 0xFFFF) | std::uint64_t{base & 0xFF'FFFF} << 16 | std::uint64_t{type() | 0x70U} << 40 |
           std::uint64_t{present} << 47 | std::uint64_t{limit >> 16 & 0xF} << 48 | std::uint64_t{big} << 54 |
           std::uint64_t{base >> 24} << 56;
  }
};
inline constexpr std::array<LocalSegment, 9> kLocalSegments{{
    {},
    {kCodeBase, 0xFFFF, false, 2},
    {kDataBase - 0x800, 0x2FFF, false, 0},
    {kDataBase, 0x0FFF, false, 1},
    {kDataBase, 0x1FFF, true, 0},
    {kDataBase, 0x2FFF, false, 0, true},
    {kDataBase - 0x1'0000, 0x1'0FFF, true, 1},
    {kDataBase, 0x2FFF, false, 0, false, false},
    {kCodeBase, 0xFFFF, true, 2, true},
}};
constexpr std::uint16_t local_selector(std::size_t index) {
  return static_cast<std::uint16_t>(index << 3 | 7);
}
/// Null if it is not one of kLocalSegments.
constexpr const LocalSegment* local_segment(std::uint16_t selector) {
  const std::size_t index = selector >> 3;
  return (selector & 7) == 7 && index > 0 && index < kLocalSegments.size() ? &kLocalSegments[index] : nullptr;
}
constexpr std::uint64_t segment_base(std::uint16_t selector) {
  const LocalSegment* local = local_segment(selector);
  return local == nullptr ? 0 : local->base;
}

}  // namespace doppel::fuzz_isa
