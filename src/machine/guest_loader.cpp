#include "machine/guest_loader.h"

#include <fmt/format.h>

#include "boot/acpi/acpi.h"
#include "boot/bios_data_area.h"
#include "boot/entry_state.h"
#include "boot/kernel.h"
#include "boot/options.h"
#include "boot/smbios.h"

namespace doppel::machine {
Result<x86::CpuState> load_guest(memory::GuestMemory& memory, const MachineConfig& config, const Identity& identity) {
  memory.clear();
  boot::write_bios_data_area(memory);
  if (Result<void> written = boot::write_smbios(memory, {.uuid = identity.uuid, .cpus = config.cpus}); !written)
    return written.error();
  const Result<memory::GuestPhysical> rsdp = boot::acpi::write_tables(
      memory, {.cpus = config.cpus, .pci = true, .pci_ecam = true, .vm_generation_id = identity.vm_generation_id});
  if (!rsdp) return rsdp.error();

  boot::BootOptions options;
  options.command_line = config.command_line;
  for (const BootFile& initrd : config.initrds) options.initrds.emplace_back(initrd.bytes);
  for (const BootFile& module : config.modules) options.modules.push_back({module.bytes, module.arguments});
  options.rsdp = *rsdp;
  options.random_seed = boot::fresh_random_seed();
  Result<x86::CpuState> state = boot::load_kernel(memory, config.kernel.bytes, options);
  if (!state) return Error{fmt::format("{}: {}", config.kernel.path, state.error().message)};
  return state;
}

x86::CpuState application_processor_state() {
  x86::CpuState state;
  state.reset(/*init=*/false, /*bootstrap=*/false);
  boot::apply_firmware_defaults(state);
  return state;
}

Result<void> check(const MachineConfig& config) {
  if (config.cpus < 1 || config.cpus > kMaxCpus) {
    return Error{fmt::format("{} processors are not possible: a machine has 1 to {}", config.cpus, kMaxCpus)};
  }
  if (config.memory_bytes < kMinMemory) {
    return Error{fmt::format("{} MiB of memory are too few: a machine needs {} MiB at least", config.memory_bytes >> 20,
                             kMinMemory >> 20)};
  }
  if (config.memory_bytes % memory::kPageSize != 0) return Error{"the memory size must be a multiple of 4 KiB"};
  return {};
}

}  // namespace doppel::machine
