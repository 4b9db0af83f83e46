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
  Step,      ///< the same, but execute one instruction, between begin_step() and end_step(), and call again: TF is set,
             ///< an instruction breakpoint is armed, or an event waits behind an STI or SS shadow
  Idle,      ///< halted or waiting for a SIPI, and nothing has arrived
  Stop,      ///< Attention::kStop was set; the bit is cleared
};

/// Everything that waits between two instructions, by priority: INIT, SIPI, debug traps (state.pending_debug), NMI,
/// maskable interrupts; honours and then expires the STI and SS shadows. To be called when Attention is not clear, and
/// after any instruction that may have made an event deliverable (SystemOps; a store to RFLAGS; a store or load while
/// Mmu::has_watches()). Wakes a halted processor. Throws Shutdown.
///
/// When it stops a repeated string instruction between two iterations, an engine sets RF before the call (SDM vol. 3,
/// 17.3.1.1).
Boundary service_events(Cpu& cpu);

/// Around the one instruction of Boundary::Step. begin_step raises #DB where DR7 has an instruction breakpoint at
/// CS:RIP, unless RF is set, and clears RF; end_step, which is for instructions that have completed, makes the
/// single-step trap pending.
void begin_step(Cpu& cpu);
void end_step(Cpu& cpu);

}  // namespace doppel::x86
