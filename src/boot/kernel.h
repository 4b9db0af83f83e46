#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/result.h"
#include "boot/options.h"
#include "memory/guest_memory.h"
#include "x86/cpu_state.h"

namespace doppel::boot {

/// What a file can be booted as.
enum class KernelKind : std::uint8_t {
  LinuxBzImage,
  Pvh,  ///< ELF with a PVH entry point, such as Linux's vmlinux
  Multiboot1,
  LinuxVmlinux,  ///< 64-bit ELF entered at a physical address, without a note
};

/// By its contents. For anything else the error says what the file looks like instead (a compressed kernel, a disk
/// image, a script, ...) and what is expected.
Result<KernelKind> identify_kernel(std::span<const std::byte> file);

/// Loads a kernel of any kind and returns the boot processor's state at its entry. The guest's RAM must be as after
/// power-up. Nothing is executed; on an error, RAM holds rubbish and must not be run.
Result<x86::CpuState> load_kernel(memory::GuestMemory& memory, std::span<const std::byte> file,
                                  const BootOptions& options);

}  // namespace doppel::boot
