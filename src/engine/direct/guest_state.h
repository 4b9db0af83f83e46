#pragma once

#include <ucontext.h>

#include "engine/direct/shared_state.h"
#include "x86/cpu_state.h"

/// The registers that a program sees, to and from a process. RIP, segments and what it cannot change stay behind.
namespace doppel::engine::direct {

void put_state(const x86::CpuState& state, Shared& shared);
void take_state(const Shared& shared, x86::CpuState& state);
/// Makes it an image that the processor loads, whatever guest code has written there.
void settle_xsave(Shared::Xsave& xsave);
/// What a signal has saved, as if the process had handed it over itself.
void take_frame(const ucontext_t& frame, const Shared::Xsave& xsave, Shared& shared);

}  // namespace doppel::engine::direct
