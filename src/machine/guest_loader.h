#pragma once

#include "base/result.h"
#include "machine/config.h"
#include "machine/identity.h"
#include "memory/guest_memory.h"
#include "x86/cpu_state.h"

namespace doppel::machine {

/// Does what firmware would: clears RAM, writes the tables (ACPI, SMBIOS, BIOS data area), loads the kernel. Returns
/// the boot processor's state at the kernel's entry.
Result<x86::CpuState> load_guest(memory::GuestMemory& memory, const MachineConfig& config, const Identity& identity);

/// The state of a processor that waits for its start-up IPI.
x86::CpuState application_processor_state();

/// What no machine can have, before anything is built.
Result<void> check(const MachineConfig& config);

}  // namespace doppel::machine
