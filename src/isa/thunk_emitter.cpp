#include "isa/thunk_emitter.h"

#include <asmjit/x86.h>

#include <algorithm>
#include <bit>
#include <cstddef>

#include "x86/cpu_state.h"

namespace doppel::isa {

namespace {

using asmjit::Label;
using asmjit::x86::Assembler;
using asmjit::x86::Gp;
using asmjit::x86::Mem;
namespace host = asmjit::x86;
using x86::CpuState;

// Who is where while a thunk runs. rdi and rsi stay as the caller passed them.
const Gp kContext = host::rdi, kOp = host::rsi;
const Gp kLinear = host::rdx;    // until the operands are loaded
const Gp kMemory = host::r11;    // where the memory operand is
const Gp kRecovery = host::r10;  // where HostFaultGuard resumes after an exception of the host's

// Below the stack pointer, where signal handlers do not write (System V ABI, the red zone).
const Mem kSavedLinear = host::qword_ptr(host::rsp, -8);
const Mem kSavedCodeLines = host::qword_ptr(host::rsp, -16);
const Mem kSavedRbx = host::qword_ptr(host::rsp, -24);

class Emitter {
 public:
  Emitter(const Canonical& canonical, const ThunkRequest& request, const ThunkEnvironment& environment)
      : canonical_(canonical), request_(request), environment_(environment) {
    code_.init(asmjit::Environment::host());
    code_.attach(&a_);
    miss_ = a_.newLabel();
    recovery_ = a_.newLabel();
    code_stored_ = a_.newLabel();
  }

  std::vector<std::byte> emit() {
    find_memory();
    if (canonical_.unit == Unit::X87) a_.fxrstor64(state(offsetof(CpuState, fpu), 0));
    // Masking BT's bit offset changes flags, so theirs come last; others may need rax, which loading flags uses.
    if (!canonical_.bit_string) load_flags();
    load_operands();
    if (canonical_.bit_string) load_flags();
    if (uses_mxcsr()) a_.ldmxcsr(mxcsr());
    if (canonical_.may_fault) a_.lea(kRecovery, host::ptr(recovery_));
    a_.embed(canonical_.bytes.data(), canonical_.length);
    if (canonical_.unit == Unit::X87) save_x87();
    restore_mxcsr();
    store_operands();
    store_flags();
    leave_units();
    finish();
    cold_parts();
    code_.flatten();
    code_.resolveUnresolvedLinks();
    std::vector<std::byte> bytes(code_.codeSize());
    code_.copyFlattenedData(bytes.data(), bytes.size());
    return bytes;
  }

 private:
  Mem state(std::size_t offset, std::uint32_t size) const {
    return Mem(kContext, static_cast<std::int32_t>(environment_.state_offset + offset), size);
  }
  Mem context(std::size_t offset, std::uint32_t size) const {
    return Mem(kContext, static_cast<std::int32_t>(offset), size);
  }
  static Mem field(std::size_t offset, std::uint32_t size) { return Mem(kOp, static_cast<std::int32_t>(offset), size); }
  Mem flags_byte() const { return state(offsetof(CpuState, rflags_without_of), 1); }
  Mem of_byte() const { return state(offsetof(CpuState, of), 1); }
  Mem gpr(unsigned number) const { return state(offsetof(CpuState, gpr) + 8 * number, 8); }
  Mem mxcsr() const { return state(offsetof(CpuState, fpu) + offsetof(x86::FpuState, mxcsr), 4); }
  bool uses_mxcsr() const { return canonical_.uses_mxcsr && canonical_.unit != Unit::X87; }

  /// The register that a field of the op names, as memory.
  Mem named_register(std::size_t field_offset, std::uint32_t size) {
    a_.movzx(host::eax, field(field_offset, 2));
    return Mem(kContext, host::rax, 0, 0, size);
  }
  Mem operand_register(unsigned slot, std::uint32_t size) {
    return named_register(offsetof(DecodedOp, reg) + 2 * slot, size);
  }

  void find_memory() {
    if (request_.address == AddressForm::None) return;
    if (request_.address == AddressForm::Given) {
      a_.mov(kMemory, host::rdx);
      return;
    }
    a_.mov(kLinear, named_register(offsetof(DecodedOp, base), 8));
    a_.movsxd(host::rcx, field(offsetof(DecodedOp, displacement), 4));
    a_.add(kLinear, host::rcx);
    if (request_.has_index) {
      a_.mov(host::rcx, named_register(offsetof(DecodedOp, index), 8));
      const auto shift = static_cast<std::uint32_t>(std::countr_zero(request_.scale));
      a_.lea(kLinear, host::ptr(kLinear, host::rcx, shift));
    }
    if (canonical_.bit_string) add_bit_offset();
    if (request_.address == AddressForm::Flat32) a_.mov(host::edx, host::edx);
    if (request_.address == AddressForm::Flat64Segment)
      a_.add(kLinear, named_register(offsetof(DecodedOp, segment_base), 8));
    if (canonical_.address_only) {
      a_.mov(kMemory, kLinear);
    } else {
      look_up_tlb();
    }
  }

  /// The register operand of BT selects a bit anywhere: the address moves by whole operands (SDM vol. 2, 3.1.1.9).
  void add_bit_offset() {
    const unsigned size = canonical_.memory_size;
    const Mem bit_offset = operand_register(1, size);
    if (size == 8) {
      a_.mov(host::rcx, bit_offset);
    } else if (size == 4) {
      a_.movsxd(host::rcx, bit_offset);
    } else {
      a_.movsx(host::rcx, bit_offset);
    }
    a_.sar(host::rcx, 3);
    a_.and_(host::rcx, -static_cast<std::int32_t>(size));
    a_.add(kLinear, host::rcx);
  }

  void look_up_tlb() {
    using Entry = x86::Mmu::TlbEntry;
    constexpr unsigned kEntryShift = std::countr_zero(sizeof(Entry));
    static_assert(sizeof(Entry) == 1 << kEntryShift && kEntryShift < memory::kPageShift);
    a_.mov(host::eax, host::edx);
    a_.shr(host::eax, memory::kPageShift - kEntryShift);
    a_.and_(host::eax, (x86::Mmu::kTlbEntries - 1) << kEntryShift);
    a_.mov(host::rcx, context(offsetof(ThunkContext, tlb), 8));
    a_.add(host::rcx, host::rax);
    a_.lea(host::rax, host::ptr(kLinear, canonical_.memory_size - 1));
    a_.and_(host::rax, -static_cast<std::int32_t>(memory::kPageSize));
    const std::size_t tag = canonical_.memory_written ? offsetof(Entry, write_tag) : offsetof(Entry, read_tag);
    a_.cmp(host::rax, host::qword_ptr(host::rcx, static_cast<std::int32_t>(tag)));
    a_.jne(miss_);
    a_.mov(kMemory, host::qword_ptr(host::rcx, offsetof(Entry, host)));
    a_.mov(host::eax, host::edx);
    a_.and_(host::eax, memory::kPageSize - 1);
    a_.add(kMemory, host::rax);
    if (canonical_.memory_written) {
      a_.mov(host::rax, host::qword_ptr(host::rcx, offsetof(Entry, code_lines)));
      a_.mov(kSavedLinear, kLinear);
      a_.mov(kSavedCodeLines, host::rax);
    }
  }

  void load_flags() {
    const std::uint64_t needed = flags_needed();
    if (needed == 0) return;
    if (needed == x86::rflags::kCf) {
      a_.bt(state(offsetof(CpuState, rflags_without_of), 4), 0);
      return;
    }
    if ((needed & x86::rflags::kOf) != 0) {
      a_.mov(host::al, of_byte());
      a_.add(host::al, 0x7F);
    }
    a_.mov(host::ah, flags_byte());
    a_.sahf();
  }

  std::uint64_t flags_needed() const {
    // With the flags discarded, those loaded only to be kept need not be loaded; what the instruction tests must.
    return request_.discard_flags ? canonical_.flags_tested : canonical_.flags_read;
  }

  void load_operands() {
    for (unsigned i = 0; i < canonical_.slot.size(); ++i) {
      const Canonical::Slot& slot = canonical_.slot[i];
      if (slot.low_word) {
        a_.mov(host::gpq(slot.host), operand_register(i, 8));
        a_.mov(host::gpw(slot.host), field(offsetof(DecodedOp, imm), 2));
      } else if (slot.source == OperandSource::Immediate) {
        a_.mov(host::gpq(slot.host), field(offsetof(DecodedOp, imm), 8));
      } else if (slot.source == OperandSource::Register) {
        load_register(i, slot);
      }
    }
    if (canonical_.xmm0_read) {
      const Mem source = state(offsetof(CpuState, ymm), 16);
      canonical_.unit == Unit::Avx ? a_.vmovups(host::xmm0, source) : a_.movups(host::xmm0, source);
    }
    if ((canonical_.gpr_written & (1 << x86::kRbx)) != 0 || (canonical_.gpr_read & (1 << x86::kRbx)) != 0)
      a_.mov(kSavedRbx, host::rbx);
    for (unsigned i = 0; i <= x86::kRbx; ++i) {
      if ((canonical_.gpr_read >> i & 1) != 0) a_.mov(host::gpq(i), gpr(i));
    }
  }

  void load_register(unsigned i, const Canonical::Slot& slot) {
    switch (slot.kind) {
      case OperandKind::GprHigh:
        a_.movzx(host::gpd(slot.host), operand_register(i, 1));
        break;
      case OperandKind::Gpr:
        a_.mov(host::gpq(slot.host), operand_register(i, 8));
        // The bit offset has been applied to the address; what is left lies inside the operand.
        if (canonical_.bit_string && i == 1) a_.and_(host::gpd(slot.host), canonical_.memory_size * 8 - 1);
        break;
      case OperandKind::Mmx:
        if (slot.read) a_.movq(host::mm(slot.host), operand_register(i, 8));
        break;
      case OperandKind::Xmm:
        if (!slot.read) break;
        canonical_.unit == Unit::Avx ? a_.vmovups(host::xmm(slot.host), operand_register(i, 16))
                                     : a_.movups(host::xmm(slot.host), operand_register(i, 16));
        break;
      case OperandKind::Ymm:
        if (slot.read) a_.vmovups(host::ymm(slot.host), operand_register(i, 32));
        break;
      default:
        break;
    }
  }

  void save_x87() {
    a_.fxsave64(state(offsetof(CpuState, fpu), 0));
    leave_x87();
  }
  /// The host's own code expects an empty x87 unit without exceptions, and its own MXCSR, which FXRSTOR replaced.
  void leave_x87() {
    a_.fninit();
    a_.ldmxcsr(context(offsetof(ThunkContext, host_mxcsr), 4));
  }

  void restore_mxcsr() {
    if (!uses_mxcsr()) return;
    a_.stmxcsr(mxcsr());
    a_.ldmxcsr(context(offsetof(ThunkContext, host_mxcsr), 4));
  }

  void store_operands() {
    for (unsigned i = 0; i <= x86::kRbx; ++i) {
      if ((canonical_.gpr_written >> i & 1) != 0) a_.mov(gpr(i), host::gpq(i));
    }
    restore_rbx();
    if (canonical_.xmm0_written) {
      canonical_.unit == Unit::Avx ? a_.vmovups(state(offsetof(CpuState, ymm), 32), host::ymm0)
                                   : a_.movups(state(offsetof(CpuState, ymm), 16), host::xmm0);
    }
    // Backwards: where both operands are the same register, the first one's value is what stays.
    for (unsigned i = static_cast<unsigned>(canonical_.slot.size()); i-- > 0;) {
      const Canonical::Slot& slot = canonical_.slot[i];
      if (slot.written && slot.source != OperandSource::None) store_register(i, slot);
    }
  }

  void store_register(unsigned i, const Canonical::Slot& slot) {
    switch (slot.kind) {
      case OperandKind::GprHigh:
        a_.mov(operand_register(i, 1), host::gpb(slot.host));
        break;
      case OperandKind::Gpr:
        // XCHG and XADD of two parts of one register: each stores its own.
        if (writes_high_byte()) {
          a_.mov(operand_register(i, 1), host::gpb(slot.host));
        } else {
          a_.mov(operand_register(i, 8), host::gpq(slot.host));
        }
        break;
      case OperandKind::Mmx:
        a_.movq(operand_register(i, 8), host::mm(slot.host));
        break;
      case OperandKind::Xmm:
        // A VEX instruction has zeroed the upper half of the host's register; a legacy one leaves the guest's alone.
        canonical_.unit == Unit::Avx ? a_.vmovups(operand_register(i, 32), host::ymm(slot.host))
                                     : a_.movups(operand_register(i, 16), host::xmm(slot.host));
        break;
      case OperandKind::Ymm:
        a_.vmovups(operand_register(i, 32), host::ymm(slot.host));
        break;
      default:
        break;
    }
  }

  bool writes_high_byte() const {
    return std::any_of(canonical_.slot.begin(), canonical_.slot.end(),
                       [](const Canonical::Slot& slot) { return slot.kind == OperandKind::GprHigh && slot.written; });
  }

  void store_flags() {
    if (canonical_.flags_written == 0 || request_.discard_flags) return;
    a_.lahf();
    a_.seto(of_byte());
    a_.mov(flags_byte(), host::ah);
  }

  void leave_units() {
    if (canonical_.unit == Unit::Avx) a_.vzeroupper();
    if (canonical_.unit == Unit::Mmx) a_.emms();
  }

  void restore_rbx() {
    if (((canonical_.gpr_written | canonical_.gpr_read) & (1 << x86::kRbx)) != 0) a_.mov(host::rbx, kSavedRbx);
  }

  bool looks_up() const { return request_.address > AddressForm::Given && !canonical_.address_only; }

  void finish() {
    if (request_.address == AddressForm::Given) {
      a_.mov(host::eax, kThunkDone);
      a_.ret();
      return;
    }
    if (looks_up() && canonical_.memory_written) {
      a_.mov(host::rax, kSavedCodeLines);
      a_.cmp(host::dword_ptr(host::rax), 0);
      a_.jne(code_stored_);
    }
    a_.add(kOp, sizeof(DecodedOp));
    a_.jmp(host::qword_ptr(kOp, offsetof(DecodedOp, handler)));
  }

  void cold_parts() {
    if (looks_up()) {
      a_.bind(miss_);
      a_.mov(host::rax, reinterpret_cast<std::uint64_t>(environment_.memory_miss));
      a_.jmp(host::rax);
      a_.bind(code_stored_);
      a_.mov(host::rdx, kSavedLinear);
      a_.mov(host::rax, reinterpret_cast<std::uint64_t>(environment_.stored_to_code));
      a_.jmp(host::rax);
    }
    if (canonical_.may_fault) {
      // The vector is in rdx.
      a_.bind(recovery_);
      restore_rbx();
      if (canonical_.unit == Unit::X87) leave_x87();
      restore_mxcsr();
      leave_units();
      if (request_.address == AddressForm::Given) {
        a_.mov(host::eax, host::edx);
        a_.ret();
      } else {
        a_.mov(host::rax, reinterpret_cast<std::uint64_t>(environment_.host_fault));
        a_.jmp(host::rax);
      }
    }
  }

  const Canonical& canonical_;
  const ThunkRequest& request_;
  const ThunkEnvironment& environment_;
  asmjit::CodeHolder code_;
  Assembler a_;
  Label miss_, recovery_, code_stored_;
};

}  // namespace

std::vector<std::byte> emit_thunk(const Canonical& canonical, const ThunkRequest& request,
                                  const ThunkEnvironment& environment) {
  return Emitter(canonical, request, environment).emit();
}

}  // namespace doppel::isa
