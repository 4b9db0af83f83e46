#include "x86/events.h"

#include "x86/control_registers.h"
#include "x86/exceptions.h"
#include "x86/pvclock.h"

namespace doppel::x86 {

namespace {

constexpr std::uint64_t kDr6Bs = bit(14);
constexpr std::uint32_t kRare =
    Attention::kFlush | Attention::kStop | Attention::kInit | Attention::kSipi | Attention::kNmi | Attention::kResumed;

void take_init(Cpu& cpu) {
  constexpr std::uint32_t kApicBase = 0x1B;
  constexpr std::uint64_t kBsp = bit(8);
  std::uint64_t apic_base = 0;
  const bool known = cpu.ports.io.read_apic_msr(kApicBase, apic_base);
  cpu.state.reset(true, known && (apic_base & kBsp) != 0);
  cpu.ports.io.reset_local_apic();
  state_replaced(cpu);
}

/// SDM vol. 3, 8.4.4: a start-up IPI starts a waiting processor in real mode at page `vector`; others ignore it.
void take_sipi(Cpu& cpu) {
  CpuState& state = cpu.state;
  if (state.activity != Activity::WaitForSipi) return;
  state.sipi_vector = cpu.ports.attention.sipi_vector();
  Segment& cs = state.seg(SegReg::Cs);
  cs.selector = static_cast<std::uint16_t>(state.sipi_vector << 8);
  cs.base = std::uint64_t{state.sipi_vector} << 12;
  state.rip = 0;
  state.activity = Activity::Running;
}

/// DR7's instruction breakpoints that are enabled, a bit each.
unsigned armed_breakpoints(const CpuState& state) {
  unsigned armed = 0;
  if ((state.dr7 & 0xFF) == 0) return 0;
  for (unsigned i = 0; i < 4; ++i) {
    const bool enabled = bits(state.dr7, 2 * i + 1, 2 * i) != 0;
    const bool instruction = bits(state.dr7, 17 + 4 * i, 16 + 4 * i) == 0;
    if (enabled && instruction) armed |= 1U << i;
  }
  return armed;
}

void deliver_debug_trap(Cpu& cpu) {
  CpuState& state = cpu.state;
  state.activity = Activity::Running;
  record_debug_status(state, state.pending_debug);
  state.pending_debug = 0;
  deliver_or_escalate(cpu, {vector::kDb, EventType::HardwareException});
}

void deliver_nmi(Cpu& cpu) {
  CpuState& state = cpu.state;
  state.activity = Activity::Running;
  state.nmi_pending = false;
  state.nmi_blocked = true;
  deliver_or_escalate(cpu, {vector::kNmi, EventType::Nmi});
}

void deliver_interrupt(Cpu& cpu) {
  // More may follow; it is asked again as soon as IF allows.
  cpu.interrupt_waiting = cpu.ports.io.interrupt_pending();
  if (!cpu.interrupt_waiting) return;
  cpu.state.activity = Activity::Running;
  const std::uint8_t vector = cpu.ports.io.acknowledge_interrupt();
  deliver_or_escalate(cpu, {vector, EventType::ExternalInterrupt});
}

bool interrupts_enabled(const CpuState& state) {
  return (state.rflags_without_of & rflags::kIf) != 0;
}

/// The debug exceptions, NMI and interrupts that have arrived, each once. True when one is held off for an instruction.
bool deliver_pending(Cpu& cpu) {
  CpuState& state = cpu.state;
  const bool ss_shadow = state.ss_shadow, sti_shadow = state.sti_shadow || ss_shadow;
  state.ss_shadow = state.sti_shadow = false;
  bool held = false;
  // Of the traps behind a load of SS the single step is not put off but lost (SDM vol. 3, 17.3.1.4).
  if (ss_shadow) state.pending_debug &= ~kDr6Bs;
  if (state.pending_debug != 0) {
    if (ss_shadow) {
      held = true;
    } else {
      deliver_debug_trap(cpu);
    }
  }
  if (state.nmi_pending && !state.nmi_blocked) {
    if (ss_shadow) {
      held = true;
    } else {
      deliver_nmi(cpu);
    }
  }
  if (cpu.interrupt_waiting && interrupts_enabled(state)) {
    if (sti_shadow) {
      held = true;
    } else {
      deliver_interrupt(cpu);
      // A trap gate has left IF set.
      held |= cpu.interrupt_waiting && interrupts_enabled(state);
    }
  }
  // Instruction breakpoints are held off as well; RF does just that for one instruction.
  if (ss_shadow && armed_breakpoints(state) != 0) state.rflags_without_of |= rflags::kRf;
  return held;
}

/// TF, or an instruction breakpoint. Without any, RF has no work to do and its time is over with the next instruction:
/// it is cleared here at once rather than that an instruction is stepped for it.
bool needs_step(CpuState& state) {
  if (armed_breakpoints(state) != 0) return true;
  state.rflags_without_of &= ~rflags::kRf;
  return (state.rflags_without_of & rflags::kTf) != 0;
}

}  // namespace

Boundary service_events(Cpu& cpu) {
  CpuState& state = cpu.state;
  Attention& attention = cpu.ports.attention;
  const std::uint32_t pending = attention.pending();
  if ((pending & kRare) != 0) {
    if (attention.take(Attention::kFlush) != 0) cpu.mmu.flush_all();
    if (attention.take(Attention::kStop) != 0) return Boundary::Stop;
    if (attention.take(Attention::kResumed) != 0) update_system_time(cpu, true);
    if (attention.take(Attention::kInit) != 0) take_init(cpu);
    if (attention.take(Attention::kSipi) != 0) take_sipi(cpu);
    if (attention.take(Attention::kNmi) != 0) state.nmi_pending = true;
  }
  // Cleared before interrupt_pending() is asked: what arrives after that sets the bit again.
  if ((pending & Attention::kInterrupt) != 0) {
    attention.clear(Attention::kInterrupt);
    cpu.interrupt_waiting = true;
  }
  if (state.activity == Activity::WaitForSipi) return Boundary::Idle;
  if (state.activity == Activity::Shutdown) throw Shutdown{};

  const bool held = deliver_pending(cpu);
  if (state.activity == Activity::Halted) return Boundary::Idle;
  return needs_step(state) || held ? Boundary::Step : Boundary::Continue;
}

void begin_step(Cpu& cpu) {
  CpuState& state = cpu.state;
  if ((state.rflags_without_of & rflags::kRf) == 0) {
    const std::uint64_t base = state.code_64() ? 0 : state.seg(SegReg::Cs).base;
    const LinearAddress address = state.code_64() ? state.rip : (base + state.rip) & 0xFFFF'FFFF;
    const unsigned armed = armed_breakpoints(state);
    unsigned hits = 0;
    for (unsigned i = 0; i < 4; ++i) {
      if ((armed >> i & 1) != 0 && state.dr[i] == address) hits |= 1U << i;
    }
    if (hits != 0) {
      record_debug_status(state, hits);
      raise(vector::kDb);
    }
  }
  state.rflags_without_of &= ~rflags::kRf;
  cpu.single_step = (state.rflags_without_of & rflags::kTf) != 0;
}

void end_step(Cpu& cpu) {
  if (cpu.single_step) cpu.state.pending_debug |= kDr6Bs;
  cpu.single_step = false;
}

}  // namespace doppel::x86
