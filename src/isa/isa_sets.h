#pragma once

#include <Zydis/Zydis.h>

#include "x86/cpuid_model.h"

namespace doppel::isa {

/// Whether the guest's processor has the instructions of one of Zydis's ISA sets; those of the others raise #UD.
bool has_isa_set(const x86::CpuidModel& cpuid, ZydisISASet set);

}  // namespace doppel::isa
