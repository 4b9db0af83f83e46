#pragma once

#include <cstdint>

#include "x86/cpu.h"

/// Hardware task switches of legacy protected mode; SDM vol. 3, 7.3.
namespace doppel::x86 {

enum class TaskSwitchReason : std::uint8_t { Jump, Call, Gate, Iret };

/// Leaves the current task for that of a TSS in the GDT; privilege of the gate or descriptor has been checked. The old
/// task resumes at state.rip; `saved_flags` are set in its saved EFLAGS as well (RF of a fault). `error_code`, if any,
/// is pushed on the new task's stack. Faults before the switch leave the old task unchanged; later ones are the new
/// task's (see transfer.h).
void switch_task(Cpu& cpu, std::uint16_t selector, TaskSwitchReason reason, const std::uint32_t* error_code = nullptr,
                 std::uint64_t saved_flags = 0);

}  // namespace doppel::x86
