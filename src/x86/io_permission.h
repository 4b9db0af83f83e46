#pragma once

#include <cstdint>

#include "x86/cpu.h"

namespace doppel::x86 {

/// Whether IN and OUT may touch ports [port, port + size): always in real mode and where CPL is at most IOPL, else as
/// the TSS's I/O permission bit map says; SDM vol. 1, 19.5. Throws #GP(0).
void check_io_permission(Cpu& cpu, std::uint16_t port, unsigned size);

}  // namespace doppel::x86
