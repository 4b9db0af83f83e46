#include "boot/elf.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/bits.h"

namespace doppel::boot {
namespace {

/// Where the fields of the two classes are; System V ABI, figures 4-3 and 5-1.
struct Layout {
  std::size_t word;  ///< bytes of an address
  std::size_t header_size, entry, ph_offset, ph_entry_size, ph_count;
  std::size_t p_size, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz;
};
constexpr Layout kElf32{4, 52, 24, 28, 42, 44, 32, 4, 8, 12, 16, 20};
constexpr Layout kElf64{8, 64, 24, 32, 54, 56, 56, 8, 16, 24, 32, 40};

/// Kernels have about five; a hostile file could make us walk 65,535.
constexpr std::size_t kMaxSegments = 256;

std::uint64_t word(const Layout& layout, const std::byte* at) {
  return layout.word == 8 ? load_le<std::uint64_t>(at) : load_le<std::uint32_t>(at);
}

bool inside(std::uint64_t offset, std::uint64_t length, std::uint64_t size) {
  return offset <= size && length <= size - offset;
}

Error truncated(std::size_t size, std::string_view what) {
  return Error{fmt::format("the kernel is truncated: {} of the ELF file lies past its end ({} bytes)", what, size)};
}

}  // namespace

Result<ElfFile> ElfFile::parse(std::span<const std::byte> file) {
  constexpr std::size_t kIdentSize = 16, kClass = 4, kData = 5, kMachine = 18;
  if (file.size() < kElf32.header_size) return truncated(file.size(), "the header");
  if (std::memcmp(file.data(), "\177ELF", 4) != 0) return Error{"the file is not ELF"};
  static_assert(kIdentSize < kElf32.header_size);
  const auto elf_class = std::to_integer<unsigned>(file[kClass]);
  if ((elf_class != 1 && elf_class != 2) || std::to_integer<unsigned>(file[kData]) != 1) {
    return Error{"the ELF file is not a little-endian 32- or 64-bit one: x86 kernels are"};
  }
  const Layout& layout = elf_class == 1 ? kElf32 : kElf64;
  if (file.size() < layout.header_size) return truncated(file.size(), "the header");

  ElfFile elf;
  elf.file_ = file;
  elf.machine_ = static_cast<ElfMachine>(load_le<std::uint16_t>(file.data() + kMachine));
  if (elf.machine_ != ElfMachine::I386 && elf.machine_ != ElfMachine::X86_64) {
    return Error{fmt::format("the ELF file is for another processor (machine number {}): an x86 kernel is needed",
                             static_cast<unsigned>(elf.machine_))};
  }
  elf.entry_ = word(layout, file.data() + layout.entry);
  const std::uint64_t table = word(layout, file.data() + layout.ph_offset);
  const std::size_t entry_size = load_le<std::uint16_t>(file.data() + layout.ph_entry_size);
  const std::size_t count = load_le<std::uint16_t>(file.data() + layout.ph_count);
  if (count == 0) return Error{"the ELF file has no program headers: it is an object file, not a kernel"};
  if (entry_size != layout.p_size || count > kMaxSegments) {
    return Error{fmt::format("the ELF file's program headers are damaged ({} of {} bytes)", count, entry_size)};
  }
  if (!inside(table, count * entry_size, file.size())) return truncated(file.size(), "the program header table");

  for (std::size_t i = 0; i < count; ++i) {
    const std::byte* at = file.data() + table + i * entry_size;
    ElfSegment segment{.type = load_le<std::uint32_t>(at),
                       .offset = word(layout, at + layout.p_offset),
                       .virtual_address = word(layout, at + layout.p_vaddr),
                       .physical_address = word(layout, at + layout.p_paddr),
                       .file_size = word(layout, at + layout.p_filesz),
                       .memory_size = word(layout, at + layout.p_memsz)};
    if (segment.type != ElfSegment::kLoad && segment.type != ElfSegment::kNote) continue;
    if (!inside(segment.offset, segment.file_size, file.size())) return truncated(file.size(), "a segment");
    if (segment.type == ElfSegment::kLoad && segment.memory_size < segment.file_size) {
      return Error{"the ELF file is damaged: a segment is longer in the file than in memory"};
    }
    elf.segments_.push_back(segment);
  }
  return elf;
}

std::span<const std::byte> ElfFile::contents(const ElfSegment& segment) const {
  return file_.subspan(segment.offset, segment.file_size);
}

std::optional<std::span<const std::byte>> ElfFile::find_note(std::string_view owner, std::uint32_t type) const {
  constexpr std::size_t kHeader = 12;
  for (const ElfSegment& segment : segments_) {
    if (segment.type != ElfSegment::kNote) continue;
    std::span<const std::byte> notes = contents(segment);
    while (notes.size() >= kHeader) {
      const std::uint64_t name_size = load_le<std::uint32_t>(notes.data());
      const std::uint64_t data_size = load_le<std::uint32_t>(notes.data() + 4);
      const auto note_type = load_le<std::uint32_t>(notes.data() + 8);
      const std::uint64_t data_offset = kHeader + align_up(name_size, 4);
      if (!inside(data_offset, data_size, notes.size())) break;
      // The name counts its terminating zero.
      const bool same_owner =
          name_size == owner.size() + 1 && std::memcmp(notes.data() + kHeader, owner.data(), owner.size()) == 0;
      if (same_owner && note_type == type) return notes.subspan(data_offset, data_size);
      notes = notes.subspan(std::min<std::uint64_t>(data_offset + align_up(data_size, 4), notes.size()));
    }
  }
  return std::nullopt;
}

bool ElfFile::loads_at(std::uint64_t address) const {
  return std::any_of(segments_.begin(), segments_.end(), [&](const ElfSegment& segment) {
    return segment.type == ElfSegment::kLoad && address >= segment.physical_address &&
           address - segment.physical_address < segment.file_size;
  });
}

std::optional<std::uint64_t> ElfFile::physical(std::uint64_t virtual_address) const {
  for (const ElfSegment& segment : segments_) {
    const std::uint64_t offset = virtual_address - segment.virtual_address;
    if (segment.type == ElfSegment::kLoad && virtual_address >= segment.virtual_address && offset < segment.memory_size)
      return segment.physical_address + offset;
  }
  return std::nullopt;
}

Result<void> ElfFile::load(RamPlan& plan) const {
  bool any = false;
  for (const ElfSegment& segment : segments_) {
    if (segment.type != ElfSegment::kLoad || segment.memory_size == 0) continue;
    any = true;
    Result<void> claimed = plan.claim(segment.physical_address, segment.memory_size, "a segment of the kernel");
    if (!claimed) return claimed;
    plan.memory().write(segment.physical_address, contents(segment));
    zero_ram(plan.memory(), segment.physical_address + segment.file_size, segment.memory_size - segment.file_size);
  }
  if (!any) return Error{"the ELF file has nothing to load: it is not a kernel"};
  return {};
}

}  // namespace doppel::boot
