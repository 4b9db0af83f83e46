#pragma once

#include <asmjit/x86.h>

#include <cstdint>

#include "engine/dbt/env.h"

namespace doppel::engine::dbt {

/// What is DOPPEL_ENV(field) from the host's rsp.
inline asmjit::x86::Mem env(std::int32_t offset, std::uint32_t size = 8) {
  return asmjit::x86::Mem(asmjit::x86::rsp, offset, size);
}

/// The same in what translated code calls, below the return address.
inline asmjit::x86::Mem env_below(std::int32_t offset, std::uint32_t size = 8) {
  return env(offset + 8, size);
}

/// What is `offset` bytes into the x86::CpuState that `base` points to.
inline asmjit::x86::Mem state(const asmjit::x86::Gp& base, std::size_t offset, std::uint32_t size = 8) {
  return asmjit::x86::Mem(base, static_cast<std::int32_t>(offset), size);
}

}  // namespace doppel::engine::dbt
