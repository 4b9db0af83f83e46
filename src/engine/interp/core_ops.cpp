#include <array>
#include <bit>

#include "engine/interp/handlers.h"
#include "engine/interp/mmx.h"
#include "engine/interp/operands.h"
#include "isa/fpu_checks.h"
#include "isa/insn_queries.h"
#include "x86/fault.h"
#include "x86/fpu_words.h"

/// Running a CoreThunk with everything around it that generated code leaves out.
namespace doppel::engine::interp {

namespace {

using isa::Insn;
using isa::Unit;
using x86::Access;

/// As much as a memory operand of the host's instructions can be, and as aligned as any of them asks.
struct alignas(64) Bounce {
  std::array<std::byte, 128> bytes{};
  /// Alignment faults are to come as they would at the guest's address.
  std::byte* at(std::uint64_t linear) { return bytes.data() + (linear & 63); }
};

[[noreturn]] void raise_host_fault(Context& context, std::uint64_t vector) {
  // SIMD errors are #UD to an operating system that has not said it knows #XM (SDM vol. 1, 11.5.1).
  const bool unannounced = vector == x86::vector::kXm && (context.cpu.state.cr4 & x86::cr4::kOsxmmexcpt) == 0;
  if (unannounced) x86::raise_ud();
  if (vector == x86::vector::kGp) x86::raise_gp();
  x86::raise(static_cast<std::uint8_t>(vector));
}

void run_core(Context& context, const DecodedOp* op, void* memory) {
  const int vector = op->core(&context, op, memory);
  if (vector != isa::kThunkDone) raise_host_fault(context, static_cast<std::uint64_t>(vector));
}

x86::LinearAddress operand_address(Context& context, const DecodedOp* op, std::size_t size, Access access) {
  const Insn& insn = *op->insn;
  const auto moved = static_cast<std::uint64_t>(isa::bit_string_offset(context.cpu.state, insn));
  if (moved == 0) return isa::linear_address(context.cpu, insn, size, access);
  const std::uint64_t offset =
      (isa::effective_address(context.cpu, insn) + moved) & low_mask(insn.mem.address_size * 8U);
  return x86::segment_address(context.cpu, insn.mem.segment, offset, size, access);
}

/// Across pages, in MMIO, or watched: on a copy. A locked instruction is then atomic among its like only.
void run_bounced(Context& context, const DecodedOp* op, const isa::Operand& operand, x86::LinearAddress linear) {
  x86::Mmu& mmu = context.cpu.mmu;
  Bounce bounce;
  const std::span<std::byte> copy(bounce.at(linear), operand.size);
  const bool implied_lock = op->insn->mnemonic == ZYDIS_MNEMONIC_XCHG;
  std::unique_lock<std::mutex> lock;
  if (op->insn->lock || implied_lock) lock = std::unique_lock(context.split_lock);
  if (operand.written) mmu.probe(linear, operand.size, Access::Write, data_view(context));
  // An x87 store whose exception is not masked stores nothing.
  const bool may_not_store = operand.written && op->insn->unit == Unit::X87;
  if (operand.read || may_not_store) mmu.read_bytes(linear, copy, data_view(context));
  run_core(context, op, copy.data());
  if (operand.written) mmu.write_bytes(linear, copy, data_view(context));
}

/// An operand that the instruction wants aligned is #GP wherever it is: that comes before page faults. Only the host
/// knows which instructions do, so it tries, and nothing remains of that.
void require_aligned(Context& context, const DecodedOp* op, x86::LinearAddress linear) {
  const x86::CpuState before = context.cpu.state;
  Bounce bounce;
  const int vector = op->core(&context, op, bounce.at(linear));
  context.cpu.state = before;
  if (vector == x86::vector::kGp) x86::raise_gp();
}

x86::LinearAddress unchecked_address(x86::Cpu& cpu, const Insn& insn) {
  const x86::SegReg segment = insn.mem.segment;
  const bool flat = cpu.state.code_64() && segment != x86::SegReg::Fs && segment != x86::SegReg::Gs;
  return isa::effective_address(cpu, insn) + (flat ? 0 : cpu.state.seg(segment).base);
}

void run_at(Context& context, const DecodedOp* op, const isa::Operand& operand, x86::LinearAddress linear) {
  x86::Mmu& mmu = context.cpu.mmu;
  const Access access = operand.written ? Access::Write : Access::Read;
  std::byte* host = mmu.host(linear, operand.size, access, data_view(context));
  if (host == nullptr) return run_bounced(context, op, operand, linear);
  run_core(context, op, host);
  if (operand.written) mmu.wrote(linear, operand.size, data_view(context));
}

void run_on_memory(Context& context, const DecodedOp* op, const isa::Operand& operand) {
  const Access access = operand.written ? Access::Write : Access::Read;
  try {
    const x86::LinearAddress linear = operand_address(context, op, operand.size, access);
    run_at(context, op, operand, linear);
  } catch (const x86::Fault& fault) {
    const std::uint64_t address = unchecked_address(context.cpu, *op->insn);
    const bool of_memory =
        fault.vector == x86::vector::kPf || fault.vector == x86::vector::kSs || fault.vector == x86::vector::kAc;
    if (of_memory && operand.size >= 16 && address % operand.size != 0) require_aligned(context, op, address);
    throw;
  }
}

void run(Context& context, const DecodedOp* op) {
  const isa::Operand* operand = isa::memory_operand(*op->insn);
  if (op->insn->mnemonic == ZYDIS_MNEMONIC_LEA) {
    const std::uint64_t address = isa::effective_address(context.cpu, *op->insn);
    run_core(context, op, std::bit_cast<void*>(address));
  } else if (operand == nullptr) {
    run_core(context, op, nullptr);
  } else {
    run_on_memory(context, op, *operand);
  }
}

void run_checked(ThunkContext* thunk_context, const DecodedOp* op) {
  Context& context = context_of(thunk_context);
  begin(context, op);
  require_unit(context.cpu, *op->insn);
  run(context, op);
  return next_after_store(thunk_context, op);
}

void run_mmx(ThunkContext* thunk_context, const DecodedOp* op) {
  Context& context = context_of(thunk_context);
  begin(context, op);
  require_unit(context.cpu, *op->insn);
  const x86::FpuState before = context.cpu.state.fpu;
  enter_mmx(context.cpu.state.fpu);
  try {
    run(context, op);
  } catch (const x86::Fault& fault) {
    // A conversion that raises #XM has entered MMX mode and recorded why in MXCSR, as on the host.
    if (fault.vector != x86::vector::kXm) context.cpu.state.fpu = before;
    throw;
  }
  mark_written(context.cpu.state.fpu, *op->insn);
  return next_after_store(thunk_context, op);
}

/// The instructions that only control the unit do not change where its last instruction was (SDM vol. 1, 8.1.8).
bool is_x87_control(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_FNCLEX:
    case ZYDIS_MNEMONIC_FLDCW:
    case ZYDIS_MNEMONIC_FNSTCW:
    case ZYDIS_MNEMONIC_FNSTSW:
    case ZYDIS_MNEMONIC_FNOP:
    case ZYDIS_MNEMONIC_FWAIT:
      return true;
    default:
      return false;
  }
}

/// Errors of earlier instructions are reported by all but these.
bool waits(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_FNCLEX:
    case ZYDIS_MNEMONIC_FNSTCW:
    case ZYDIS_MNEMONIC_FNSTSW:
    case ZYDIS_MNEMONIC_FENI8087_NOP:
    case ZYDIS_MNEMONIC_FDISI8087_NOP:
    case ZYDIS_MNEMONIC_FSETPM287_NOP:
      return false;
    default:
      return true;
  }
}

void run_x87(ThunkContext* thunk_context, const DecodedOp* op) {
  constexpr std::uint16_t kErrorSummaryAndBusy = 0x8080;
  Context& context = context_of(thunk_context);
  begin(context, op);
  const Insn& insn = *op->insn;
  require_unit(context.cpu, insn);
  x86::FpuState& fpu = context.cpu.state.fpu;
  const bool waiting = waits(insn.mnemonic);
  if (waiting) isa::report_x87_error(context.cpu);
  // With CR0.NE clear the instruction goes on although an error is pending, which the host's would not.
  const auto pending = static_cast<std::uint16_t>(waiting ? fpu.fsw & kErrorSummaryAndBusy : 0);
  const std::uint16_t control = fpu.fcw;
  if (pending != 0) fpu.fcw |= 0x3F;
  if (pending != 0) fpu.fsw &= static_cast<std::uint16_t>(~kErrorSummaryAndBusy);
  const std::uint64_t last_instruction = fpu.fip, last_operand = fpu.fdp;
  const std::uint16_t last_opcode = fpu.fop;
  run(context, op);
  if (pending != 0 && insn.mnemonic != ZYDIS_MNEMONIC_FLDCW) fpu.fcw = control;
  if (pending != 0) x86::update_x87_summary(fpu);
  fpu.fop = last_opcode;
  const bool keeps = is_x87_control(insn.mnemonic);
  fpu.fip = keeps ? last_instruction : context.cpu.instruction_start;
  fpu.fdp = last_operand;
  if (!keeps && isa::memory_operand(insn) != nullptr) fpu.fdp = isa::effective_address(context.cpu, insn);
  isa::release_ferr(context.cpu);
  return next_after_store(thunk_context, op);
}

}  // namespace

void require_unit(x86::Cpu& cpu, const Insn& insn) {
  switch (insn.unit) {
    case Unit::Integer:
      return;
    case Unit::X87:
      return insn.mnemonic == ZYDIS_MNEMONIC_FWAIT ? isa::require_wait(cpu) : isa::require_x87(cpu);
    case Unit::Mmx:
      isa::require_not_emulated(cpu);
      return isa::report_x87_error(cpu);
    case Unit::Sse:
      return isa::require_sse(cpu);
    case Unit::Avx:
      return isa::require_avx(cpu);
  }
}

Handler core_handler(const Insn& insn) {
  if (insn.unit == Unit::X87) return run_x87;
  if (insn.unit == Unit::Mmx) return run_mmx;
  return run_checked;
}

void memory_miss(ThunkContext* thunk_context, const DecodedOp* op) {
  Context& context = context_of(thunk_context);
  begin(context, op);
  run(context, op);
  return next_after_store(thunk_context, op);
}

void stored_to_code(ThunkContext* thunk_context, const DecodedOp* op, std::uint64_t linear) {
  Context& context = context_of(thunk_context);
  context.cpu.mmu.wrote(linear, op->size, data_view(context));
  return next_after_store(thunk_context, op);
}

void host_fault(ThunkContext* thunk_context, const DecodedOp* op, std::uint64_t vector) {
  Context& context = context_of(thunk_context);
  context.op = op;
  raise_host_fault(context, vector);
}

void system_handler(ThunkContext* thunk_context, const DecodedOp* op) {
  Context& context = context_of(thunk_context);
  begin(context, op);
  context.leave = true;
  context.link = &context.lookup;
  op->system(context.cpu, *op->insn);
}

void quiet_system_handler(ThunkContext* thunk_context, const DecodedOp* op) {
  Context& context = context_of(thunk_context);
  begin(context, op);
  op->system(context.cpu, *op->insn);
  // STAC and CLAC choose other rights.
  context.tlb = context.cpu.mmu.tlb(data_view(context));
  return next_after_store(thunk_context, op);
}

void end_of_block(ThunkContext* thunk_context, const DecodedOp* op) {
  Context& context = context_of(thunk_context);
  context.cpu.state.rip = context.block_rip + op->start;
  context.link = &context.block->link[0];
}

void undefined(ThunkContext* thunk_context, const DecodedOp* op) {
  context_of(thunk_context).op = op;
  x86::raise_ud();
}

void too_long(ThunkContext* thunk_context, const DecodedOp* op) {
  context_of(thunk_context).op = op;
  x86::raise_gp();
}

}  // namespace doppel::engine::interp
