#include <emmintrin.h>
#include <sched.h>

#include "engine/interp/handlers.h"

/// Instructions that change nothing that a program could see.
namespace doppel::engine::interp {

namespace {

void no_operation(ThunkContext* context, const DecodedOp* op) {
  return next(context, op);
}

void full_fence(ThunkContext* context, const DecodedOp* op) {
  _mm_mfence();
  return next(context, op);
}

/// A guest that spins waits for another of its processors, which may be waiting for this host processor.
void pause(ThunkContext* thunk_context, const DecodedOp* op) {
  constexpr std::uint32_t kPausesPerYield = 64;
  Context& context = context_of(thunk_context);
  if (++context.pauses % kPausesPerYield == 0) {
    sched_yield();
  } else {
    _mm_pause();
  }
  return next(thunk_context, op);
}

}  // namespace

Handler hint_handler(const isa::Insn& insn) {
  switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_NOP:
    case ZYDIS_MNEMONIC_PREFETCH:
    case ZYDIS_MNEMONIC_PREFETCHNTA:
    case ZYDIS_MNEMONIC_PREFETCHT0:
    case ZYDIS_MNEMONIC_PREFETCHT1:
    case ZYDIS_MNEMONIC_PREFETCHT2:
    case ZYDIS_MNEMONIC_PREFETCHW:
    case ZYDIS_MNEMONIC_PREFETCHWT1:
    case ZYDIS_MNEMONIC_LFENCE:
      return no_operation;
    case ZYDIS_MNEMONIC_MFENCE:
    case ZYDIS_MNEMONIC_SFENCE:
      return full_fence;
    case ZYDIS_MNEMONIC_PAUSE:
      return pause;
    default:
      return nullptr;
  }
}

}  // namespace doppel::engine::interp
