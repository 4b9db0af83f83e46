#include "fuzz_isa/random_bytes.h"

#include <array>
#include <cstddef>

namespace doppel::fuzz_isa {

namespace {

constexpr std::size_t kLongest = 15;

void add_vex(Random& random, bool bits64, std::vector<std::uint8_t>& bytes) {
  const auto byte = static_cast<std::uint8_t>(random.next());
  if (random.percent(30)) {
    bytes.push_back(0xC5);
    bytes.push_back(bits64 ? byte : byte | 0xC0);
    return;
  }
  bytes.push_back(0xC4);
  const auto map = static_cast<std::uint8_t>(random.between(1, 3));
  bytes.push_back(static_cast<std::uint8_t>((bits64 ? byte & 0xE0 : (byte & 0x20) | 0xC0) | map));
  bytes.push_back(static_cast<std::uint8_t>(random.next()));
}

}  // namespace

std::vector<std::uint8_t> random_bytes(Random& random, bool bits64) {
  constexpr std::array<std::uint8_t, 6> kSegments{0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65};
  std::vector<std::uint8_t> bytes;
  bytes.reserve(2 * kLongest);
  const bool vex = random.percent(22);
  if (!vex) {
    if (random.percent(20)) bytes.push_back(0x66);
    if (random.percent(18)) bytes.push_back(random.percent(50) ? 0xF2 : 0xF3);
    if (random.percent(4)) bytes.push_back(0xF0);
  }
  if (random.percent(8)) bytes.push_back(0x67);
  if (random.percent(6)) bytes.push_back(random.pick(kSegments));
  if (!vex && random.percent(3)) bytes.push_back(random.percent(50) ? 0x66 : 0xF3);
  if (vex) {
    add_vex(random, bits64, bytes);
  } else {
    if (bits64 && random.percent(50)) bytes.push_back(static_cast<std::uint8_t>(0x40 | random.below(16)));
    const std::uint64_t map = random.below(78);
    if (map < 8) {
      bytes.push_back(static_cast<std::uint8_t>(0xD8 | random.below(8)));
      bytes.push_back(static_cast<std::uint8_t>(random.next()));
    } else if (map >= 34) {
      bytes.push_back(0x0F);
      if (map >= 66) bytes.push_back(map < 73 ? 0x38 : 0x3A);
    }
  }
  bytes.push_back(static_cast<std::uint8_t>(random.next()));
  auto modrm = static_cast<std::uint8_t>(random.next());
  if (random.percent(20)) modrm |= 0xC0;
  bytes.push_back(modrm);
  while (bytes.size() < kLongest) bytes.push_back(static_cast<std::uint8_t>(random.next()));
  return bytes;
}

}  // namespace doppel::fuzz_isa
