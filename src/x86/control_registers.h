#pragma once

#include <cstdint>

#include "x86/cpu.h"

/// Writes to control, debug and extended control registers with all their checks and side effects (mode switches, TLB
/// flushes, PDPTE loads); SDM vol. 3, 2.5, 4.10.4 and 17.2. They throw #GP(0) with nothing changed. Privilege has been
/// checked by the caller.
namespace doppel::x86 {

void write_cr0(Cpu& cpu, std::uint64_t value);
void write_cr3(Cpu& cpu, std::uint64_t value);
void write_cr4(Cpu& cpu, std::uint64_t value);
void write_efer(Cpu& cpu, std::uint64_t value);
void write_xcr0(Cpu& cpu, std::uint64_t value);
/// Applies DR7.GD (#DB) and CR4.DE (#UD for DR4 and DR5).
std::uint64_t read_debug_register(Cpu& cpu, unsigned index);
void write_debug_register(Cpu& cpu, unsigned index, std::uint64_t value);

/// After a transfer to or from [port, port + size): makes the trap of DR7's I/O breakpoints that it meets pending,
/// which exist under CR4.DE (SDM vol. 3, 17.2.4).
void note_port_access(Cpu& cpu, std::uint16_t port, unsigned size);

/// Tells the MMU of the data breakpoints in DR0–DR3 and DR7, after DR7 changed by other means.
void refresh_debug_watches(Cpu& cpu);

/// INVPCID; SDM vol. 2. `descriptor` is its 128-bit memory operand.
void invalidate_pcid(Cpu& cpu, std::uint64_t type, std::uint64_t descriptor_pcid, std::uint64_t descriptor_address);

/// Re-derives what follows from the registers after a state was loaded: MMU view, watches, Cpu::interrupt_waiting.
void state_replaced(Cpu& cpu);

}  // namespace doppel::x86
