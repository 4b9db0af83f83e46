#pragma once

#include <cstdint>

#include "x86/cpu.h"

/// Exceptions, interrupts and what happens between two instructions; SDM vol. 3, ch. 6 (6.9 has the priorities).
namespace doppel::x86 {

/// Delivers an exception of the instruction at state.rip (the engine has restored it): pushes, gates, IST, double
/// faults; sets CR2, and RF in the pushed image for faults. Throws Shutdown on a triple fault, nothing else.
void deliver_exception(Cpu& cpu, const Fault& fault);

/// INT n, INT3, INTO, INT1: state.rip is the next instruction's. Throws Fault when the gate may not be used.
enum class SoftwareInterrupt : std::uint8_t { IntN, Int3, Into, Int1 };
void deliver_software_interrupt(Cpu& cpu, std::uint8_t vector, SoftwareInterrupt kind);

/// What the engine does next.
enum class Boundary : std::uint8_t {
  Continue,  ///< fetch at CS:RIP, which may have changed
  Idle,      ///< halted or waiting for a SIPI, and nothing has arrived
  Stop,      ///< Attention::kStop was set; the bit is cleared
};

/// Everything that waits between two instructions, by priority: INIT, SIPI, debug traps (state.pending_debug), NMI,
/// maskable interrupts; honours and then expires the STI and SS shadows. To be called when Attention is not clear, and
/// after any instruction that may have made an event deliverable (SystemOps; a store to RFLAGS). Wakes a halted
/// processor. Throws Shutdown.
Boundary service_events(Cpu& cpu);

/// Marks the end of an instruction for single-step: with TF set at its start, a #DB trap is pending. Data and
/// instruction breakpoints of DR7 are Mmu::Watch and this.
void check_instruction_breakpoints(Cpu& cpu);

}  // namespace doppel::x86
