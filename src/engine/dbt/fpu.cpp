#include "engine/dbt/fpu.h"

#include <emmintrin.h>
#include <immintrin.h>

namespace doppel::engine::dbt {

// FXSAVE and FXRSTOR move MXCSR and the XMM registers too: the host's MXCSR is put back, and no caller keeps anything
// in XMM registers across a call.

__attribute__((target("fxsr"), noinline)) void load_x87(const x86::FpuState& state) {
  const unsigned host_mxcsr = _mm_getcsr();
  asm volatile("fxrstor64 %0"
               :
               : "m"(state)
               : "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
                 "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
  _mm_setcsr(host_mxcsr);
}

__attribute__((target("fxsr"), noinline)) void save_x87(x86::FpuState& state) {
  const std::uint32_t guest_mxcsr = state.mxcsr;
  asm volatile("fxsave64 %0\n\tfninit" : "=m"(state) : : "memory");
  state.mxcsr = guest_mxcsr;
}

}  // namespace doppel::engine::dbt
