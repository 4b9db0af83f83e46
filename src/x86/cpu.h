#pragma once

#include <cstdint>

#include "memory/guest_memory.h"
#include "time/vm_clock.h"
#include "x86/attention.h"
#include "x86/cpu_io.h"
#include "x86/cpu_state.h"
#include "x86/cpuid_model.h"
#include "x86/fault.h"
#include "x86/mmu.h"

namespace doppel::x86 {

/// What a processor is connected to. All outlive it.
struct CpuPorts {
  memory::GuestMemory& memory;
  CpuIo& io;
  const time::VmClock& clock;
  const CpuidModel& cpuid;
  Attention& attention;
};

/// One logical processor at work: its state, its memory view and its connections. Our own engines run on it; every
/// instruction helper of x86/ and isa/ takes it. Belongs to the vCPU's thread.
///
/// While an instruction executes, `state.rip` is already that of the next one and `instruction_start` that of the
/// current one; a Fault makes the engine restore it.
struct Cpu {
  explicit Cpu(const CpuPorts& connections)
      : ports(connections), mmu(state, connections.memory, connections.io, connections.cpuid) {}
  Cpu(const Cpu&) = delete;
  Cpu& operator=(const Cpu&) = delete;

  CpuState state;
  CpuPorts ports;
  std::uint64_t instruction_start = 0;
  std::uint64_t instructions = 0;  ///< retired since creation, for statistics
  /// The instruction under way began with TF set, so a single-step trap follows it (events.h).
  bool single_step = false;
  /// Attention::kInterrupt has been taken, but interrupt_pending() could not be asked yet, or may say yes once more.
  bool interrupt_waiting = true;
  Mmu mmu;

  /// Guest TSC now.
  std::uint64_t tsc() const { return time::ticks_at(ports.clock.now(), time::kTscHz) + state.tsc_offset; }
};

}  // namespace doppel::x86
