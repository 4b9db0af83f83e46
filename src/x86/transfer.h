#pragma once

#include <cstdint>

#include "x86/cpu.h"

/// Transfers of control to another segment; SDM vol. 3, 5.8 and 7.3; in every mode, through gates and task gates too.
/// They set CS, RIP, SS, RSP, refresh the MMU's view, and throw Fault with nothing changed. `operand_size` is 2, 4 or 8
/// bytes.
///
/// One exception: a task switch that faults after the new task was entered has changed everything; it has then also
/// moved Cpu::instruction_start, so that the engine restores RIP to the new task's.
namespace doppel::x86 {

void far_jump(Cpu& cpu, std::uint16_t selector, std::uint64_t offset, unsigned operand_size);
void far_call(Cpu& cpu, std::uint16_t selector, std::uint64_t offset, unsigned operand_size);
/// RETF; `extra` bytes of parameters are released.
void far_return(Cpu& cpu, unsigned operand_size, std::uint16_t extra);
/// IRET, IRETD, IRETQ. Unblocks NMIs, even when it faults.
void interrupt_return(Cpu& cpu, unsigned operand_size);

/// Attributes of the segments that the fast system calls load for level 0.
inline constexpr std::uint32_t kFlatCode64 = 0xA09B, kFlatData32 = 0xC093;

/// Each checks everything that can make it fault, #UD for its mode and EFER.SCE included.
void syscall(Cpu& cpu);
void sysret(Cpu& cpu, unsigned operand_size);
void sysenter(Cpu& cpu);
void sysexit(Cpu& cpu, unsigned operand_size);

}  // namespace doppel::x86
