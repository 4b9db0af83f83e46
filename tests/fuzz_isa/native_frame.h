#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "fuzz_isa/segments.h"

namespace doppel::fuzz_isa {

/// What the native side's assembly loads a case from and saves it to; at kFrame of the child process, where code needs
/// no register to name it. Its place gives the upper bits of a 16-bit stack pointer; cases that meet it are not judged.
struct NativeFrame {
  alignas(64) std::array<std::uint8_t, 1024> xsave;  ///< standard form (SDM vol. 1, 13.4)
  std::array<std::uint64_t, 16> gpr;
  std::uint64_t rip, cs, rflags, rsp, ss;  ///< what IRETQ takes
  std::uint64_t ds, es, fs, gs, fs_base, gs_base;
  /// What a signal interrupted.
  std::uint64_t signal_ds, signal_es, signal_fs, signal_gs, signal_fs_base, signal_gs_base;
};
inline constexpr std::uint64_t kFrame = kUpperSp, kFrameSize = kUpperSpReach;
static_assert(offsetof(NativeFrame, gpr) == 0x400 && offsetof(NativeFrame, rip) == 0x480 &&
              offsetof(NativeFrame, rflags) == 0x490 && offsetof(NativeFrame, ss) == 0x4A0 &&
              offsetof(NativeFrame, ds) == 0x4A8 && offsetof(NativeFrame, fs_base) == 0x4C8 &&
              offsetof(NativeFrame, signal_ds) == 0x4D8 && offsetof(NativeFrame, signal_gs_base) == 0x500);

/// The monitor's own, where an address of 32 bits does not lead, nor one of chance.
struct NativeHome {
  std::uint64_t rsp;
  std::uint64_t fs_base;  ///< to be set before a signal is caught
};
inline constexpr std::uint64_t kHome = 0x2345'6780'0000;

extern "C" {
/// Runs cases until doppel_fuzz_isa_next() or _ended() returns false.
void doppel_fuzz_isa_run();
/// Where a signal handler goes on: to the next case, or back out of doppel_fuzz_isa_run().
void doppel_fuzz_isa_enter();
void doppel_fuzz_isa_leave();
/// Where the way out of a case leads, in 64-bit code.
void doppel_fuzz_isa_end();
/// A signal handler with the flags and FS of the monitor; calls doppel_fuzz_isa_signal().
void doppel_fuzz_isa_entry();
/// Called by doppel_fuzz_isa_run(): fills the frame with the first case.
bool doppel_fuzz_isa_next();
/// Called when a case has run through, with its state in the frame: fills the frame with the next.
bool doppel_fuzz_isa_ended();
}

}  // namespace doppel::fuzz_isa
