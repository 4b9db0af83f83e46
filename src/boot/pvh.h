#pragma once

#include <cstddef>
#include <span>

#include "base/result.h"
#include "boot/elf.h"
#include "boot/options.h"
#include "memory/guest_memory.h"
#include "x86/cpu_state.h"

namespace doppel::boot {

/// Whether the file says where it wants to be entered by PVH (the note XEN_ELFNOTE_PHYS32_ENTRY).
bool has_pvh_entry(const ElfFile& elf);

/// Loads an ELF kernel with a PVH entry point and returns the boot processor's state there (Xen, docs/misc/pvh.pandoc:
/// 32-bit protected mode, EBX = hvm_start_info). The initial RAM file system is the first module, BootOptions::modules
/// follow. The file is not trusted.
Result<x86::CpuState> load_pvh(memory::GuestMemory& memory, std::span<const std::byte> file,
                               const BootOptions& options);

}  // namespace doppel::boot
