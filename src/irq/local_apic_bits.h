#pragma once

#include <cstdint>

#include "irq/message.h"

/// Bits of the local APIC's registers (SDM vol. 3, chapter 11), for the files that implement it.
namespace doppel::irq {

inline constexpr std::uint8_t kFirstLegalVector = 16;

inline constexpr std::uint32_t kSvrEnable = 1 << 8;
inline constexpr std::uint32_t kDfrFlat = 0xF;

// Local vector table.
inline constexpr std::uint32_t kLvtPolarityLow = 1 << 13;
inline constexpr std::uint32_t kLvtRemoteIrr = 1 << 14;
inline constexpr std::uint32_t kLvtLevelTriggered = 1 << 15;
inline constexpr std::uint32_t kLvtMasked = 1 << 16;
inline constexpr std::uint32_t kLvtDeliveryMode = 7 << 8;
inline constexpr std::uint32_t kLvtTimerMode = 3 << 17;
inline constexpr std::uint32_t kDeliveryStatus = 1 << 12;

constexpr DeliveryMode lvt_delivery_mode(std::uint32_t entry) {
  return static_cast<DeliveryMode>((entry & kLvtDeliveryMode) >> 8);
}

// Interrupt command register.
inline constexpr std::uint32_t kIcrLogical = 1 << 11;
inline constexpr std::uint32_t kIcrAssert = 1 << 14;
inline constexpr std::uint32_t kIcrLevelTriggered = 1 << 15;
inline constexpr std::uint32_t kIcrWritable = 0x000C'CFFF;

enum class Shorthand : std::uint8_t { None = 0, Self = 1, AllIncludingSelf = 2, AllExcludingSelf = 3 };

}  // namespace doppel::irq
