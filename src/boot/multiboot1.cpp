#include "boot/multiboot1.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "base/bits.h"
#include "boot/e820.h"
#include "boot/elf.h"
#include "boot/entry_state.h"
#include "boot/module_list.h"
#include "boot/platform_layout.h"
#include "boot/ram_plan.h"

namespace doppel::boot {
namespace {

constexpr std::uint32_t kHeaderMagic = 0x1BAD'B002, kBootloaderMagic = 0x2BAD'B002;
constexpr std::size_t kSearchLength = 8192;

/// Header flags. Bits 0 to 15 are demands; we meet the first two always and the third as far as text goes.
constexpr std::uint32_t kPageAlign = 1 << 0, kMemoryInfo = 1 << 1, kVideoMode = 1 << 2, kAddressFields = 1 << 16;
constexpr std::uint32_t kDemands = 0xFFFF;

struct Header {
  std::size_t offset = 0;  ///< in the file
  std::uint32_t flags = 0;
  std::uint32_t header_addr = 0, load_addr = 0, load_end_addr = 0, bss_end_addr = 0, entry_addr = 0;
};

/// The Multiboot information (3.3), of which we fill the first 68 bytes.
struct Info {
  static constexpr std::uint32_t kMemory = 1 << 0, kCommandLine = 1 << 2, kModules = 1 << 3, kMemoryMap = 1 << 6,
                                 kLoaderName = 1 << 9;
  std::uint32_t flags = 0;
  std::uint32_t mem_lower = 0, mem_upper = 0;
  std::uint32_t boot_device = 0;
  std::uint32_t cmdline = 0;
  std::uint32_t mods_count = 0, mods_addr = 0;
  std::uint32_t syms[4] = {};
  std::uint32_t mmap_length = 0, mmap_addr = 0;
  std::uint32_t drives_length = 0, drives_addr = 0;
  std::uint32_t config_table = 0;
  std::uint32_t boot_loader_name = 0;
  std::uint32_t unused[13] = {};
};
static_assert(sizeof(Info) == 120);

struct ModuleEntry {
  std::uint32_t mod_start = 0, mod_end = 0, string = 0, reserved = 0;
};

struct [[gnu::packed]] MmapEntry {
  std::uint32_t size = 20;  ///< of the rest
  std::uint64_t base_addr = 0, length = 0;
  std::uint32_t type = 0;
};
static_assert(sizeof(MmapEntry) == 24);

std::optional<Header> find_header(std::span<const std::byte> file) {
  const std::span<const std::byte> head = file.first(std::min(file.size(), kSearchLength));
  for (std::size_t offset = 0; offset + 12 <= head.size(); offset += 4) {
    const auto word = [&](std::size_t index) {
      const std::size_t at = offset + index * 4;
      return at + 4 <= head.size() ? load_le<std::uint32_t>(head.data() + at) : 0;
    };
    if (word(0) != kHeaderMagic || word(0) + word(1) + word(2) != 0) continue;
    Header header{.offset = offset, .flags = word(1)};
    if ((header.flags & kAddressFields) != 0) {
      header.header_addr = word(3);
      header.load_addr = word(4);
      header.load_end_addr = word(5);
      header.bss_end_addr = word(6);
      header.entry_addr = word(7);
    }
    return header;
  }
  return std::nullopt;
}

/// The a.out kludge: the header itself says what goes where.
Result<std::uint32_t> load_by_header(RamPlan& plan, const Header& header, std::span<const std::byte> file) {
  if (header.load_addr > header.header_addr || header.header_addr - header.load_addr > header.offset) {
    return Error{"the Multiboot header is damaged: it does not lie in the part that it says is loaded"};
  }
  const std::span<const std::byte> image = file.subspan(header.offset - (header.header_addr - header.load_addr));
  std::uint64_t length = image.size();
  if (header.load_end_addr != 0) {
    if (header.load_end_addr < header.load_addr)
      return Error{"the Multiboot header is damaged: it loads less than nothing"};
    length = header.load_end_addr - header.load_addr;
  }
  if (length > image.size()) {
    return Error{fmt::format("the kernel is truncated: its Multiboot header wants {} bytes loaded, the file has {}",
                             length, image.size())};
  }
  const std::uint64_t load_end = header.load_addr + length;
  const std::uint64_t end = std::max<std::uint64_t>(header.bss_end_addr, load_end);
  if (header.entry_addr < header.load_addr || header.entry_addr >= load_end) {
    return Error{fmt::format("the Multiboot kernel's entry point {:#x} lies outside the kernel", header.entry_addr)};
  }
  if (Result<void> claimed = plan.claim(header.load_addr, end - header.load_addr, "the kernel"); !claimed)
    return claimed.error();
  plan.memory().write(header.load_addr, image.first(length));
  zero_ram(plan.memory(), load_end, end - load_end);
  return header.entry_addr;
}

Result<std::uint32_t> load_by_elf(RamPlan& plan, std::span<const std::byte> file) {
  Result<ElfFile> elf = ElfFile::parse(file);
  if (!elf) return elf.error();
  if (Result<void> loaded = elf->load(plan); !loaded) return loaded.error();
  // Kernels linked to high addresses give a virtual entry point, others a physical one.
  const std::optional<std::uint64_t> translated = elf->physical(elf->entry());
  const std::uint64_t entry = translated ? *translated : elf->entry();
  if (!elf->loads_at(entry)) {
    return Error{fmt::format("the Multiboot kernel's entry point {:#x} lies outside the kernel", elf->entry())};
  }
  return static_cast<std::uint32_t>(entry);
}

Result<void> write_info(RamPlan& plan, const BootOptions& options) {
  memory::GuestMemory& memory = plan.memory();
  Result<std::vector<PlacedModule>> modules = place_modules(plan, options);
  if (!modules) return modules.error();
  InfoWriter lists(memory, layout::kStartInfo + sizeof(Info), layout::kStartInfoEnd);
  InfoWriter text(memory, layout::kCommandLine, layout::kCommandLineEnd);
  Info info;
  info.flags = Info::kMemory | Info::kCommandLine | Info::kModules | Info::kMemoryMap | Info::kLoaderName;
  info.mem_lower = static_cast<std::uint32_t>(layout::kEbda >> 10);
  info.mem_upper = static_cast<std::uint32_t>((plan.end() - layout::kHighMemory) >> 10);
  info.cmdline = text.add(options.command_line);
  info.boot_loader_name = text.add(std::string("Doppel"));

  std::vector<ModuleEntry> entries;
  for (const PlacedModule& module : *modules) {
    entries.push_back({module.start, module.start + module.size, text.add(module.command_line), 0});
  }
  info.mods_count = static_cast<std::uint32_t>(entries.size());
  info.mods_addr = lists.add(std::as_bytes(std::span{entries}));

  std::vector<MmapEntry> map;
  for (const E820Entry& entry : build_e820(memory)) {
    map.push_back({.base_addr = entry.address, .length = entry.size, .type = static_cast<std::uint32_t>(entry.type)});
  }
  info.mmap_addr = lists.add(std::as_bytes(std::span{map}));
  info.mmap_length = static_cast<std::uint32_t>(map.size() * sizeof(MmapEntry));
  if (!lists.ok() || !text.ok()) {
    return Error{"the kernel's modules and command lines are too many or too long: pass fewer"};
  }
  memory.write_value(layout::kStartInfo, info);
  return {};
}

}  // namespace

bool has_multiboot1_header(std::span<const std::byte> file) {
  return find_header(file).has_value();
}

Result<x86::CpuState> load_multiboot1(memory::GuestMemory& memory, std::span<const std::byte> file,
                                      const BootOptions& options) {
  const std::optional<Header> header = find_header(file);
  if (!header) return Error{"the file has no Multiboot header in its first 8 KiB"};
  if (const std::uint32_t unknown = header->flags & kDemands & ~(kPageAlign | kMemoryInfo | kVideoMode); unknown != 0) {
    return Error{fmt::format("the Multiboot kernel demands features that nobody has defined (flags {:#x})", unknown)};
  }
  RamPlan plan(memory);
  Result<std::uint32_t> entry =
      (header->flags & kAddressFields) != 0 ? load_by_header(plan, *header, file) : load_by_elf(plan, file);
  if (!entry) return entry.error();
  if (Result<void> written = write_info(plan, options); !written) return written.error();

  x86::CpuState cpu = protected_mode_entry(memory, *entry);
  cpu.gpr[x86::kRax] = kBootloaderMagic;
  cpu.gpr[x86::kRbx] = layout::kStartInfo;
  return cpu;
}

}  // namespace doppel::boot
