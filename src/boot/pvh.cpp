#include "boot/pvh.h"

#include <fmt/format.h>

#include <vector>

#include "base/bits.h"
#include "boot/e820.h"
#include "boot/entry_state.h"
#include "boot/module_list.h"
#include "boot/platform_layout.h"
#include "boot/ram_plan.h"

namespace doppel::boot {
namespace {

constexpr std::uint32_t kXenElfNotePhys32Entry = 18;
constexpr std::uint32_t kStartMagic = 0x336E'C578;

/// Xen, xen/include/public/arch-x86/hvm/start_info.h, version 1.
struct StartInfo {
  std::uint32_t magic = kStartMagic;
  std::uint32_t version = 1;
  std::uint32_t flags = 0;
  std::uint32_t nr_modules = 0;
  std::uint64_t modlist_paddr = 0;
  std::uint64_t cmdline_paddr = 0;
  std::uint64_t rsdp_paddr = 0;
  std::uint64_t memmap_paddr = 0;
  std::uint32_t memmap_entries = 0;
  std::uint32_t reserved = 0;
};
static_assert(sizeof(StartInfo) == 56);

struct ModlistEntry {
  std::uint64_t paddr = 0;
  std::uint64_t size = 0;
  std::uint64_t cmdline_paddr = 0;
  std::uint64_t reserved = 0;
};

struct MemmapEntry {
  std::uint64_t addr = 0;
  std::uint64_t size = 0;
  std::uint32_t type = 0;
  std::uint32_t reserved = 0;
};

Result<std::uint32_t> pvh_entry(const ElfFile& elf) {
  const std::optional<std::span<const std::byte>> note = elf.find_note("Xen", kXenElfNotePhys32Entry);
  if (!note || note->size() < 4) return Error{"the ELF kernel has no PVH entry point"};
  const std::uint64_t entry =
      note->size() >= 8 ? load_le<std::uint64_t>(note->data()) : load_le<std::uint32_t>(note->data());
  if (!elf.loads_at(entry)) {
    return Error{fmt::format("the kernel's PVH entry point {:#x} lies outside the kernel: the file is damaged", entry)};
  }
  return static_cast<std::uint32_t>(entry);
}

}  // namespace

bool has_pvh_entry(const ElfFile& elf) {
  return elf.find_note("Xen", kXenElfNotePhys32Entry).has_value();
}

Result<x86::CpuState> load_pvh(memory::GuestMemory& memory, std::span<const std::byte> file,
                               const BootOptions& options) {
  Result<ElfFile> elf = ElfFile::parse(file);
  if (!elf) return elf.error();
  Result<std::uint32_t> entry = pvh_entry(*elf);
  if (!entry) return entry.error();
  RamPlan plan(memory);
  if (Result<void> loaded = elf->load(plan); !loaded) return loaded.error();
  Result<std::vector<PlacedModule>> modules = place_modules(plan, options);
  if (!modules) return modules.error();

  // The start info comes first, so its place is known before what it points to.
  InfoWriter info(memory, layout::kStartInfo + sizeof(StartInfo), layout::kStartInfoEnd);
  InfoWriter text(memory, layout::kCommandLine, layout::kCommandLineEnd);
  StartInfo start;
  std::vector<MemmapEntry> memmap;
  for (const E820Entry& entry820 : build_e820(memory)) {
    memmap.push_back({entry820.address, entry820.size, static_cast<std::uint32_t>(entry820.type), 0});
  }
  start.memmap_paddr = info.add(std::as_bytes(std::span{memmap}));
  start.memmap_entries = static_cast<std::uint32_t>(memmap.size());
  std::vector<ModlistEntry> modlist;
  for (const PlacedModule& module : *modules) {
    const std::uint32_t line = module.command_line.empty() ? 0 : text.add(module.command_line);
    modlist.push_back({module.start, module.size, line, 0});
  }
  if (!modlist.empty()) start.modlist_paddr = info.add(std::as_bytes(std::span{modlist}));
  start.nr_modules = static_cast<std::uint32_t>(modlist.size());
  start.cmdline_paddr = text.add(options.command_line);
  start.rsdp_paddr = options.rsdp;
  if (!info.ok() || !text.ok()) {
    return Error{"the kernel's modules and command lines are too many or too long: pass fewer"};
  }
  memory.write_value(layout::kStartInfo, start);

  x86::CpuState cpu = protected_mode_entry(memory, *entry);
  cpu.gpr[x86::kRbx] = layout::kStartInfo;
  return cpu;
}

}  // namespace doppel::boot
