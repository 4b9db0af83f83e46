#pragma once

#include <span>

#include "isa/system.h"

/// The system instructions by concept: one table, mnemonic to helper, for each file of this directory.
namespace doppel::isa {

struct SystemEntry {
  ZydisMnemonic mnemonic;
  SystemOp op;
};

std::span<const SystemEntry> register_move_ops();     ///< MOV, PUSH and POP of segment, control and debug registers
std::span<const SystemEntry> control_ops();           ///< CLTS, LMSW, SMSW
std::span<const SystemEntry> descriptor_table_ops();  ///< LGDT … STR
std::span<const SystemEntry> segment_ops();           ///< LDS …, LAR, LSL, VERR, VERW, ARPL, SWAPGS, FSGSBASE
std::span<const SystemEntry> far_transfer_ops();      ///< far JMP, CALL, RET; IRET; SYSCALL and SYSENTER families
std::span<const SystemEntry> interrupt_ops();         ///< INT …, BOUND, UD
std::span<const SystemEntry> flag_ops();              ///< CLI, STI, PUSHF, POPF, LAHF, SAHF, CLC …, STAC, CLAC
std::span<const SystemEntry> processor_ops();         ///< HLT, PAUSE, fences, caches, INVLPG, INVPCID
std::span<const SystemEntry> identification_ops();    ///< CPUID, MSRs, TSC, RDPID, XGETBV, XSETBV
std::span<const SystemEntry> port_ops();              ///< IN, OUT, INS, OUTS
std::span<const SystemEntry> random_ops();            ///< RDRAND, RDSEED
std::span<const SystemEntry> stack_frame_ops();       ///< ENTER, LEAVE, PUSHA, POPA
std::span<const SystemEntry> decimal_ops();           ///< DAA, DAS, AAA, AAS, AAM, AAD, SALC, XLAT
std::span<const SystemEntry> extended_state_ops();    ///< FXSAVE, XSAVE … LDMXCSR, FNSAVE, FNSTENV …
std::span<const SystemEntry> hypervisor_ops();        ///< VMCALL, VMMCALL

}  // namespace doppel::isa
