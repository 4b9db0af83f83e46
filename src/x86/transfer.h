#pragma once

#include <cstdint>

#include "x86/cpu.h"

/// Transfers of control to another segment; SDM vol. 3, 5.8 and 7.3; in every mode, through gates and task gates too.
/// They set CS, RIP, SS, RSP, refresh the MMU's view, and throw Fault with nothing changed. `operand_size` is 2, 4 or 8
/// bytes.
namespace doppel::x86 {

void far_jump(Cpu& cpu, std::uint16_t selector, std::uint64_t offset, unsigned operand_size);
void far_call(Cpu& cpu, std::uint16_t selector, std::uint64_t offset, unsigned operand_size);
/// RETF; `extra` bytes of parameters are released.
void far_return(Cpu& cpu, unsigned operand_size, std::uint16_t extra);
/// IRET, IRETD, IRETQ.
void interrupt_return(Cpu& cpu, unsigned operand_size);

void syscall(Cpu& cpu);
void sysret(Cpu& cpu, unsigned operand_size);
void sysenter(Cpu& cpu);
void sysexit(Cpu& cpu, unsigned operand_size);

enum class TaskSwitchReason : std::uint8_t { Jump, Call, Gate, Iret };
/// SDM vol. 3, 7.3. `error_code`, if any, is pushed on the new task's stack.
void switch_task(Cpu& cpu, std::uint16_t tss_selector, TaskSwitchReason reason, const std::uint32_t* error_code);

}  // namespace doppel::x86
