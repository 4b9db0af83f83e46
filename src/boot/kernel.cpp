#include "boot/kernel.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>

#include "base/bits.h"
#include "boot/elf.h"
#include "boot/linux_bzimage.h"
#include "boot/linux_vmlinux.h"
#include "boot/multiboot1.h"
#include "boot/pvh.h"

namespace doppel::boot {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view kExpected =
    "expected a Linux bzImage, an ELF kernel with a PVH entry (vmlinux), or a Multiboot 1 kernel";

/// Files that people hand over by mistake, by the bytes at an offset.
struct LookAlike {
  std::size_t offset;
  std::string_view magic;
  std::string_view what;
};
constexpr std::array kLookAlikes{
    LookAlike{0, "\x1F\x8B"sv, "it is compressed with gzip: unpack it with gunzip first"},
    LookAlike{0, "\3757zXZ"sv, "it is compressed with xz: unpack it with unxz first"},
    LookAlike{0, "\x28\xB5\x2F\xFD"sv, "it is compressed with zstd: unpack it with unzstd first"},
    LookAlike{0, "\x02\x21\x4C\x18"sv, "it is compressed with lz4: unpack it with unlz4 first"},
    LookAlike{0, "\x04\x22\x4D\x18"sv, "it is compressed with lz4: unpack it with unlz4 first"},
    LookAlike{0, "BZh"sv, "it is compressed with bzip2: unpack it with bunzip2 first"},
    LookAlike{0, "QFI\xFB"sv, "it is a qcow2 disk image"},
    LookAlike{0, "KDMV"sv, "it is a VMDK disk image"},
    LookAlike{0, "vhdxfile"sv, "it is a VHDX disk image"},
    LookAlike{0, "070701"sv, "it is a cpio archive: pass it with --initrd, and the kernel as the first argument"},
    LookAlike{0, "!<arch>\n"sv, "it is a package or library: unpack the kernel from it (dpkg-deb -x)"},
    LookAlike{0, "#!"sv, "it is a script"},
    LookAlike{0x8001, "CD001"sv, "it is an ISO 9660 image: take the kernel and the initrd out of it"},
    LookAlike{0x38, "ARMd"sv, "it is a Linux kernel for another processor (arm64): an x86 kernel is needed"},
    LookAlike{0x1FE, "\x55\xAA"sv, "it looks like a disk image or a boot sector"},
    LookAlike{0, "MZ"sv, "it is a DOS, Windows or EFI program, or only the beginning of a kernel"},
};

bool matches(std::span<const std::byte> file, const LookAlike& look_alike) {
  return file.size() >= look_alike.offset + look_alike.magic.size() &&
         std::memcmp(file.data() + look_alike.offset, look_alike.magic.data(), look_alike.magic.size()) == 0;
}

Error not_a_kernel(std::string_view why) {
  return Error{fmt::format("not a kernel: {}; {}", why, kExpected)};
}

bool is_bzimage(std::span<const std::byte> file) {
  return matches(file, {0x202, "HdrS"sv, {}}) && matches(file, {0x1FE, "\x55\xAA"sv, {}});
}

Result<KernelKind> identify_elf(std::span<const std::byte> file) {
  const Result<ElfFile> elf = ElfFile::parse(file);
  // Before complaining about the ELF file: a Multiboot header with addresses needs no valid one.
  const bool multiboot = has_multiboot1_header(file);
  if (!elf) return multiboot ? Result<KernelKind>(KernelKind::Multiboot1) : elf.error();
  if (has_pvh_entry(*elf)) return KernelKind::Pvh;
  if (multiboot) return KernelKind::Multiboot1;
  if (elf->machine() == ElfMachine::X86_64 && elf->loads_at(elf->entry())) return KernelKind::LinuxVmlinux;
  return not_a_kernel("it is an ELF program without a kernel's entry point");
}

}  // namespace

Result<KernelKind> identify_kernel(std::span<const std::byte> file) {
  if (file.empty()) return not_a_kernel("the file is empty");
  if (is_bzimage(file)) return KernelKind::LinuxBzImage;
  if (matches(file, {0, "\177ELF"sv, {}})) return identify_elf(file);
  if (has_multiboot1_header(file)) return KernelKind::Multiboot1;
  const auto* const found = std::find_if(kLookAlikes.begin(), kLookAlikes.end(),
                                         [&](const LookAlike& look_alike) { return matches(file, look_alike); });
  if (found != kLookAlikes.end()) return not_a_kernel(found->what);
  return not_a_kernel(fmt::format("its {} bytes begin like no format that is known here", file.size()));
}

Result<x86::CpuState> load_kernel(memory::GuestMemory& memory, std::span<const std::byte> file,
                                  const BootOptions& options) {
  const Result<KernelKind> kind = identify_kernel(file);
  if (!kind) return kind.error();
  switch (*kind) {
    case KernelKind::LinuxBzImage:
      return load_linux_bzimage(memory, file, options);
    case KernelKind::Pvh:
      return load_pvh(memory, file, options);
    case KernelKind::Multiboot1:
      return load_multiboot1(memory, file, options);
    case KernelKind::LinuxVmlinux:
      break;
  }
  return load_linux_vmlinux(memory, file, LinuxSetupHeader::synthetic(), options);
}

}  // namespace doppel::boot
