#pragma once

#include <asmjit/x86.h>

#include <cstddef>

namespace doppel::engine::dbt {

/// Where REP MOVS and REP STOS leave to.
struct StringExits {
  const std::byte *read_miss, *write_miss, *interpret;
};

/// REP MOVS or REP STOS of elements of 1 << log bytes, upwards, through the tables: as many at once as the pages allow.
/// Between two pages, all registers are as between two iterations.
void emit_string(asmjit::x86::Assembler& a, bool moves, unsigned log, const StringExits& exits);

}  // namespace doppel::engine::dbt
