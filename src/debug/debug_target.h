#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "x86/cpu_state.h"

namespace doppel::debug {

/// Why a machine under a debugger has come to a stop.
struct Stop {
  enum class Reason : std::uint8_t {
    Interrupted,  ///< the debugger asked
    Stepped,      ///< the one instruction has been executed
    Breakpoint,   ///< RIP is at a breakpoint, whose instruction has not executed
    Watchpoint,   ///< a watched access has happened; `address` is the watchpoint's
    Shutdown,     ///< the processor has met a triple fault
  };
  Reason reason = Reason::Interrupted;
  unsigned vcpu = 0;
  std::uint64_t address = 0;
};

/// A break- or watchpoint at linear addresses [address, address + length).
struct StopPoint {
  enum class Kind : std::uint8_t { SoftwareBreakpoint, HardwareBreakpoint, WriteWatch, ReadWatch, AccessWatch };
  Kind kind;
  std::uint64_t address = 0;
  std::uint64_t length = 1;

  bool is_breakpoint() const { return kind == Kind::SoftwareBreakpoint || kind == Kind::HardwareBreakpoint; }
  bool operator==(const StopPoint&) const = default;
};

/// What one vCPU does when the machine goes on.
enum class ResumeAction : std::uint8_t { Stay, Continue, Step };

/// A machine as a debugger sees it: processors that stop and go together, their registers, and memory by linear
/// address. All functions but the stop listener are called by the debugger's one thread; registers and memory only
/// while the machine is stopped.
class DebugTarget {
 public:
  virtual ~DebugTarget() = default;

  virtual unsigned vcpu_count() const = 0;

  /// Who is told of each Stop that stop() did not ask for. Called in any thread, the machine being stopped then; must
  /// not call back into the target. Empty: nobody.
  virtual void set_stop_listener(std::function<void(const Stop&)> listener) = 0;
  /// Returns with every vCPU between two instructions. Does nothing when the machine is stopped already.
  virtual void stop() = 0;
  /// One action for each vCPU. `points` hold for all of them.
  virtual void resume(std::span<const ResumeAction> actions, std::span<const StopPoint> points) = 0;

  virtual x86::CpuState registers(unsigned vcpu) = 0;
  virtual void set_registers(unsigned vcpu, const x86::CpuState& state) = 0;
  /// As that vCPU's paging maps it now. False when any byte is not mapped to RAM (a failed write has written nothing or
  /// a part).
  virtual bool read_memory(unsigned vcpu, std::uint64_t address, std::span<std::byte> out) = 0;
  virtual bool write_memory(unsigned vcpu, std::uint64_t address, std::span<const std::byte> bytes) = 0;

  /// The reset button, and the end of the machine.
  virtual void reset() = 0;
  virtual void kill() = 0;
};

}  // namespace doppel::debug
