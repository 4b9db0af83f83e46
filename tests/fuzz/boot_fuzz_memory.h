#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>

#include "base/result.h"
#include "boot/options.h"
#include "boot/platform_layout.h"
#include "memory/guest_memory.h"
#include "x86/cpu_state.h"

namespace doppel::test {

/// Loads `data` with `load` into the same small guest each time, and holds the loader to its promises: an error with a
/// message, or an entry point in RAM; and the BIOS area stays as it was.
template <class Load>
int fuzz_loader(const std::uint8_t* data, std::size_t size, Load load) {
  constexpr std::uint64_t kMemory = std::uint64_t{24} << 20, kCanary = 0x646F'7070'656C'2121;
  static const std::unique_ptr<memory::GuestMemory> memory = std::move(memory::GuestMemory::create(kMemory)).value();
  static const std::byte file[100]{};
  boot::BootOptions options{.command_line = "console=ttyS0",
                            .initrds = {file},
                            .modules = {{file, "module"}},
                            .rsdp = boot::layout::kAcpiTables,
                            .random_seed = {},
                            .unpack_on_host = size % 2 == 0};
  memory->write_value(boot::layout::kAcpiTables, kCanary);
  memory->write_value(boot::layout::kBiosAreaEnd - sizeof kCanary, kCanary);
  const Result<x86::CpuState> cpu = load(*memory, std::as_bytes(std::span{data, size}), options);
  if (cpu ? memory->page(cpu->rip) == nullptr : cpu.error().message.empty()) std::abort();
  for (const std::uint64_t address :
       {boot::layout::kAcpiTables, boot::layout::kBiosAreaEnd - std::uint64_t{sizeof kCanary}}) {
    std::uint64_t canary = 0;
    if (!memory->read_value(address, canary) || canary != kCanary) std::abort();
  }
  return 0;
}

}  // namespace doppel::test
