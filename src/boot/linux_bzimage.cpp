#include "boot/linux_bzimage.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/bits.h"
#include "boot/entry_state.h"
#include "boot/linux_params.h"
#include "boot/linux_vmlinux.h"
#include "boot/payload.h"
#include "boot/platform_layout.h"
#include "boot/ram_plan.h"

namespace doppel::boot {
namespace {

/// The 64-bit entry point lies this far into the protected-mode part.
constexpr std::uint64_t kEntry64Offset = 0x200;

/// The kernel unpacks itself, in the guest.
Result<x86::CpuState> enter_compressed(memory::GuestMemory& memory, const LinuxSetupHeader& header,
                                       std::span<const std::byte> system, const BootOptions& options) {
  RamPlan plan(memory);
  const std::uint64_t load_address = header.preferred_address();
  const std::uint64_t size = std::max<std::uint64_t>(header.init_size(), system.size());
  if (Result<void> claimed = plan.claim(load_address, size, "the kernel"); !claimed) return claimed.error();
  memory.write(load_address, system);
  const auto address = static_cast<std::uint32_t>(load_address);
  if (Result<void> written = write_linux_params(plan, header, address, options); !written) return written.error();

  x86::CpuState cpu = header.has_64_bit_entry() ? long_mode_entry(memory, load_address + kEntry64Offset)
                                                : protected_mode_entry(memory, address);
  cpu.gpr[x86::kRsi] = layout::kZeroPage;
  return cpu;
}

}  // namespace

Result<x86::CpuState> load_linux_bzimage(memory::GuestMemory& memory, std::span<const std::byte> image,
                                         const BootOptions& options) {
  Result<LinuxSetupHeader> header = LinuxSetupHeader::parse(image);
  if (!header) return header.error();
  if (image.size() <= header->setup_size() ||
      align_up(image.size() - header->setup_size(), 16) < header->system_size()) {
    return Error{fmt::format("the kernel is truncated: the file has {} bytes, its header promises {}", image.size(),
                             header->setup_size() + std::max<std::uint64_t>(header->system_size(), 1))};
  }
  const std::span<const std::byte> system = image.subspan(header->setup_size());
  const std::span<const std::byte> payload = header->payload(system);
  if (options.unpack_on_host && identify_compression(payload) != Compression::Unknown) {
    const Result<std::vector<std::byte>> vmlinux = unpack_payload(payload);
    if (!vmlinux) return vmlinux.error();
    return load_linux_vmlinux(memory, *vmlinux, *header, options);
  }
  return enter_compressed(memory, *header, system, options);
}

}  // namespace doppel::boot
