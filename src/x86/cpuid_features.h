#pragma once

#include <array>
#include <cstdint>

#include "x86/cpuid_model.h"

/// Where CPUID reports each feature; SDM vol. 2, CPUID, and AMD's APM vol. 3, appendix E.
namespace doppel::x86::cpuid_table {

enum Register : std::uint8_t { kEax, kEbx, kEcx, kEdx };

/// On what a feature depends besides our emulation of it.
enum class Source : std::uint8_t {
  Host,     ///< the host has it
  HostAvx,  ///< the host has it, and AVX state
  Ours,     ///< nothing: it needs no instruction of the host's, or is a property of our own
};

enum class Offered : std::uint8_t { Both, Intel, Amd };

struct Row {
  CpuidModel::Feature feature;
  std::uint32_t leaf;  ///< subleaf 0, but for leaf 0DH: 1
  Register reg;
  std::uint8_t bit;
  Source source = Source::Host;
  Offered offered = Offered::Both;
};

using F = CpuidModel::Feature;

inline constexpr std::uint32_t subleaf_of(std::uint32_t leaf) {
  return leaf == 0xD ? 1 : 0;
}

inline constexpr std::array kRows{
    Row{F::Sse3, 1, kEcx, 0},
    Row{F::Pclmulqdq, 1, kEcx, 1},
    Row{F::Ssse3, 1, kEcx, 9},
    Row{F::Fma, 1, kEcx, 12, Source::HostAvx},
    Row{F::Cx16, 1, kEcx, 13},
    Row{F::Pcid, 1, kEcx, 17},
    Row{F::Sse41, 1, kEcx, 19},
    Row{F::Sse42, 1, kEcx, 20},
    Row{F::X2apic, 1, kEcx, 21, Source::Ours},
    Row{F::Movbe, 1, kEcx, 22},
    Row{F::Popcnt, 1, kEcx, 23},
    Row{F::TscDeadline, 1, kEcx, 24, Source::Ours},
    Row{F::Aes, 1, kEcx, 25},
    Row{F::Xsave, 1, kEcx, 26},
    Row{F::Avx, 1, kEcx, 28, Source::HostAvx},
    Row{F::F16c, 1, kEcx, 29, Source::HostAvx},
    Row{F::Rdrand, 1, kEcx, 30},

    Row{F::Fsgsbase, 7, kEbx, 0},
    Row{F::TscAdjust, 7, kEbx, 1, Source::Ours},
    Row{F::Bmi1, 7, kEbx, 3},
    Row{F::Avx2, 7, kEbx, 5, Source::HostAvx},
    Row{F::Smep, 7, kEbx, 7},
    Row{F::Bmi2, 7, kEbx, 8},
    Row{F::Erms, 7, kEbx, 9, Source::Ours},  // a REP string is one instruction to us: nothing is faster
    Row{F::Invpcid, 7, kEbx, 10},
    Row{F::Rdseed, 7, kEbx, 18},
    Row{F::Adx, 7, kEbx, 19},
    Row{F::Smap, 7, kEbx, 20},
    Row{F::Clflushopt, 7, kEbx, 23},
    Row{F::Clwb, 7, kEbx, 24},
    Row{F::Sha, 7, kEbx, 29},
    Row{F::Umip, 7, kEcx, 2},
    Row{F::Gfni, 7, kEcx, 8},
    Row{F::Vaes, 7, kEcx, 9, Source::HostAvx},
    Row{F::Vpclmulqdq, 7, kEcx, 10, Source::HostAvx},
    Row{F::Rdpid, 7, kEcx, 22},
    Row{F::Fsrm, 7, kEdx, 4, Source::Ours},
    Row{F::SpecCtrl, 7, kEdx, 26, Source::Ours, Offered::Intel},
    Row{F::ArchCapabilities, 7, kEdx, 29, Source::Ours, Offered::Intel},

    Row{F::Xsaveopt, 0xD, kEax, 0},
    Row{F::Xsavec, 0xD, kEax, 1},
    Row{F::Xgetbv1, 0xD, kEax, 2},

    Row{F::Lzcnt, 0x8000'0001, kEcx, 5},
    Row{F::Sse4a, 0x8000'0001, kEcx, 6, Source::Host, Offered::Amd},
    Row{F::Prefetchw, 0x8000'0001, kEcx, 8},
    Row{F::Page1Gb, 0x8000'0001, kEdx, 26},
    Row{F::Rdtscp, 0x8000'0001, kEdx, 27, Source::Ours},
    Row{F::Ibpb, 0x8000'0008, kEbx, 12, Source::Ours, Offered::Amd},
    Row{F::AutoIbrs, 0x8000'0021, kEax, 8, Source::Ours, Offered::Amd},
};

}  // namespace doppel::x86::cpuid_table
