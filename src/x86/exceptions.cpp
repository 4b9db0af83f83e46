#include "x86/exceptions.h"

#include <utility>

#include "x86/event_delivery.h"
#include "x86/events.h"

namespace doppel::x86 {

namespace {

constexpr std::uint64_t kDr7Gd = bit(13);

/// SDM vol. 3, table 6-4.
enum class ExceptionClass : std::uint8_t { Benign, Contributory, PageFault, DoubleFault };

ExceptionClass class_of(const Event& event) {
  if (event.type != EventType::HardwareException) return ExceptionClass::Benign;
  switch (event.vector) {
    case vector::kDe:
    case vector::kTs:
    case vector::kNp:
    case vector::kSs:
    case vector::kGp:
      return ExceptionClass::Contributory;
    case vector::kPf:
      return ExceptionClass::PageFault;
    case vector::kDf:
      return ExceptionClass::DoubleFault;
    default:
      return ExceptionClass::Benign;
  }
}

/// Whether a second exception while the first is delivered makes a double fault; SDM vol. 3, table 6-5.
bool makes_double_fault(ExceptionClass first, ExceptionClass second) {
  switch (first) {
    case ExceptionClass::Contributory:
      return second == ExceptionClass::Contributory;
    case ExceptionClass::PageFault:
      return second == ExceptionClass::Contributory || second == ExceptionClass::PageFault;
    default:
      return false;
  }
}

/// The event that a fault becomes, and what it leaves in registers. All are of the class "fault" here, but for #DF and
/// #MC (aborts) and for #DB, which leaves RF as it was (SDM vol. 3, 17.3.1.1).
Event raise_event(CpuState& state, const Fault& fault) {
  if (fault.vector == vector::kPf) state.cr2 = fault.address;
  const bool abort = fault.vector == vector::kDf || fault.vector == vector::kMc;
  return {fault.vector, EventType::HardwareException, fault.error_code, fault.vector != vector::kDb && !abort};
}

}  // namespace

void deliver_or_escalate(Cpu& cpu, Event event) {
  CpuState& state = cpu.state;
  for (;;) {
    try {
      if (event.vector == vector::kDb) state.dr7 &= ~kDr7Gd;
      deliver_event(cpu, event);
      return;
    } catch (const Fault& fault) {
      const ExceptionClass first = class_of(event);
      if (first == ExceptionClass::DoubleFault) {
        state.activity = Activity::Shutdown;
        throw Shutdown{};
      }
      const Event second = raise_event(state, fault);
      event = makes_double_fault(first, class_of(second)) ? Event{vector::kDf, EventType::HardwareException} : second;
    }
  }
}

void deliver_exception(Cpu& cpu, const Fault& fault) {
  deliver_or_escalate(cpu, raise_event(cpu.state, fault));
}

void record_debug_status(CpuState& state, std::uint64_t bits_set) {
  constexpr std::uint64_t kHits = 0xF;
  state.dr6 = (state.dr6 & ~kHits) | bits_set;
}

void deliver_software_interrupt(Cpu& cpu, std::uint8_t vector, SoftwareInterrupt kind) {
  EventType type = EventType::SoftwareInterrupt;
  if (kind == SoftwareInterrupt::Int1) type = EventType::PrivilegedSoftwareException;
  if (kind == SoftwareInterrupt::Int3 || kind == SoftwareInterrupt::Into) type = EventType::SoftwareException;
  deliver_event(cpu, {vector, type});
  // A data breakpoint that MOV SS has held back is told of by the same #DB, not by one at the handler's beginning.
  if (kind == SoftwareInterrupt::Int1 && cpu.state.pending_debug != 0) {
    record_debug_status(cpu.state, std::exchange(cpu.state.pending_debug, 0));
  }
  // TF was cleared on the way: a debugger does not step into the handler.
  cpu.single_step = false;
}

}  // namespace doppel::x86
