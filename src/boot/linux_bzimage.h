#pragma once

#include <cstddef>
#include <span>

#include "base/result.h"
#include "boot/options.h"
#include "memory/guest_memory.h"
#include "x86/cpu_state.h"

namespace doppel::boot {

/// Loads a Linux bzImage (Documentation/arch/x86/boot.rst) and returns the boot processor's state at its entry: the
/// 64-bit one where the kernel has it, else the 32-bit one. With BootOptions::unpack_on_host, a kernel whose
/// compression is known is unpacked and entered directly. Only the initial RAM file systems of the options are used,
/// not the modules.
///
/// The file is not trusted: whatever it says, nothing outside the guest's RAM is touched, and a file that cannot be
/// loaded is an error that tells why.
Result<x86::CpuState> load_linux_bzimage(memory::GuestMemory& memory, std::span<const std::byte> image,
                                         const BootOptions& options);

}  // namespace doppel::boot
