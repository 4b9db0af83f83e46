#include "boot/linux_vmlinux.h"

#include <fmt/format.h>

#include "boot/elf.h"
#include "boot/entry_state.h"
#include "boot/platform_layout.h"
#include "boot/ram_plan.h"

namespace doppel::boot {

Result<x86::CpuState> load_linux_vmlinux(memory::GuestMemory& memory, std::span<const std::byte> file,
                                         const LinuxSetupHeader& header, const BootOptions& options) {
  Result<ElfFile> elf = ElfFile::parse(file);
  if (!elf) return elf.error();
  if (!elf->loads_at(elf->entry())) {
    return Error{
        fmt::format("the kernel's entry point {:#x} is not a physical address inside it: this ELF file is not a "
                    "Linux kernel",
                    elf->entry())};
  }
  RamPlan plan(memory);
  if (Result<void> loaded = elf->load(plan); !loaded) return loaded.error();
  const auto address = static_cast<std::uint32_t>(elf->entry());
  if (Result<void> written = write_linux_params(plan, header, address, options); !written) return written.error();

  x86::CpuState cpu = elf->machine() == ElfMachine::X86_64 ? long_mode_entry(memory, elf->entry())
                                                           : protected_mode_entry(memory, address);
  cpu.gpr[x86::kRsi] = layout::kZeroPage;
  return cpu;
}

}  // namespace doppel::boot
