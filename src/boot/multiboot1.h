#pragma once

#include <cstddef>
#include <span>

#include "base/result.h"
#include "boot/options.h"
#include "memory/guest_memory.h"
#include "x86/cpu_state.h"

namespace doppel::boot {

/// Whether the file's first 8 KiB hold a Multiboot header (Multiboot Specification 0.6.96, 3.1).
bool has_multiboot1_header(std::span<const std::byte> file);

/// Loads a Multiboot 1 kernel, by its ELF program headers or by the addresses in its header (the "a.out kludge"), and
/// returns the boot processor's state at its entry: 32-bit protected mode, EAX = magic, EBX = the Multiboot information
/// (3.2, 3.3) with memory sizes and map, command line, modules and boot loader name. The initial RAM file system is the
/// first module. The file is not trusted. A header that asks for a feature that we do not have (a video mode, for
/// instance, only counts as wish) is an error.
Result<x86::CpuState> load_multiboot1(memory::GuestMemory& memory, std::span<const std::byte> file,
                                      const BootOptions& options);

}  // namespace doppel::boot
