#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "memory/guest_memory.h"

namespace doppel::boot {

/// A file that is handed to the kernel as it is, with its own arguments (Multiboot, PVH).
struct Module {
  std::span<const std::byte> bytes;
  std::string command_line;
};

/// What goes into the guest's memory along with the kernel. The spans belong to the caller and are only read while
/// loading.
struct BootOptions {
  std::string command_line;
  /// Parts of one initial RAM file system, laid out one after another on 4-byte boundaries.
  std::vector<std::span<const std::byte>> initrds;
  std::vector<Module> modules;
  /// Where the ACPI tables begin; 0 when there are none.
  memory::GuestPhysical rsdp = 0;
  /// Bytes for the guest's random number generator, at most 256; none when empty.
  std::vector<std::byte> random_seed;
  /// Unpack a compressed Linux kernel here instead of letting it unpack itself, which takes long in an interpreter. The
  /// kernel then runs where it was linked to: its address is not randomized.
  bool unpack_on_host = true;
};

/// 32 bytes of the host's entropy, for BootOptions::random_seed.
std::vector<std::byte> fresh_random_seed();

}  // namespace doppel::boot
