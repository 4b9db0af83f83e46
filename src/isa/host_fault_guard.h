#pragma once

#include <cstddef>
#include <span>

namespace doppel::isa {

/// While it lives, exceptions that the host's processor raises inside `code` (a division's #DE, #XM, #MF, #GP for a
/// misaligned operand) resume at the address in r10 with the vector in rdx, instead of killing the process. One per
/// thread at a time; create it in the thread that runs the code. Signals from anywhere else go where they went before.
class HostFaultGuard {
 public:
  explicit HostFaultGuard(std::span<const std::byte> code);
  HostFaultGuard(const HostFaultGuard&) = delete;
  HostFaultGuard& operator=(const HostFaultGuard&) = delete;
  ~HostFaultGuard();
};

}  // namespace doppel::isa
