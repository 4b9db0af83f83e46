#pragma once

#include <array>
#include <cstdint>

namespace doppel::machine {

/// What makes this machine itself and no other: stays the same over resets.
struct Identity {
  std::array<std::uint8_t, 16> uuid{};
  std::array<std::uint8_t, 16> vm_generation_id{};

  static Identity random();
};

}  // namespace doppel::machine
