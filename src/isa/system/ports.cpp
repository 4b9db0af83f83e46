#include "isa/system/checks.h"
#include "isa/system/operands.h"
#include "isa/system/ops.h"
#include "x86/control_registers.h"
#include "x86/io_permission.h"
#include "x86/segmentation.h"

/// IN, OUT, INS and OUTS; SDM vol. 1, ch. 19.
namespace doppel::isa {
namespace {

using x86::Access;
using x86::Cpu;
using x86::SegReg;
namespace rflags = x86::rflags;

std::uint16_t port_operand(Cpu& cpu, const Insn& insn, const Operand& operand) {
  return operand.kind == OperandKind::Immediate ? static_cast<std::uint16_t>(insn.imm[operand.reg] & 0xFF)
                                                : static_cast<std::uint16_t>(cpu.state.gpr[x86::kRdx]);
}

void in(Cpu& cpu, const Insn& insn) {
  const unsigned size = insn.op[0].size;
  const std::uint16_t port = port_operand(cpu, insn, insn.op[1]);
  x86::check_io_permission(cpu, port, size);
  write_gpr(cpu.state, x86::kRax, size, cpu.ports.io.port_in(port, size));
  x86::note_port_access(cpu, port, size);
}

void out(Cpu& cpu, const Insn& insn) {
  const unsigned size = insn.op[1].size;
  const std::uint16_t port = port_operand(cpu, insn, insn.op[0]);
  x86::check_io_permission(cpu, port, size);
  cpu.ports.io.port_out(port, size, static_cast<std::uint32_t>(read_gpr(cpu.state, x86::kRax, size)));
  x86::note_port_access(cpu, port, size);
}

std::uint64_t address_register(const Cpu& cpu, unsigned reg, const Insn& insn) {
  return read_gpr(cpu.state, reg, insn.address_size);
}

void input_one(Cpu& cpu, const Insn& insn, std::uint16_t port, unsigned size) {
  // The destination is checked first: what has been read from a device cannot be put back.
  const x86::LinearAddress to =
      x86::segment_address(cpu, SegReg::Es, address_register(cpu, x86::kRdi, insn), size, Access::Write);
  cpu.mmu.probe(to, size, Access::Write, cpu.mmu.data_view());
  write_memory(cpu, to, size, cpu.ports.io.port_in(port, size));
}

void output_one(Cpu& cpu, const Insn& insn, std::uint16_t port, unsigned size) {
  const x86::LinearAddress from =
      x86::segment_address(cpu, insn.mem.segment, address_register(cpu, x86::kRsi, insn), size, Access::Read);
  cpu.ports.io.port_out(port, size, static_cast<std::uint32_t>(read_memory(cpu, from, size)));
}

/// One iteration, or all that RCX asks for under REP. Between iterations registers are up to date and whatever waits
/// for the processor goes first: RIP then stays on the instruction.
template <unsigned kSize, void (*kOne)(Cpu&, const Insn&, std::uint16_t, unsigned), unsigned kAddressRegister>
void string(Cpu& cpu, const Insn& insn) {
  x86::CpuState& state = cpu.state;
  const bool repeats = insn.rep || insn.repne;
  const auto port = static_cast<std::uint16_t>(state.gpr[x86::kRdx]);
  x86::check_io_permission(cpu, port, kSize);
  if (repeats && address_register(cpu, x86::kRcx, insn) == 0) return;
  const std::int64_t step = (state.rflags_without_of & rflags::kDf) != 0 ? -std::int64_t{kSize} : std::int64_t{kSize};
  for (;;) {
    kOne(cpu, insn, port, kSize);
    x86::note_port_access(cpu, port, kSize);
    add_to_address_register(state, kAddressRegister, insn.address_size, step);
    if (!repeats) return;
    add_to_address_register(state, x86::kRcx, insn.address_size, -1);
    if (address_register(cpu, x86::kRcx, insn) == 0) return;
    const bool traps =
        (state.rflags_without_of & rflags::kTf) != 0 || state.pending_debug != 0 || cpu.mmu.has_watches();
    if (cpu.ports.attention.any() || traps) {
      // RF, so that the instruction does not meet its own breakpoint again (SDM vol. 3, 17.3.1.1).
      state.rflags_without_of |= rflags::kRf;
      state.rip = cpu.instruction_start;
      return;
    }
  }
}

constexpr SystemEntry kOps[] = {
    {ZYDIS_MNEMONIC_IN, in},
    {ZYDIS_MNEMONIC_OUT, out},
    {ZYDIS_MNEMONIC_INSB, string<1, input_one, x86::kRdi>},
    {ZYDIS_MNEMONIC_INSW, string<2, input_one, x86::kRdi>},
    {ZYDIS_MNEMONIC_INSD, string<4, input_one, x86::kRdi>},
    {ZYDIS_MNEMONIC_OUTSB, string<1, output_one, x86::kRsi>},
    {ZYDIS_MNEMONIC_OUTSW, string<2, output_one, x86::kRsi>},
    {ZYDIS_MNEMONIC_OUTSD, string<4, output_one, x86::kRsi>},
};

}  // namespace

std::span<const SystemEntry> port_ops() {
  return kOps;
}

}  // namespace doppel::isa
