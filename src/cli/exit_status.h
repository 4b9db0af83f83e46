#pragma once

/// How `doppel` ends. `run -c` ends with the command's own status instead, where the command came to an end; statuses
/// of Doppel's own stay clear of what commands commonly use, as those of env(1) and container tools do.
namespace doppel::cli::exit_status {

inline constexpr int kSuccess = 0;         ///< the guest powered off, or rebooted under --no-reboot, or was left
inline constexpr int kFailure = 1;         ///< a command other than run could not do what it was asked
inline constexpr int kUsage = 2;           ///< an unknown option, an impossible value, a file that cannot be booted
inline constexpr int kGuestPanic = 120;    ///< the guest's kernel panicked
inline constexpr int kTripleFault = 121;   ///< a guest processor shut down
inline constexpr int kNoCommandEnd = 122;  ///< the machine ended before the command of -c did
inline constexpr int kDiverged = 123;      ///< lockstep found two engines to disagree
inline constexpr int kHostFailure = 125;   ///< the host lacks something: memory, a permission, a device
inline constexpr int kSignalBase = 128;    ///< plus the number of the signal that ended Doppel; 137 after doppel kill
// isa-debug-exit: (value << 1) | 1, as in QEMU.

}  // namespace doppel::cli::exit_status
