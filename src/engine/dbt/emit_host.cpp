#include <algorithm>
#include <array>

#include "engine/dbt/emitter.h"
#include "isa/insn_queries.h"

/// Instructions that the host executes as they are, on other registers.
namespace doppel::engine::dbt {

namespace host = asmjit::x86;
using isa::Insn;
using isa::Operand;
using isa::OperandField;
using isa::OperandKind;
using isa::Unit;

namespace {

/// Instructions that read guest RCX without naming it.
bool reads_rcx(ZydisMnemonic mnemonic) {
  return mnemonic == ZYDIS_MNEMONIC_CMPXCHG8B || mnemonic == ZYDIS_MNEMONIC_CMPXCHG16B;
}

bool is_ch(const Operand& operand) {
  return operand.kind == OperandKind::GprHigh && operand.reg == x86::kRcx;
}

/// Those whose register operand in the ModRM.rm field may as well be memory, with the same meaning at the same speed.
bool takes_memory_for_rm(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_MOV:
    case ZYDIS_MNEMONIC_MOVZX:
    case ZYDIS_MNEMONIC_MOVSX:
    case ZYDIS_MNEMONIC_MOVSXD:
    case ZYDIS_MNEMONIC_ADD:
    case ZYDIS_MNEMONIC_SUB:
    case ZYDIS_MNEMONIC_AND:
    case ZYDIS_MNEMONIC_OR:
    case ZYDIS_MNEMONIC_XOR:
    case ZYDIS_MNEMONIC_ADC:
    case ZYDIS_MNEMONIC_SBB:
    case ZYDIS_MNEMONIC_CMP:
    case ZYDIS_MNEMONIC_TEST:
    case ZYDIS_MNEMONIC_IMUL:
    case ZYDIS_MNEMONIC_INC:
    case ZYDIS_MNEMONIC_DEC:
    case ZYDIS_MNEMONIC_NEG:
    case ZYDIS_MNEMONIC_NOT:
    case ZYDIS_MNEMONIC_SHL:
    case ZYDIS_MNEMONIC_SHR:
    case ZYDIS_MNEMONIC_SAR:
      return true;
    default:
      return false;
  }
}

/// Those that set all of a destination of 32 or 64 bits, whatever was in it.
bool replaces_destination(const Insn& insn) {
  switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_MOV:
    case ZYDIS_MNEMONIC_MOVZX:
    case ZYDIS_MNEMONIC_MOVSX:
    case ZYDIS_MNEMONIC_MOVSXD:
      return insn.op[0].size >= 4;
    default:
      return false;
  }
}

/// Whether the host raises #GP for the operand when it is misaligned: then it never crosses a page unnoticed.
bool is_aligned_by_host(const Insn& insn, unsigned size) {
  if (insn.unit != Unit::Sse || size != 16) return false;
  switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_MOVUPS:
    case ZYDIS_MNEMONIC_MOVUPD:
    case ZYDIS_MNEMONIC_MOVDQU:
    case ZYDIS_MNEMONIC_LDDQU:
    case ZYDIS_MNEMONIC_PCMPESTRI:
    case ZYDIS_MNEMONIC_PCMPESTRM:
    case ZYDIS_MNEMONIC_PCMPISTRI:
    case ZYDIS_MNEMONIC_PCMPISTRM:
    // AMD's processors do not mind where the operands of these are.
    case ZYDIS_MNEMONIC_SHA1MSG1:
    case ZYDIS_MNEMONIC_SHA1MSG2:
    case ZYDIS_MNEMONIC_SHA1NEXTE:
    case ZYDIS_MNEMONIC_SHA1RNDS4:
    case ZYDIS_MNEMONIC_SHA256MSG1:
    case ZYDIS_MNEMONIC_SHA256MSG2:
    case ZYDIS_MNEMONIC_SHA256RNDS2:
      return false;
    default:
      return true;
  }
}

}  // namespace

Emitter::Next Emitter::host(const SourceInsn& source) {
  const Insn& insn = source.insn;
  if (insn.mnemonic == ZYDIS_MNEMONIC_LEA) return lea(source);
  switch (insn.unit) {
    case Unit::X87:
    case Unit::Mmx:
      if (!mode_.x87) return Next::Untranslated;
      need_fpu();
      break;
    case Unit::Sse:
      if (!mode_.sse) return Next::Untranslated;
      break;
    case Unit::Avx:
      if (!mode_.avx) return Next::Untranslated;
      break;
    case Unit::Integer:
      break;
  }
  return write_host(source) ? Next::Continue : Next::Untranslated;
}

bool Emitter::write_host(const SourceInsn& source) {
  const Insn& insn = source.insn;
  const Operand* memory = isa::memory_operand(insn);
  const bool high = std::any_of(insn.op.begin(), insn.op.begin() + insn.operand_count,
                                [](const Operand& op) { return op.kind == OperandKind::GprHigh; });
  if (memory != nullptr && high) {
    const auto* end = insn.op.begin() + insn.operand_count;
    const auto* ch = std::find_if(insn.op.begin(), end, is_ch);
    if (ch != end && !ch->written) return read_ch(source, static_cast<std::size_t>(ch - insn.op.begin()), *memory);
  }
  HostOperands operands;
  bool rcx_free = true, r11_free = true;
  if (memory != nullptr) {
    if (isa::is_bit_string(insn)) return bit_string(source);
    Access at{};
    const bool crosses = !is_aligned_by_host(insn, memory->size);
    if (!access(source, memory->size, memory->written ? Kind::Write : Kind::Read, crosses, at)) return false;
    operands.memory = at.memory();
    rcx_free = false;
    r11_free = at.linear != kHostR11;
    if (high) {
      // AH and its like go with no register that needs REX.
      a_.lea(host::rcx, at.operand(8));
      operands.memory = {kHostRcx, kNoHostReg, 0};
    }
  }
  const auto free_rcx = [&] {
    if (rcx_free) return;
    a_.lea(host::r11, host::ptr(reg(operands.memory.base, 8), host::rcx, 0, operands.memory.displacement));
    operands.memory = {kHostR11, kNoHostReg, 0};
    rcx_free = true;
    r11_free = false;
  };

  // Guest registers that have to be in rcx or r11 for this instruction, and whether they are written back.
  struct Loan {
    unsigned guest = 0;
    HostReg host = kNoHostReg;
    bool load = false, store = false;
  };
  std::array<Loan, 2> loans{};
  std::size_t lent = 0;
  bool impossible = false;
  const auto lend = [&](unsigned guest, bool load, bool store, bool to_rcx) -> HostReg {
    for (std::size_t i = 0; i < lent; ++i) {
      if (loans[i].guest != guest) continue;
      loans[i].load |= load;
      loans[i].store |= store;
      if (!to_rcx || loans[i].host == kHostRcx) return loans[i].host;
      impossible = true;
      return kNoHostReg;
    }
    if (high && memory != nullptr) {
      impossible = true;
      return kNoHostReg;
    }
    free_rcx();
    HostReg host = kNoHostReg;
    const bool rcx_taken = lent == 1 && loans[0].host == kHostRcx;
    if (!rcx_taken) {
      host = kHostRcx;
    } else if (!to_rcx && (r11_free || (store && !load))) {
      host = kHostR11;  // the address is read before a result is written
    }
    if (host == kNoHostReg || lent == loans.size()) {
      impossible = true;
      return kNoHostReg;
    }
    loans[lent++] = {guest, host, load, store};
    return host;
  };

  if (reads_rcx(insn.mnemonic)) lend(x86::kRcx, true, false, true);
  if (isa::leaves_index_in_ecx(insn.mnemonic)) lend(x86::kRcx, true, true, true);
  // What must be in rcx first.
  for (unsigned i = 0; i < insn.operand_count; ++i) {
    const Operand& op = insn.op[i];
    if (op.kind != OperandKind::Gpr && op.kind != OperandKind::GprHigh) continue;
    const bool implied_cl = op.field == OperandField::Implied && op.reg == x86::kRcx;
    if (op.reg == x86::kRcx && (implied_cl || high)) operands.reg[i] = lend(x86::kRcx, true, op.written, true);
  }
  for (unsigned i = 0; i < insn.operand_count; ++i) {
    const Operand& op = insn.op[i];
    if (operands.reg[i] != kNoHostReg) continue;
    if (op.kind == OperandKind::GprHigh) {
      operands.reg[i] = op.reg;  // AH, DH, BH
    } else if (op.kind == OperandKind::Gpr && !is_slot(op.reg)) {
      operands.reg[i] = host_of(op.reg);
    }
  }
  for (unsigned i = 0; i < insn.operand_count; ++i) {
    const Operand& op = insn.op[i];
    if (op.kind != OperandKind::Gpr || operands.reg[i] != kNoHostReg) continue;
    const bool in_place = memory == nullptr && op.field == OperandField::ModrmRm && !operands.rm_in_memory &&
                          takes_memory_for_rm(insn.mnemonic) && (!op.written || op.size == 8) &&
                          !(op.written && insn.op[0].kind == OperandKind::Gpr && insn.operand_count > 1 &&
                            insn.op[1].kind == OperandKind::Gpr && insn.op[1].reg == op.reg);
    if (in_place) {
      operands.rm_in_memory = true;
      operands.memory = {kHostRsp, kNoHostReg, DOPPEL_ENV(slot) + 8 * (op.reg - x86::kR9)};
      operands.reg[i] = kHostRsp;
      continue;
    }
    const bool whole = op.written && !op.read && replaces_destination(insn);
    operands.reg[i] = lend(op.reg, !whole, op.written, false);
  }
  if (impossible) return false;

  std::array<std::byte, kMaxReencoded> bytes;
  const std::size_t length = reencode(source, operands, bytes);
  if (length == 0) return false;
  if (memory == nullptr) kept_ = held_;
  if (lent != 0 || (high && memory != nullptr)) kept_ = AccessGroups::kNone;
  for (std::size_t i = 0; i < lent; ++i) {
    if (loans[i].load) load_gpr(reg(loans[i].host, 8), loans[i].guest);
  }
  a_.embed(bytes.data(), length);
  for (std::size_t i = 0; i < lent; ++i) {
    if (loans[i].store) store_gpr(loans[i].guest, reg(loans[i].host, 8));
  }
  return true;
}

/// Guest RCX is in a register without a high byte: CH is shifted down to where it can be named beside memory.
bool Emitter::read_ch(const SourceInsn& source, std::size_t operand, const Operand& memory) {
  SourceInsn low = source;
  low.insn.op[operand].kind = OperandKind::Gpr;
  Access at{};
  if (!access(source, memory.size, memory.written ? Kind::Write : Kind::Read, true, at)) return false;
  a_.lea(host::r11, at.operand(8));
  a_.rorx(host::ecx, host::r9d, 8);
  HostOperands operands;
  operands.memory = {kHostR11, kNoHostReg, 0};
  operands.reg[operand] = kHostRcx;
  std::array<std::byte, kMaxReencoded> bytes;
  const std::size_t length = reencode(low, operands, bytes);
  if (length == 0) return false;
  kept_ = AccessGroups::kNone;
  a_.embed(bytes.data(), length);
  return true;
}

bool Emitter::bit_string(const SourceInsn& source) {
  const Insn& insn = source.insn;
  const unsigned size = insn.op[0].size, guest = insn.op[1].reg;
  if (size == 2 || insn.mem.address_size != 8) return false;
  const Gp bit = reg(is_slot(guest) ? kHostRcx : host_of(guest), 8);
  const Label retry = a_.newLabel();
  a_.bind(retry);
  HostReg linear = kNoHostReg;
  if (!linear_address(source, linear)) return false;
  a_.lea(host::r11, host::ptr(reg(linear, 8)));
  a_.mov(env(DOPPEL_ENV(value)), host::r11);
  if (is_slot(guest)) a_.mov(host::rcx, slot(guest));
  if (size == 4) {
    a_.movsxd(host::rcx, bit.r32());
  } else if (!is_slot(guest)) {
    a_.mov(host::rcx, bit);
  }
  a_.mov(host::r11d, size == 4 ? 5 : 6);
  a_.sarx(host::rcx, host::rcx, host::r11);
  a_.mov(host::r11, env(DOPPEL_ENV(value)));
  a_.lea(host::r11, host::ptr(host::r11, host::rcx, size == 4 ? 2 : 3));
  keep_islands_in_reach();
  look_up(kHostR11, size, insn.op[0].written ? Kind::Write : Kind::Read, true, retry);
  a_.lea(host::r11, host::ptr(host::r11, host::rcx));
  if (is_slot(guest)) a_.mov(host::rcx, slot(guest));
  a_.pext(reg(kHostRcx, size), reg(static_cast<HostReg>(bit.id()), size),
          env(size == 4 ? DOPPEL_ENV(bit_mask_32) : DOPPEL_ENV(bit_mask_64), size));
  if (insn.lock) a_.lock();
  const Mem operand(host::r11, 0, size);
  const Gp index = reg(kHostRcx, size);
  switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_BT:
      a_.bt(operand, index);
      break;
    case ZYDIS_MNEMONIC_BTS:
      a_.bts(operand, index);
      break;
    case ZYDIS_MNEMONIC_BTR:
      a_.btr(operand, index);
      break;
    default:
      a_.btc(operand, index);
      break;
  }
  return true;
}

Emitter::Next Emitter::lea(const SourceInsn& source) {
  HostReg address = kNoHostReg;
  if (!effective_address(source, address)) return Next::Untranslated;
  const Operand& target = source.insn.op[0];
  if (is_slot(target.reg)) {
    if (target.size == 8) {
      a_.mov(slot(target.reg), reg(address, 8));
    } else if (target.size == 4) {
      a_.mov(host::ecx, reg(address, 4));
      a_.mov(slot(target.reg), host::rcx);
    } else {
      a_.mov(slot(target.reg, 2), reg(address, 2));
    }
  } else {
    a_.mov(reg(host_of(target.reg), target.size), reg(address, target.size));
  }
  return Next::Continue;
}

}  // namespace doppel::engine::dbt
