#include "net/checksum.h"

#include <cstring>

#include "base/bits.h"

namespace doppel::net {

std::uint16_t ones_sum(std::span<const std::byte> bytes) {
  std::uint64_t sum = 0;
  while (bytes.size() >= 4) {
    sum += load_le<std::uint32_t>(bytes.data());
    bytes = bytes.subspan(4);
  }
  std::uint32_t tail = 0;
  if (!bytes.empty()) std::memcpy(&tail, bytes.data(), bytes.size());
  sum += tail;
  while (sum >> 16 != 0) sum = (sum & 0xFFFF) + (sum >> 16);
  return static_cast<std::uint16_t>(sum);
}

bool complete_checksum(const FrameHeader& header, std::span<std::byte> frame) {
  const std::size_t start = header.checksum_start;
  const std::size_t field = start + header.checksum_offset;
  if (start > frame.size() || field + 2 > frame.size()) return false;
  // The field holds the pseudo header's sum already.
  const auto sum = static_cast<std::uint16_t>(~ones_sum(frame.subspan(start)));
  // Zero would say "no checksum" in UDP; both are the same number in one's complement.
  store_le(frame.data() + field, sum == 0 ? std::uint16_t{0xFFFF} : sum);
  return true;
}

}  // namespace doppel::net
