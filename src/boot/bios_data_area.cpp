#include "boot/bios_data_area.h"

#include <cstdint>

#include "boot/platform_layout.h"

namespace doppel::boot {
namespace {

/// Addresses of 16-bit fields; IBM PS/2 and PC BIOS Interface Technical Reference, section 3.
constexpr memory::GuestPhysical kComPorts = 0x400, kEbdaSegment = 0x40E, kEquipment = 0x410, kMemoryKib = 0x413,
                                kKeyboardHead = 0x41A, kKeyboardTail = 0x41C, kKeyboardStart = 0x480,
                                kKeyboardEnd = 0x482;
constexpr std::uint16_t kMathCoprocessor = 1 << 1, kSerialCountShift = 9;
/// Offsets from segment 40h.
constexpr std::uint16_t kBufferStart = 0x1E, kBufferEnd = 0x3E;

}  // namespace

void write_bios_data_area(memory::GuestMemory& memory) {
  const auto put = [&](memory::GuestPhysical address, std::uint64_t value) {
    memory.write_value(address, static_cast<std::uint16_t>(value));
  };
  for (std::size_t i = 0; i < layout::kSerial.size(); ++i) put(kComPorts + 2 * i, layout::kSerial[i].base);
  put(kEbdaSegment, layout::kEbda >> 4);
  put(kEquipment, kMathCoprocessor | layout::kSerial.size() << kSerialCountShift);
  put(kMemoryKib, layout::kEbda >> 10);
  put(kKeyboardHead, kBufferStart);
  put(kKeyboardTail, kBufferStart);
  put(kKeyboardStart, kBufferStart);
  put(kKeyboardEnd, kBufferEnd);
  memory.write_value(layout::kEbda, static_cast<std::uint8_t>((layout::kEbdaEnd - layout::kEbda) >> 10));
}

}  // namespace doppel::boot
