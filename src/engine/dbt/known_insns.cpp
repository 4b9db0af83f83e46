#include "engine/dbt/known_insns.h"

#include <algorithm>
#include <array>
#include <bit>

namespace doppel::engine::dbt {

/// By the first bytes; what follows them is mostly a displacement or an immediate, if anything.
SourceInsn& KnownInsns::place_of(std::span<const std::byte> bytes, isa::CodeSize size) {
  constexpr std::uint32_t kGoldenRatio = 0x9E37'79B9;
  constexpr int kBits = std::bit_width(kPlaces - 1);
  std::array<std::byte, sizeof(std::uint32_t)> first{};
  std::copy_n(bytes.begin(), std::min(first.size(), bytes.size()), first.begin());
  const std::uint32_t key = std::bit_cast<std::uint32_t>(first) + static_cast<std::uint32_t>(size);
  return places_[key * kGoldenRatio >> (32 - kBits)];
}

bool KnownInsns::decode(std::span<const std::byte> bytes, isa::CodeSize size, SourceInsn& out) {
  SourceInsn& known = place_of(bytes, size);
  const std::size_t length = known.insn.length;
  if (length != 0 && length <= bytes.size() && known.insn.code_size == size &&
      std::equal(known.bytes.begin(), known.bytes.begin() + length, bytes.begin())) {
    out = known;
    return true;
  }
  if (decoder_.decode(bytes, size, true, out.insn, &out.encoding) != isa::DecodeStatus::Ok) return false;
  std::copy_n(bytes.begin(), out.insn.length, out.bytes.begin());
  known = out;
  return true;
}

}  // namespace doppel::engine::dbt
