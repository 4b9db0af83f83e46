#include <array>

#include "isa/system/checks.h"
#include "isa/system/operands.h"
#include "isa/system/ops.h"
#include "x86/segmentation.h"
#include "x86/stack.h"

/// ENTER, LEAVE, PUSHA and POPA: several stack accesses in one instruction, of which a fault undoes the stack pointer.
namespace doppel::isa {
namespace {

using x86::Access;
using x86::Cpu;
using x86::SegReg;

/// Puts RSP back unless the instruction got through.
class StackPointerGuard {
 public:
  explicit StackPointerGuard(x86::CpuState& state) : state_(state), rsp_(state.gpr[x86::kRsp]) {}
  StackPointerGuard(const StackPointerGuard&) = delete;
  StackPointerGuard& operator=(const StackPointerGuard&) = delete;
  ~StackPointerGuard() {
    if (!done_) state_.gpr[x86::kRsp] = rsp_;
  }
  void done() { done_ = true; }

 private:
  x86::CpuState& state_;
  std::uint64_t rsp_;
  bool done_ = false;
};

std::uint64_t stack_address(Cpu& cpu, std::uint64_t offset, unsigned size, Access access) {
  return x86::segment_address(cpu, SegReg::Ss, offset & low_mask(x86::stack_address_size(cpu.state) * 8), size, access);
}

void enter(Cpu& cpu, const Insn& insn) {
  x86::CpuState& state = cpu.state;
  const unsigned size = insn.operand_size;
  const std::uint64_t allocated = insn.imm[0] & 0xFFFF;
  const unsigned level = insn.imm[1] & 31;

  StackPointerGuard guard(state);
  x86::push(cpu, state.gpr[x86::kRbp], size);
  const std::uint64_t frame = state.gpr[x86::kRsp];
  std::uint64_t outer = state.gpr[x86::kRbp];
  for (unsigned i = 1; i < level; ++i) {
    outer -= size;
    x86::push(cpu, read_memory(cpu, stack_address(cpu, outer, size, Access::Read), size), size);
  }
  if (level > 0) x86::push(cpu, frame, size);
  x86::add_to_stack_pointer(state, -static_cast<std::int64_t>(allocated));
  // The new top has to be writable, although nothing is written there.
  cpu.mmu.probe(stack_address(cpu, state.gpr[x86::kRsp], size, Access::Write), size, Access::Write,
                cpu.mmu.data_view());
  write_gpr(state, x86::kRbp, size, frame);
  guard.done();
}

void leave(Cpu& cpu, const Insn& insn) {
  x86::CpuState& state = cpu.state;
  StackPointerGuard guard(state);
  write_gpr(state, x86::kRsp, x86::stack_address_size(state), state.gpr[x86::kRbp]);
  write_gpr(state, x86::kRbp, insn.operand_size, x86::pop(cpu, insn.operand_size));
  guard.done();
}

void pusha(Cpu& cpu, const Insn& insn) {
  StackPointerGuard guard(cpu.state);
  const std::uint64_t original = cpu.state.gpr[x86::kRsp];
  for (unsigned reg = x86::kRax; reg <= x86::kRdi; ++reg)
    x86::push(cpu, reg == x86::kRsp ? original : cpu.state.gpr[reg], insn.operand_size);
  guard.done();
}

void popa(Cpu& cpu, const Insn& insn) {
  const unsigned size = insn.operand_size;
  std::array<std::uint64_t, 8> values;
  for (unsigned i = 0; i < values.size(); ++i) values[i] = x86::peek(cpu, std::uint64_t{i} * size, size);
  for (unsigned i = 0; i < values.size(); ++i) {
    const unsigned reg = x86::kRdi - i;
    if (reg != x86::kRsp) write_gpr(cpu.state, reg, size, values[i]);
  }
  x86::add_to_stack_pointer(cpu.state, static_cast<std::int64_t>(values.size()) * size);
}

constexpr SystemEntry kOps[] = {
    {ZYDIS_MNEMONIC_ENTER, enter},  {ZYDIS_MNEMONIC_LEAVE, leave}, {ZYDIS_MNEMONIC_PUSHA, pusha},
    {ZYDIS_MNEMONIC_PUSHAD, pusha}, {ZYDIS_MNEMONIC_POPA, popa},   {ZYDIS_MNEMONIC_POPAD, popa},
};

}  // namespace

std::span<const SystemEntry> stack_frame_ops() {
  return kOps;
}

}  // namespace doppel::isa
