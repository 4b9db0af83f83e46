#pragma once

#include <cstdint>

#include "isa/insn.h"

namespace doppel::isa {

/// Who has the semantics of an instruction (docs: DESIGN 3).
enum class OpClass : std::uint8_t {
  HostAlu,    ///< the host's processor: a thunk runs the same instruction on the guest's operands
  Cpp,        ///< the engine: branches, stack, strings, and what touches memory in parts
  System,     ///< a helper in isa/system
  Undefined,  ///< nobody: #UD
};

OpClass op_class(const Insn& insn);

}  // namespace doppel::isa
