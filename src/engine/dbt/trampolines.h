#pragma once

#include <array>
#include <cstddef>

#include "base/result.h"
#include "engine/dbt/code_cache.h"
#include "engine/dbt/env.h"

namespace doppel::engine::dbt {

/// The way into translated code and the ways out of it, in a code cache.
///
/// While translated code runs, the host's registers hold the guest's of the same name, but for these: rcx and r11 are
/// scratch, guest rcx is in r9, guest rsp in r10, guest r9 to r11 are in Env::slot, and the host's rsp points to
/// Env::slot. Arithmetic flags, vector registers and MXCSR are the guest's; x87 registers while Env::fpu_loaded.
struct Trampolines {
  /// Loads the guest's registers from Env::state and runs `code` until an exit; then they are back in Env::state, but
  /// for the x87 registers.
  using Enter = void (*)(void* stack_pointer, const void* code);
  Enter enter = nullptr;

  /// What translated code calls to leave, by ExitReason, but for HostFault.
  std::array<const std::byte*, kExitReasons - 1> exit{};
  /// What it calls instead where a look-up has failed, with the linear address in a register: by that, for reading and
  /// for writing.
  std::array<std::array<const std::byte*, 16>, 2> miss{};
  /// What it calls for an access of 2, 4 or 8 bytes that is not aligned, by its size's binary logarithm and the
  /// register of its linear address. Comes back if the access stays inside its page. Changes rcx.
  static constexpr std::size_t kCheckedSizes = 4;
  std::array<std::array<const std::byte*, 16>, kCheckedSizes> check_crossing{};
  /// What it calls when the jump table does not have the guest address in r11 in its first place: of supervisor and of
  /// user code.
  std::array<const std::byte*, 2> not_found{};
  /// What it calls for REP MOVS and REP STOS with 64-bit addresses, by the binary logarithm of the element's size. They
  /// leave like a miss, or to the interpreter, with what has been done in the registers. Change rcx and r11.
  static constexpr std::size_t kStringSizes = 4;
  std::array<const std::byte*, kStringSizes> move_string{}, store_string{};
  /// What the jump table has for JumpTable::kNowhere.
  const std::byte* nowhere = nullptr;
  /// What it calls for SYSCALL, with the address behind it in rcx, and for SYSRET to 64-bit code. They do not come back
  /// to the block, except by way of the monitor, which Env::may_switch and rare cases send them to.
  const std::byte* system_call = nullptr;
  const std::byte* system_return = nullptr;
  /// Where the signal handler resumes.
  const std::byte* host_fault = nullptr;

  static Result<Trampolines> emit(CodeCache& cache);
};

}  // namespace doppel::engine::dbt
