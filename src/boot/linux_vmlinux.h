#pragma once

#include <cstddef>
#include <span>

#include "base/result.h"
#include "boot/linux_params.h"
#include "boot/options.h"
#include "memory/guest_memory.h"
#include "x86/cpu_state.h"

namespace doppel::boot {

/// Loads an unpacked Linux kernel (the ELF file `vmlinux`) where it was linked to and enters it as its own decompressor
/// would: 64-bit mode, or 32-bit protected mode for an i386 kernel, boot_params in RSI. No relocation is needed there.
/// `header` is the bzImage's that it came from, or LinuxSetupHeader::synthetic(). The file is not trusted.
Result<x86::CpuState> load_linux_vmlinux(memory::GuestMemory& memory, std::span<const std::byte> file,
                                         const LinuxSetupHeader& header, const BootOptions& options);

}  // namespace doppel::boot
