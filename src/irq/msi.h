#pragma once

#include <cstdint>
#include <optional>

#include "irq/message.h"

namespace doppel::irq {

/// The message that a write of `data` to `address` means (SDM vol. 3, 11.11); none when the address is not in the
/// interrupt range FEE00000h–FEEFFFFFh.
std::optional<Message> decode_msi(std::uint64_t address, std::uint32_t data);

}  // namespace doppel::irq
