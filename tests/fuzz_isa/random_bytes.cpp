#include "fuzz_isa/random_bytes.h"

#include <cstddef>

namespace doppel::fuzz_isa {

namespace {

/// More than fit are dropped.
class Bytes {
 public:
  void push_back(unsigned byte) {
    if (count_ < bytes_.size()) bytes_[count_++] = static_cast<std::uint8_t>(byte);
  }
  std::array<std::uint8_t, 15> filled_up(Random& random) {
    while (count_ < bytes_.size()) bytes_[count_++] = static_cast<std::uint8_t>(random.next());
    return bytes_;
  }

 private:
  std::array<std::uint8_t, 15> bytes_{};
  std::size_t count_ = 0;
};

constexpr std::array<std::uint8_t, 6> kSegments{0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65};

void add_vex(Random& random, bool bits64, Bytes& bytes) {
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

std::array<std::uint8_t, 15> random_bytes(Random& random, bool bits64) {
  Bytes bytes;
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
  return bytes.filled_up(random);
}

std::array<std::uint8_t, 15> random_bytes(Random& random, bool bits64, const Opening& opening) {
  Bytes bytes;
  if (random.percent(10)) bytes.push_back(0x67);
  if (random.percent(12)) bytes.push_back(random.pick(kSegments));
  if (!opening.vex && random.percent(5)) bytes.push_back(random.percent(50) ? 0x66 : 0xF3);
  for (unsigned i = 0; i < opening.prefixes; ++i) bytes.push_back(opening.prefix[i]);
  if (random.percent(3)) bytes.push_back(random.pick(kSegments));
  const unsigned high_registers = bits64 && random.percent(60) ? static_cast<unsigned>(random.below(8)) : 0;
  unsigned first = 0;
  if (opening.vex) {
    // R, X, B and vvvv are inverted.
    const bool third = random.percent(60);
    const unsigned vvvv = third ? static_cast<unsigned>(random.below(bits64 ? 16 : 8)) : 0;
    bytes.push_back(0xC4);
    bytes.push_back(opening.opcode[0] ^ high_registers << 5);
    bytes.push_back(opening.opcode[1] ^ vvvv << 3);
    first = 2;
  } else if (opening.rex_w || high_registers != 0 || (bits64 && random.percent(10))) {
    bytes.push_back(0x40 | (opening.rex_w ? 8U : 0U) | high_registers);
  }
  for (unsigned i = first; i < opening.opcodes; ++i) bytes.push_back(opening.opcode[i]);
  if (opening.has_modrm) {
    unsigned modrm = opening.modrm;
    if (modrm < 0xC0) {
      modrm = (modrm & 0x38) | static_cast<unsigned>(random.below(3)) << 6 | static_cast<unsigned>(random.below(8));
    } else if (random.percent(60)) {
      modrm = (modrm & 0xF8) | static_cast<unsigned>(random.below(8));
    }
    if (random.percent(60)) modrm = (modrm & 0xC7) | static_cast<unsigned>(random.below(8)) << 3;
    bytes.push_back(modrm);
  }
  return bytes.filled_up(random);
}

}  // namespace doppel::fuzz_isa
