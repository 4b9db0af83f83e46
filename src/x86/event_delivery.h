#pragma once

#include <cstdint>

#include "x86/cpu.h"

/// One event on its way through the interrupt table, without what follows when that fails (events.h).
namespace doppel::x86 {

/// In the words of SDM vol. 3, table 24-16.
enum class EventType : std::uint8_t {
  ExternalInterrupt,
  Nmi,
  HardwareException,
  SoftwareInterrupt,            ///< INT n
  PrivilegedSoftwareException,  ///< INT1
  SoftwareException,            ///< INT3, INTO
};

struct Event {
  std::uint8_t vector;
  EventType type;
  std::uint32_t error_code = 0;  ///< pushed for vectors that have one
  bool sets_rf = false;          ///< RF is set in the pushed RFLAGS: a fault
};

/// Pushes state.rip as the return address and enters the handler. Throws the Fault that keeps it from doing so, with
/// the EXT bit as it belongs; then nothing has changed, but for a task gate's new task.
void deliver_event(Cpu& cpu, const Event& event);

}  // namespace doppel::x86
