#include "engine/direct/guest_state.h"

#include <array>
#include <cstring>

namespace doppel::engine::direct {

namespace {

namespace rflags = x86::rflags;

constexpr std::uint64_t kArithmetic = rflags::kCf | rflags::kPf | rflags::kAf | rflags::kZf | rflags::kSf | rflags::kDf;

/// The legacy region of XSAVE (SDM vol. 1, table 10-2).
constexpr std::size_t kX87Bytes = 160, kXmmAt = 160, kXmmBytes = 16;
constexpr std::uint64_t kX87 = 1, kSse = 2, kAvx = 4;
constexpr std::uint32_t kMxcsrBits = 0xFFFF;

/// By number, as signals save them.
constexpr std::array<int, 16> kGregs{REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                     REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

}  // namespace

void put_state(const x86::CpuState& state, Shared& shared) {
  shared.gpr = state.gpr;
  shared.fs_base = state.seg(x86::SegReg::Fs).base;
  shared.rflags = (state.rflags() & (kArithmetic | rflags::kOf)) | rflags::kReserved1 | rflags::kIf;
  Shared::Xsave& xsave = shared.xsave;
  std::memcpy(xsave.legacy.data(), &state.fpu, kX87Bytes);
  for (std::size_t i = 0; i < state.ymm.size(); ++i) {
    const auto& qword = state.ymm[i].qword;
    std::memcpy(&xsave.legacy[kXmmAt + kXmmBytes * i], qword.data(), kXmmBytes);
    xsave.high[i] = {qword[2], qword[3]};
  }
  xsave.xstate_bv = kXsaveComponents;
}

void take_state(const Shared& shared, x86::CpuState& state) {
  state.gpr = shared.gpr;
  state.set_rflags((state.rflags() & ~(kArithmetic | rflags::kOf)) | (shared.rflags & (kArithmetic | rflags::kOf)));
  const Shared::Xsave& xsave = shared.xsave;
  // What is in its initial state need not have been written.
  const std::uint64_t written = xsave.xstate_bv;
  x86::FpuState fpu;
  if ((written & kX87) != 0) {
    std::memcpy(static_cast<void*>(&fpu), xsave.legacy.data(), kX87Bytes);
  } else {
    std::memcpy(&fpu.mxcsr, &xsave.legacy[offsetof(x86::FpuState, mxcsr)], sizeof fpu.mxcsr);
  }
  state.fpu.fcw = fpu.fcw;
  state.fpu.fsw = fpu.fsw;
  state.fpu.ftw = fpu.ftw;
  state.fpu.fop = fpu.fop;
  state.fpu.fip = fpu.fip;
  state.fpu.fdp = fpu.fdp;
  state.fpu.mxcsr = fpu.mxcsr & kMxcsrBits;
  state.fpu.st = fpu.st;
  for (std::size_t i = 0; i < state.ymm.size(); ++i) {
    auto& qword = state.ymm[i].qword;
    qword = {};
    if ((written & kSse) != 0) std::memcpy(qword.data(), &xsave.legacy[kXmmAt + kXmmBytes * i], kXmmBytes);
    if ((written & kAvx) != 0) {
      qword[2] = xsave.high[i][0];
      qword[3] = xsave.high[i][1];
    }
  }
}

void take_frame(const ucontext_t& frame, const Shared::Xsave& xsave, Shared& shared) {
  for (std::size_t i = 0; i < kGregs.size(); ++i)
    shared.gpr[i] = static_cast<std::uint64_t>(frame.uc_mcontext.gregs[kGregs[i]]);
  shared.rflags = static_cast<std::uint64_t>(frame.uc_mcontext.gregs[REG_EFL]);
  shared.xsave = xsave;
}

void settle_xsave(Shared::Xsave& xsave) {
  xsave.xstate_bv &= kXsaveComponents;
  xsave.xcomp_bv = 0;
  xsave.reserved = {};
  std::uint32_t mxcsr = 0;
  std::memcpy(&mxcsr, &xsave.legacy[offsetof(x86::FpuState, mxcsr)], sizeof mxcsr);
  mxcsr &= kMxcsrBits;
  std::memcpy(&xsave.legacy[offsetof(x86::FpuState, mxcsr)], &mxcsr, sizeof mxcsr);
}

}  // namespace doppel::engine::direct
