#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace doppel::boot {

/// The default guest, which is part of the program: Debian's unmodified cloud kernel (a bzImage) and the initramfs that
/// guest/ describes. The bytes live as long as the program and start on a page boundary.
struct EmbeddedGuest {
  std::span<const std::byte> kernel;
  std::span<const std::byte> initramfs;

  /// A program built without having fetched the guest has none.
  bool present() const { return !kernel.empty() && !initramfs.empty(); }
};

EmbeddedGuest embedded_guest();

/// What Debian images are made with, beside Debian's packages: what runs in the guest, and the shell
/// scripts of guest/agent and guest/debian.
struct DebianRecipe {
  std::span<const std::byte> agent;
  std::string_view agent_install;     ///< the shell script that has it start with the system
  std::span<const std::byte> shares;  ///< what mounts shared directories
  std::string_view customize;
  std::string_view pack;
};

DebianRecipe debian_recipe();

}  // namespace doppel::boot
