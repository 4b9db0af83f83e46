#include "snapshot/checksum.h"

#include <nmmintrin.h>

#include "base/bits.h"

namespace doppel::snapshot {

__attribute__((target("sse4.2"))) std::uint32_t crc32c(std::span<const std::byte> bytes) {
  std::uint64_t crc = 0xFFFF'FFFF;
  std::size_t i = 0;
  for (; i + 8 <= bytes.size(); i += 8) crc = _mm_crc32_u64(crc, load_le<std::uint64_t>(&bytes[i]));
  auto result = static_cast<std::uint32_t>(crc);
  for (; i < bytes.size(); ++i) result = _mm_crc32_u8(result, static_cast<std::uint8_t>(bytes[i]));
  return ~result;
}

}  // namespace doppel::snapshot
