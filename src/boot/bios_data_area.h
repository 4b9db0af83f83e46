#pragma once

#include "memory/guest_memory.h"

namespace doppel::boot {

/// Writes what a PC BIOS leaves at 400h and in the Extended BIOS Data Area: serial ports, equipment, conventional
/// memory, where the EBDA is, an empty keyboard buffer. Some kernels and memtest86+ look there.
void write_bios_data_area(memory::GuestMemory& memory);

}  // namespace doppel::boot
