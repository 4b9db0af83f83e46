#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "boot/options.h"
#include "boot/ram_plan.h"

namespace doppel::boot {

/// The setup header of a Linux kernel: the bytes from 1F1h of its image on, and their meaning (Linux,
/// Documentation/arch/x86/boot.rst). Fields that the kernel's protocol version does not know read as their defaults.
class LinuxSetupHeader {
 public:
  static constexpr std::size_t kOffset = 0x1F1;

  /// Reads the header of a bzImage; errors say what is wrong with it.
  static Result<LinuxSetupHeader> parse(std::span<const std::byte> image);
  /// The header for a kernel that comes without one (a bare vmlinux).
  static LinuxSetupHeader synthetic();

  std::uint16_t version() const;
  bool loaded_high() const;
  /// Where in the file the part that runs in protected mode starts.
  std::size_t setup_size() const;
  /// Length of the protected-mode part according to the header.
  std::uint64_t system_size() const;
  std::uint64_t initrd_addr_max() const;
  std::uint32_t command_line_limit() const;
  bool has_64_bit_entry() const;
  std::uint64_t preferred_address() const;
  /// Memory needed from the load address on until the kernel reads the memory map; 0 when the kernel does not say.
  std::uint64_t init_size() const;
  /// The compressed kernel inside the protected-mode part, as far as the file goes; empty when the kernel does not say.
  std::span<const std::byte> payload(std::span<const std::byte> system) const;

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  template <class T>
  T field(std::size_t image_offset) const;

  std::vector<std::byte> bytes_;
};

/// Fills boot_params (the "zero page") at layout::kZeroPage and everything that it points to: command line, initial RAM
/// file system, E820 map, ACPI root, random seed. The kernel's own range must have been claimed in `plan` before.
/// `load_address` is where the protected-mode part lies.
Result<void> write_linux_params(RamPlan& plan, const LinuxSetupHeader& header, std::uint32_t load_address,
                                const BootOptions& options);

}  // namespace doppel::boot
