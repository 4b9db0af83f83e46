#pragma once

#include <cstddef>
#include <span>

#include "net/backend.h"

namespace doppel::net {

/// Does what kNeedsChecksum asks for: sums the frame from checksum_start to its end, and stores the result. False when
/// the header points outside the frame.
bool complete_checksum(const FrameHeader& header, std::span<std::byte> frame);

}  // namespace doppel::net
