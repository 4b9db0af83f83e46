#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "bus/device.h"
#include "x86/cpu_state.h"

namespace doppel::machine {

/// A processor with what waits for it.
struct ProcessorState {
  x86::CpuState cpu;
  std::uint32_t attention = 0;  ///< those of kSignals that it has not seen yet
  std::uint8_t sipi_vector = 0;

  /// What arrives once and is nowhere else: NMI, INIT, SIPI (x86::Attention).
  static const std::uint32_t kSignals;
  void describe(state::Visitor& visitor);
};

/// The key of a component in saved state, made of its name: the same for ever.
std::uint32_t component_number(const std::string& name);

/// Processors (by number) and devices as bytes, each under the key of its name. The machine is paused.
std::vector<std::byte> save_components(std::vector<ProcessorState>& processors,
                                       const std::vector<bus::Device*>& devices);
/// The inverse, for hostile bytes: an error leaves the devices as they were.
Result<void> load_components(std::span<const std::byte> bytes, std::vector<ProcessorState>& processors,
                             const std::vector<bus::Device*>& devices);

}  // namespace doppel::machine
