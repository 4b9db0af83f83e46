#include "boot/linux_params.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/bits.h"
#include "boot/e820.h"
#include "boot/module_list.h"
#include "boot/platform_layout.h"

namespace doppel::boot {
namespace {

/// Offsets in boot_params; Linux, arch/x86/include/uapi/asm/bootparam.h.
namespace zero_page {
constexpr std::size_t kAcpiRsdp = 0x70, kE820Entries = 0x1E8, kTypeOfLoader = 0x210, kLoadFlags = 0x211,
                      kCode32Start = 0x214, kRamdiskImage = 0x218, kRamdiskSize = 0x21C, kHeapEnd = 0x224,
                      kCommandLine = 0x228, kSetupData = 0x250, kE820Table = 0x2D0;
constexpr std::size_t kE820EntryBytes = 20, kE820MaxEntries = 128;
}  // namespace zero_page

constexpr std::uint16_t kBootFlag = 0xAA55;
constexpr std::uint32_t kHeaderMagic = 0x53726448;  // "HdrS"
constexpr std::uint8_t kLoaderWithoutId = 0xFF;
constexpr std::uint8_t kKeepSegments = 1 << 6, kCanUseHeap = 1 << 7;
constexpr std::uint32_t kSetupRngSeed = 9;
/// The header cannot reach into what follows it in boot_params (edd_mbr_sig_buffer).
constexpr std::size_t kHeaderMaxEnd = 0x290;

using ZeroPage = std::array<std::byte, memory::kPageSize>;

template <class T>
void put(ZeroPage& page, std::size_t offset, T value) {
  store_le(page.data() + offset, value);
}

Result<void> place_command_line(RamPlan& plan, const LinuxSetupHeader& header, const BootOptions& options,
                                ZeroPage& page) {
  const std::string& line = options.command_line;
  const std::size_t limit =
      std::min<std::size_t>(header.command_line_limit(), layout::kCommandLineEnd - layout::kCommandLine - 1);
  if (line.size() > limit) {
    return Error{fmt::format("the kernel command line has {} characters, but this kernel takes at most {}: shorten it",
                             line.size(), limit)};
  }
  if (line.find('\0') != std::string::npos) return Error{"the kernel command line holds a zero byte: leave it out"};
  plan.memory().write(layout::kCommandLine, std::as_bytes(std::span{line.c_str(), line.size() + 1}));
  put(page, zero_page::kCommandLine, static_cast<std::uint32_t>(layout::kCommandLine));
  return {};
}

/// struct setup_data: next, type, length, data.
void place_random_seed(RamPlan& plan, const LinuxSetupHeader& header, const BootOptions& options, ZeroPage& page) {
  constexpr std::uint16_t kFirstVersionWithSetupData = 0x209;
  if (options.random_seed.empty() || header.version() < kFirstVersionWithSetupData) return;
  const std::size_t length = std::min<std::size_t>(options.random_seed.size(), 256);
  std::array<std::byte, 16> entry{};
  store_le(entry.data() + 8, kSetupRngSeed);
  store_le(entry.data() + 12, static_cast<std::uint32_t>(length));
  plan.memory().write(layout::kSetupData, entry);
  plan.memory().write(layout::kSetupData + entry.size(), std::span{options.random_seed}.first(length));
  put(page, zero_page::kSetupData, std::uint64_t{layout::kSetupData});
}

void put_e820(const memory::GuestMemory& memory, ZeroPage& page) {
  const std::vector<E820Entry> map = build_e820(memory);
  const std::size_t count = std::min(map.size(), zero_page::kE820MaxEntries);
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t offset = zero_page::kE820Table + i * zero_page::kE820EntryBytes;
    put(page, offset, map[i].address);
    put(page, offset + 8, map[i].size);
    put(page, offset + 16, static_cast<std::uint32_t>(map[i].type));
  }
  put(page, zero_page::kE820Entries, static_cast<std::uint8_t>(count));
}

}  // namespace

template <class T>
T LinuxSetupHeader::field(std::size_t image_offset) const {
  const std::size_t offset = image_offset - kOffset;
  return offset + sizeof(T) <= bytes_.size() ? load_le<T>(bytes_.data() + offset) : T{};
}

Result<LinuxSetupHeader> LinuxSetupHeader::parse(std::span<const std::byte> image) {
  constexpr std::size_t kEndOfVersion2Header = 0x228;
  if (image.size() < kEndOfVersion2Header) {
    return Error{fmt::format("the kernel is truncated: {} bytes are less than a bzImage's setup header", image.size())};
  }
  if (load_le<std::uint16_t>(image.data() + 0x1FE) != kBootFlag ||
      load_le<std::uint32_t>(image.data() + 0x202) != kHeaderMagic) {
    return Error{"the file is not a bzImage: it has no Linux setup header"};
  }
  // The byte at 201h is the displacement of a short jump over the header, and so tells where it ends.
  const std::size_t end = std::clamp<std::size_t>(0x202 + load_le<std::uint8_t>(image.data() + 0x201),
                                                  kEndOfVersion2Header, std::min(kHeaderMaxEnd, image.size()));
  LinuxSetupHeader header;
  header.bytes_.assign(image.begin() + kOffset, image.begin() + static_cast<std::ptrdiff_t>(end));
  if (header.version() < 0x200 || !header.loaded_high()) {
    return Error{"the kernel is a zImage or older than Linux 1.3.73: build it as a bzImage"};
  }
  return header;
}

LinuxSetupHeader LinuxSetupHeader::synthetic() {
  LinuxSetupHeader header;
  header.bytes_.resize(0x26C - kOffset);
  const auto put_header = [&](std::size_t offset, auto value) {
    store_le(header.bytes_.data() + offset - kOffset, value);
  };
  put_header(0x1FE, kBootFlag);
  put_header(0x202, kHeaderMagic);
  put_header(0x206, std::uint16_t{0x20F});
  put_header(0x211, std::uint8_t{1});
  put_header(0x22C, std::uint32_t{0x7FFF'FFFF});
  put_header(0x238, std::uint32_t{2047});
  return header;
}

std::uint16_t LinuxSetupHeader::version() const {
  return field<std::uint16_t>(0x206);
}

bool LinuxSetupHeader::loaded_high() const {
  return (field<std::uint8_t>(0x211) & 1) != 0;
}

std::uint64_t LinuxSetupHeader::system_size() const {
  return std::uint64_t{field<std::uint32_t>(0x1F4)} * 16;
}

std::size_t LinuxSetupHeader::setup_size() const {
  const std::size_t sectors = field<std::uint8_t>(0x1F1);
  return ((sectors == 0 ? 4 : sectors) + 1) * 512;
}

std::uint64_t LinuxSetupHeader::initrd_addr_max() const {
  return version() >= 0x203 ? field<std::uint32_t>(0x22C) : 0x37FF'FFFF;
}

std::uint32_t LinuxSetupHeader::command_line_limit() const {
  return version() >= 0x206 ? field<std::uint32_t>(0x238) : 255;
}

bool LinuxSetupHeader::has_64_bit_entry() const {
  constexpr std::uint16_t kXlfKernel64 = 1;
  return version() >= 0x20C && (field<std::uint16_t>(0x236) & kXlfKernel64) != 0;
}

std::uint64_t LinuxSetupHeader::preferred_address() const {
  return version() >= 0x20A ? field<std::uint64_t>(0x258) : layout::kHighMemory;
}

std::uint64_t LinuxSetupHeader::init_size() const {
  return version() >= 0x20A ? field<std::uint32_t>(0x260) : 0;
}

std::span<const std::byte> LinuxSetupHeader::payload(std::span<const std::byte> system) const {
  if (version() < 0x208) return {};
  const std::size_t offset = field<std::uint32_t>(0x248), length = field<std::uint32_t>(0x24C);
  if (length == 0 || offset > system.size() || length > system.size() - offset) return {};
  return system.subspan(offset, length);
}

Result<void> write_linux_params(RamPlan& plan, const LinuxSetupHeader& header, std::uint32_t load_address,
                                const BootOptions& options) {
  ZeroPage page{};
  std::copy(header.bytes().begin(), header.bytes().end(), page.begin() + LinuxSetupHeader::kOffset);
  put(page, zero_page::kTypeOfLoader, kLoaderWithoutId);
  const auto flags = load_le<std::uint8_t>(page.data() + zero_page::kLoadFlags);
  put(page, zero_page::kLoadFlags, static_cast<std::uint8_t>(flags & ~(kKeepSegments | kCanUseHeap)));
  put(page, zero_page::kHeapEnd, std::uint16_t{0});
  put(page, zero_page::kCode32Start, load_address);
  if (header.version() >= 0x209) put(page, zero_page::kSetupData, std::uint64_t{0});
  put(page, zero_page::kAcpiRsdp, options.rsdp);
  put_e820(plan.memory(), page);
  place_random_seed(plan, header, options, page);
  if (Result<void> placed = place_command_line(plan, header, options, page); !placed) return placed;
  Result<PlacedModule> initrd = place_initrd(plan, options, header.initrd_addr_max());
  if (!initrd) return initrd.error();
  put(page, zero_page::kRamdiskImage, initrd->start);
  put(page, zero_page::kRamdiskSize, initrd->size);
  plan.memory().write(layout::kZeroPage, page);
  return {};
}

}  // namespace doppel::boot
