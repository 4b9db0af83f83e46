#include "engine/interp/operands.h"

#include "isa/system/operands.h"

namespace doppel::engine::interp {

std::uint64_t read_source_slow(Context& context, const DecodedOp* op) {
  begin(context, op);
  return isa::read_operand(context.cpu, *op->insn, op->insn->op[0]);
}

}  // namespace doppel::engine::interp
