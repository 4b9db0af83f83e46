#include "boot/smbios.h"

#include <algorithm>
#include <span>
#include <string_view>

#include "base/bits.h"
#include "boot/checksum.h"
#include "boot/platform_layout.h"

namespace doppel::boot {
namespace {

using U8 = std::uint8_t;
using U16 = std::uint16_t;
using U32 = std::uint32_t;
using U64 = std::uint64_t;

/// One structure: header, fields, then the strings that the fields refer to by number.
class Structure {
 public:
  Structure(U8 type, U16 handle) { add(type).add(U8{0}).add(handle); }

  template <class T>
  Structure& add(T value) {
    fields_.resize(fields_.size() + sizeof value);
    store_le(fields_.data() + fields_.size() - sizeof value, value);
    return *this;
  }
  Structure& add_string(std::string_view text) {
    strings_.insert(strings_.end(), text.begin(), text.end());
    strings_.push_back(0);
    return add(++string_count_);
  }
  void append_to(std::vector<U8>& table) {
    constexpr std::size_t kLengthOffset = 1;
    fields_[kLengthOffset] = static_cast<U8>(fields_.size());
    table.insert(table.end(), fields_.begin(), fields_.end());
    // The set of strings ends with an empty one; no string at all is written as two zeros.
    table.insert(table.end(), strings_.begin(), strings_.end());
    table.insert(table.end(), string_count_ == 0 ? 2 : 1, 0);
  }

 private:
  std::vector<U8> fields_;
  std::vector<U8> strings_;
  U8 string_count_ = 0;
};

constexpr U8 kNoString = 0;
constexpr U16 kArrayHandle = 0x1000, kNoErrorInformation = 0xFFFE, kNotProvided = 0xFFFF;

Structure bios_information() {
  constexpr U64 kCharacteristicsNotSupported = 1 << 3;
  constexpr U8 kAcpi = 1 << 0, kVirtualMachine = 1 << 4, kNoVersion = 0xFF;
  constexpr U16 kRomUnits = (layout::kBiosAreaEnd - layout::kBiosArea) / 0x1'0000;
  Structure bios(0, 0x0000);
  bios.add_string("Doppel").add_string("1.0").add(static_cast<U16>(layout::kBiosArea >> 4)).add_string("01/01/2025");
  bios.add(static_cast<U8>(kRomUnits - 1)).add(kCharacteristicsNotSupported).add(kAcpi).add(kVirtualMachine);
  bios.add(U8{1}).add(U8{0}).add(kNoVersion).add(kNoVersion).add(U16{0});
  return bios;
}

Structure system_information(const std::array<U8, 16>& uuid) {
  constexpr U8 kPowerSwitch = 6;
  // The first three fields of a UUID are little-endian here (7.2.1).
  constexpr std::array<U8, 16> kOrder{3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};
  Structure system(1, 0x0100);
  system.add_string("Doppel").add_string("Doppel").add_string("1.0").add(kNoString);
  for (const U8 index : kOrder) system.add(uuid[index]);
  system.add(kPowerSwitch).add(kNoString).add(kNoString);
  return system;
}

Structure enclosure() {
  constexpr U8 kOther = 1, kSafe = 3, kNone = 3;
  Structure chassis(3, 0x0300);
  chassis.add_string("Doppel").add(kOther).add(kNoString).add(kNoString).add(kNoString);
  chassis.add(kSafe).add(kSafe).add(kSafe).add(kNone).add(U32{0}).add(U8{0}).add(U8{0}).add(U8{0}).add(U8{0});
  chassis.add(kNoString);
  return chassis;
}

/// One package with a core for each processor.
Structure processor(unsigned cpus) {
  constexpr U8 kCentralProcessor = 3, kUnknown = 2, kPopulatedEnabled = 0x41;
  constexpr U16 k64Bit = 1 << 2;
  const auto count = static_cast<U8>(cpus);
  Structure cpu(4, 0x0400);
  cpu.add_string("CPU 0").add(kCentralProcessor).add(kUnknown).add_string("Doppel").add(U64{0}).add_string("Doppel");
  cpu.add(U8{0}).add(U16{0}).add(U16{0}).add(U16{0}).add(kPopulatedEnabled).add(kUnknown);
  cpu.add(kNotProvided).add(kNotProvided).add(kNotProvided).add(kNoString).add(kNoString).add(kNoString);
  cpu.add(count).add(count).add(count).add(k64Bit).add(U16{kUnknown});
  cpu.add(U16{count}).add(U16{count}).add(U16{count});
  return cpu;
}

Structure memory_array(U64 size) {
  constexpr U8 kSystemBoard = 3, kSystemMemory = 3, kNoCorrection = 3;
  constexpr U32 kInExtendedField = 0x8000'0000;
  const bool extended = size >> 10 >= kInExtendedField;
  Structure array(16, kArrayHandle);
  array.add(kSystemBoard).add(kSystemMemory).add(kNoCorrection);
  array.add(extended ? kInExtendedField : static_cast<U32>(size >> 10)).add(kNoErrorInformation).add(U16{1});
  array.add(extended ? size : U64{0});
  return array;
}

Structure memory_device(U64 size) {
  constexpr U8 kDimm = 9, kRam = 7;
  constexpr U16 kInExtendedField = 0x7FFF, kUnknownDetail = 1 << 2;
  const U64 mebibytes = size >> 20;
  const bool extended = mebibytes >= kInExtendedField;
  Structure device(17, 0x1100);
  device.add(kArrayHandle).add(kNoErrorInformation).add(kNotProvided).add(kNotProvided);
  device.add(extended ? kInExtendedField : static_cast<U16>(mebibytes)).add(kDimm).add(U8{0});
  device.add_string("DIMM 0").add(kNoString).add(kRam).add(kUnknownDetail).add(U16{0}).add_string("Doppel");
  device.add(kNoString).add(kNoString).add(kNoString).add(U8{0}).add(static_cast<U32>(extended ? mebibytes : 0));
  device.add(U16{0}).add(U16{0}).add(U16{0}).add(U16{0});
  return device;
}

Structure mapped_address(U16 handle, const memory::RamRegion& region) {
  constexpr U32 kInExtendedField = 0xFFFF'FFFF;
  const U64 first = region.start, last = region.start + region.size - 1;
  const bool extended = last >> 10 >= kInExtendedField;
  Structure mapped(19, handle);
  mapped.add(extended ? kInExtendedField : static_cast<U32>(first >> 10));
  mapped.add(extended ? kInExtendedField : static_cast<U32>(last >> 10)).add(kArrayHandle).add(U8{1});
  mapped.add(extended ? first : U64{0}).add(extended ? last : U64{0});
  return mapped;
}

Structure boot_information() {
  Structure boot(32, 0x2000);
  boot.add(U32{0}).add(U16{0}).add(U8{0});
  return boot;
}

}  // namespace

std::vector<U8> make_smbios_table(const memory::GuestMemory& memory, const SmbiosConfig& config) {
  std::vector<Structure> structures{
      bios_information(),     system_information(config.uuid), enclosure(),
      processor(config.cpus), memory_array(memory.size()),     memory_device(memory.size())};
  U16 mapped_handle = 0x1300;
  for (const memory::RamRegion& region : memory.regions())
    structures.push_back(mapped_address(mapped_handle++, region));
  structures.push_back(boot_information());
  structures.emplace_back(U8{127}, U16{0x7F00});
  std::vector<U8> table;
  for (Structure& structure : structures) structure.append_to(table);
  return table;
}

Result<void> write_smbios(memory::GuestMemory& memory, const SmbiosConfig& config) {
  constexpr std::size_t kEntryBytes = 24, kChecksum = 5;
  constexpr memory::GuestPhysical kTable = layout::kSmbios + 32;
  const std::vector<U8> table = make_smbios_table(memory, config);
  if (kTable + table.size() > layout::kSmbiosEnd || config.cpus > 0xFF) {
    return Error{"the SMBIOS tables do not fit into the BIOS area"};
  }
  std::array<U8, kEntryBytes> entry{'_', 'S', 'M', '3', '_', 0, kEntryBytes, 3, 3, 0, 1};
  store_le(entry.data() + 12, static_cast<U32>(table.size()));
  store_le(entry.data() + 16, U64{kTable});
  entry[kChecksum] = checksum(entry);
  memory.write(kTable, std::as_bytes(std::span{table}));
  memory.write(layout::kSmbios, std::as_bytes(std::span{entry}));
  return {};
}

}  // namespace doppel::boot
