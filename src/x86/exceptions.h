#pragma once

#include "x86/event_delivery.h"

namespace doppel::x86 {

/// Delivers an event; an exception on the way is delivered instead, or a double fault, as SDM vol. 3, table 6-5 has it.
/// Throws Shutdown when a double fault cannot be delivered.
void deliver_or_escalate(Cpu& cpu, Event event);

/// What DR6 says of a #DB: of the four breakpoints, just these.
void record_debug_status(CpuState& state, std::uint64_t bits_set);

}  // namespace doppel::x86
