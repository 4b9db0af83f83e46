#pragma once

#include <string>
#include <vector>

#include "x86/cpu_state.h"

/// What two engines may and may not disagree about. They may about FIP, FDP and FOP, where the last x87 instruction
/// was: processors differ in when they keep these (AMD's only while an error is pending), and the translator leaves it
/// to the host's.
namespace doppel::engine::lockstep {

/// Whether two processors that have executed the same instructions are in the same state. Fast.
bool same(const x86::CpuState& left, const x86::CpuState& right);

/// One line for each register that differs, "rax: 0x1 != 0x2".
std::vector<std::string> differences(const x86::CpuState& left, const x86::CpuState& right);

}  // namespace doppel::engine::lockstep
