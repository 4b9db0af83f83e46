#include "engine/interp/handlers.h"
#include "engine/interp/operands.h"
#include "engine/interp/string_registers.h"
#include "isa/system/operands.h"
#include "x86/io_permission.h"

/// IN, OUT, INS and OUTS; SDM vol. 1, ch. 19.
namespace doppel::engine::interp {

namespace {

using isa::Insn;
using x86::Access;
using x86::CpuState;
using x86::SegReg;

std::uint16_t port_operand(const CpuState& state, const Insn& insn, const isa::Operand& operand) {
  return static_cast<std::uint16_t>(operand.kind == isa::OperandKind::Immediate ? insn.imm[0] & 0xFF
                                                                                : state.gpr[x86::kRdx]);
}

/// A device may have raised an interrupt, stopped the machine or changed the map: the block ends.
void end(Context& context) {
  context.leave = true;
  context.link = &context.lookup;
}

void in(ThunkContext* thunk_context, const DecodedOp* op) {
  Context& context = context_of(thunk_context);
  begin(context, op);
  end(context);
  const Insn& insn = *op->insn;
  const unsigned size = insn.op[0].size;
  const std::uint16_t port = port_operand(context.cpu.state, insn, insn.op[1]);
  x86::check_io_permission(context.cpu, port, size);
  isa::write_gpr(context.cpu.state, x86::kRax, size, context.cpu.ports.io.port_in(port, size));
}

void out(ThunkContext* thunk_context, const DecodedOp* op) {
  Context& context = context_of(thunk_context);
  begin(context, op);
  end(context);
  const Insn& insn = *op->insn;
  const unsigned size = insn.op[1].size;
  const std::uint16_t port = port_operand(context.cpu.state, insn, insn.op[0]);
  x86::check_io_permission(context.cpu, port, size);
  const std::uint64_t value = isa::read_gpr(context.cpu.state, x86::kRax, size);
  context.cpu.ports.io.port_out(port, size, static_cast<std::uint32_t>(value));
}

void in_string(Context& context, const Insn&, const StringRegisters& registers, std::uint16_t port, unsigned size) {
  const x86::LinearAddress address =
      x86::segment_address(context.cpu, SegReg::Es, registers.destination(), size, Access::Write);
  // What the port gives is gone once read, so the store must not fail after it.
  context.cpu.mmu.probe(address, size, Access::Write, data_view(context));
  isa::write_memory(context.cpu, address, size, context.cpu.ports.io.port_in(port, size));
}

void out_string(Context& context, const Insn& insn, const StringRegisters& registers, std::uint16_t port,
                unsigned size) {
  const x86::LinearAddress address =
      x86::segment_address(context.cpu, insn.mem.segment, registers.source(), size, Access::Read);
  const std::uint64_t value = isa::read_memory(context.cpu, address, size);
  context.cpu.ports.io.port_out(port, size, static_cast<std::uint32_t>(value));
}

template <bool kIn, unsigned kSize>
void string(ThunkContext* thunk_context, const DecodedOp* op) {
  Context& context = context_of(thunk_context);
  begin(context, op);
  end(context);
  const Insn& insn = *op->insn;
  const auto port = static_cast<std::uint16_t>(context.cpu.state.gpr[x86::kRdx]);
  x86::check_io_permission(context.cpu, port, kSize);
  StringRegisters registers(context.cpu.state, insn.address_size, kSize);
  const bool repeats = insn.rep || insn.repne;
  while (!repeats || registers.count() != 0) {
    (kIn ? in_string : out_string)(context, insn, registers, port, kSize);
    registers.advance(!kIn, kIn, 1);
    if (!repeats) return;
    registers.count_down(1);
    if (registers.count() != 0 && must_pause_repetition(context)) return stop_before(context, op);
  }
}

}  // namespace

Handler port_handler(const Insn& insn) {
  switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_IN:
      return in;
    case ZYDIS_MNEMONIC_OUT:
      return out;
    case ZYDIS_MNEMONIC_INSB:
      return string<true, 1>;
    case ZYDIS_MNEMONIC_INSW:
      return string<true, 2>;
    case ZYDIS_MNEMONIC_INSD:
      return string<true, 4>;
    case ZYDIS_MNEMONIC_OUTSB:
      return string<false, 1>;
    case ZYDIS_MNEMONIC_OUTSW:
      return string<false, 2>;
    case ZYDIS_MNEMONIC_OUTSD:
      return string<false, 4>;
    default:
      return nullptr;
  }
}

}  // namespace doppel::engine::interp
