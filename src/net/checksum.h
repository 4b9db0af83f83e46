#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "net/backend.h"

namespace doppel::net {

/// The one's complement sum of RFC 1071 in the host's byte order, not inverted.
std::uint16_t ones_sum(std::span<const std::byte> bytes);

/// Does what kNeedsChecksum asks for: sums the frame from checksum_start to its end, and stores the result. False when
/// the header points outside the frame.
bool complete_checksum(const FrameHeader& header, std::span<std::byte> frame);

}  // namespace doppel::net
