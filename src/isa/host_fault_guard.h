#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace doppel::isa {

/// The host's registers where an exception was raised; a handler may change them (ucontext_t::uc_mcontext.gregs).
using HostRegisters = long long*;

/// While it lives, exceptions that the host's processor raises inside `code` go to a handler of ours instead of killing
/// the process. They nest: each knows its own code. Create it in the thread that runs the code. Signals from anywhere
/// else go where they went before.
class HostFaultGuard {
 public:
  /// Called on a signal stack, with the exception's vector. False: not expected, so the signal goes on.
  using Handler = bool (*)(HostRegisters registers, std::uint64_t vector);

  /// A division's #DE, #XM, #MF, #GP for a misaligned operand: execution resumes at the address in r10 with the vector
  /// in rdx.
  explicit HostFaultGuard(std::span<const std::byte> code);
  HostFaultGuard(std::span<const std::byte> code, Handler handler);
  HostFaultGuard(const HostFaultGuard&) = delete;
  HostFaultGuard& operator=(const HostFaultGuard&) = delete;
  ~HostFaultGuard();

 private:
  friend struct HostFaultDispatch;

  std::span<const std::byte> code_;
  Handler handler_;
  HostFaultGuard* outer_;
};

}  // namespace doppel::isa
