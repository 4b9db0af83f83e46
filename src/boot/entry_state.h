#pragma once

#include <cstdint>

#include "memory/guest_memory.h"
#include "x86/cpu_state.h"

namespace doppel::boot {

/// What firmware leaves in every processor, boot processor or not: MTRRs on, all memory write-back. Kernels complain
/// when processors differ.
void apply_firmware_defaults(x86::CpuState& cpu);

/// A boot processor about to execute `entry` in 32-bit protected mode without paging: flat 4 GiB segments (CS 10h, the
/// others 18h) whose descriptors are in a GDT at layout::kBootGdt, interrupts off. That is what the Linux 32-bit
/// protocol, PVH and Multiboot all ask for.
x86::CpuState protected_mode_entry(memory::GuestMemory& memory, std::uint32_t entry);

/// The same in 64-bit mode, the first 4 GiB identity-mapped by 2 MiB pages in tables at layout::kPageTables.
x86::CpuState long_mode_entry(memory::GuestMemory& memory, std::uint64_t entry);

}  // namespace doppel::boot
