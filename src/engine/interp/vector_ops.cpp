#include <algorithm>
#include <array>
#include <cstring>

#include "engine/interp/handlers.h"
#include "engine/interp/mmx.h"
#include "engine/interp/operands.h"

/// Vector instructions that touch memory element by element, or all registers at once: masked moves, gathers, VZEROALL
/// and VZEROUPPER. Elements whose mask is clear are not accessed, so they cannot fault.
namespace doppel::engine::interp {

namespace {

using isa::Insn;
using isa::OperandKind;
using x86::Access;
using x86::CpuState;
using x86::Ymm;

using Bytes = std::array<std::uint8_t, sizeof(Ymm)>;

Bytes bytes_of(const Ymm& ymm) {
  Bytes bytes;
  std::memcpy(bytes.data(), ymm.qword.data(), sizeof bytes);
  return bytes;
}
void assign(Ymm& ymm, const Bytes& bytes) {
  std::memcpy(ymm.qword.data(), bytes.data(), sizeof bytes);
}

unsigned element_size(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_VMASKMOVPS:
    case ZYDIS_MNEMONIC_VPMASKMOVD:
    case ZYDIS_MNEMONIC_VGATHERDPS:
    case ZYDIS_MNEMONIC_VGATHERQPS:
    case ZYDIS_MNEMONIC_VPGATHERDD:
    case ZYDIS_MNEMONIC_VPGATHERQD:
      return 4;
    default:
      return 8;
  }
}

bool mask_bit(const Bytes& mask, unsigned offset, unsigned size) {
  return (mask[offset + size - 1] & 0x80) != 0;
}

/// Of a gather: the index belongs to the address, which wraps by its size.
x86::LinearAddress gathered_address(x86::Cpu& cpu, const Insn& insn, std::uint64_t moved, unsigned size) {
  const std::uint64_t offset = (isa::effective_address(cpu, insn) + moved) & low_mask(insn.mem.address_size * 8U);
  return x86::segment_address(cpu, insn.mem.segment, offset, size, Access::Read);
}

/// Of a masked move: a part of one operand, which does not wrap.
x86::LinearAddress element_address(x86::Cpu& cpu, const Insn& insn, std::uint64_t moved, unsigned size, Access access) {
  return x86::segment_address(cpu, insn.mem.segment, isa::effective_address(cpu, insn) + moved, size, access);
}

/// Masked moves and gathers know no #AC: where alignment is checked, single bytes escape it.
void read_unchecked(Context& context, x86::LinearAddress address, std::span<std::byte> element) {
  const std::size_t piece = context.cpu.mmu.checks_alignment() ? 1 : element.size();
  for (std::size_t at = 0; at < element.size(); at += piece)
    context.cpu.mmu.read_bytes(address + at, element.subspan(at, piece), data_view(context));
}
void write_unchecked(Context& context, x86::LinearAddress address, std::span<const std::byte> element) {
  const std::size_t piece = context.cpu.mmu.checks_alignment() ? 1 : element.size();
  for (std::size_t at = 0; at < element.size(); at += piece)
    context.cpu.mmu.write_bytes(address + at, element.subspan(at, piece), data_view(context));
}

/// VMASKMOVPS, VMASKMOVPD, VPMASKMOVD, VPMASKMOVQ.
void masked_load(Context& context, const Insn& insn) {
  CpuState& state = context.cpu.state;
  const unsigned size = element_size(insn.mnemonic), width = insn.op[0].kind == OperandKind::Ymm ? 32 : 16;
  const Bytes mask = bytes_of(state.ymm[insn.op[1].reg]);
  Bytes result{};
  for (unsigned i = 0; i < width; i += size) {
    if (!mask_bit(mask, i, size)) continue;
    const x86::LinearAddress address = element_address(context.cpu, insn, i, size, Access::Read);
    read_unchecked(context, address, std::as_writable_bytes(std::span(result).subspan(i, size)));
  }
  assign(state.ymm[insn.op[0].reg], result);
}

void masked_store(Context& context, const Insn& insn) {
  const CpuState& state = context.cpu.state;
  const unsigned size = element_size(insn.mnemonic), width = insn.op[2].kind == OperandKind::Ymm ? 32 : 16;
  const Bytes mask = bytes_of(state.ymm[insn.op[1].reg]);
  const Bytes source = bytes_of(state.ymm[insn.op[2].reg]);
  // All elements are probed before the first is written: a fault leaves memory as it was.
  std::array<x86::LinearAddress, sizeof(Ymm)> address{};
  for (unsigned i = 0; i < width; i += size) {
    if (!mask_bit(mask, i, size)) continue;
    address[i] = element_address(context.cpu, insn, i, size, Access::Write);
    context.cpu.mmu.probe(address[i], size, Access::Write, data_view(context));
  }
  for (unsigned i = 0; i < width; i += size) {
    if (!mask_bit(mask, i, size)) continue;
    write_unchecked(context, address[i], std::as_bytes(std::span(source).subspan(i, size)));
  }
}

void masked_move(ThunkContext* thunk_context, const DecodedOp* op) {
  Context& context = context_of(thunk_context);
  begin(context, op);
  require_unit(context.cpu, *op->insn);
  (op->insn->op[0].kind == OperandKind::Memory ? masked_store : masked_load)(context, *op->insn);
  return next_after_store(thunk_context, op);
}

/// MASKMOVQ and MASKMOVDQU: bytes to DS:RDI.
void masked_byte_store(ThunkContext* thunk_context, const DecodedOp* op) {
  Context& context = context_of(thunk_context);
  begin(context, op);
  const Insn& insn = *op->insn;
  require_unit(context.cpu, insn);
  CpuState& state = context.cpu.state;
  const bool mmx = insn.op[0].kind == OperandKind::Mmx;
  const unsigned width = mmx ? 8 : 16;
  Bytes source{}, mask{};
  if (mmx) {
    enter_mmx(state.fpu);
    std::memcpy(source.data(), &state.fpu.st[insn.op[0].reg].significand, 8);
    std::memcpy(mask.data(), &state.fpu.st[insn.op[1].reg].significand, 8);
  } else {
    source = bytes_of(state.ymm[insn.op[0].reg]);
    mask = bytes_of(state.ymm[insn.op[1].reg]);
  }
  // Whether bytes that are not stored may fault is the implementation's choice (SDM vol. 2, MASKMOVQ): all are probed.
  const x86::LinearAddress address = element_address(context.cpu, insn, 0, width, Access::Write);
  context.cpu.mmu.host(address, 8, Access::Write, data_view(context));  // checks the alignment, too
  context.cpu.mmu.probe(address, width, Access::Write, data_view(context));
  for (unsigned i = 0; i < width; ++i) {
    if (!mask_bit(mask, i, 1)) continue;
    context.cpu.mmu.write<std::uint8_t>(element_address(context.cpu, insn, i, 1, Access::Write), source[i],
                                        data_view(context));
  }
  return next_after_store(thunk_context, op);
}

std::int64_t gather_index(const Bytes& indices, unsigned number, unsigned index_size) {
  if (index_size == 4) return load_le<std::int32_t>(indices.data() + number * 4UL);
  return load_le<std::int64_t>(indices.data() + number * 8UL);
}

/// Each element that has arrived clears its mask, so that a restart after a fault goes on where it stopped.
void gather(ThunkContext* thunk_context, const DecodedOp* op) {
  Context& context = context_of(thunk_context);
  begin(context, op);
  const Insn& insn = *op->insn;
  require_unit(context.cpu, insn);
  CpuState& state = context.cpu.state;
  const unsigned destination = insn.op[0].reg, index = insn.mem.index, mask_reg = insn.op[2].reg;
  if (destination == index || destination == mask_reg || index == mask_reg) x86::raise_ud();
  const unsigned size = element_size(insn.mnemonic);
  const bool long_indices = insn.mnemonic == ZYDIS_MNEMONIC_VGATHERQPS || insn.mnemonic == ZYDIS_MNEMONIC_VGATHERQPD ||
                            insn.mnemonic == ZYDIS_MNEMONIC_VPGATHERQD || insn.mnemonic == ZYDIS_MNEMONIC_VPGATHERQQ;
  const unsigned index_size = long_indices ? 8 : 4;
  const unsigned vector = insn.mem.index_ymm || insn.op[0].kind == OperandKind::Ymm ? 32 : 16;
  const unsigned elements = vector / std::max(size, index_size);
  const Bytes indices = bytes_of(state.ymm[index]);
  for (unsigned i = 0; i < elements; ++i) {
    Bytes mask = bytes_of(state.ymm[mask_reg]);
    if (mask_bit(mask, i * size, size)) {
      const auto moved = static_cast<std::uint64_t>(gather_index(indices, i, index_size)) * insn.mem.scale;
      const x86::LinearAddress address = gathered_address(context.cpu, insn, moved, size);
      Bytes result = bytes_of(state.ymm[destination]);
      read_unchecked(context, address, std::as_writable_bytes(std::span(result).subspan(i * size, size)));
      assign(state.ymm[destination], result);
    }
    std::fill_n(mask.begin() + i * size, size, std::uint8_t{0});
    assign(state.ymm[mask_reg], mask);
  }
  // The mask ends up zero, and so does what lies above the elements.
  state.ymm[mask_reg] = Ymm{};
  Bytes result = bytes_of(state.ymm[destination]);
  std::fill(result.begin() + elements * size, result.end(), std::uint8_t{0});
  assign(state.ymm[destination], result);
  return next_after_store(thunk_context, op);
}

template <bool kAll>
void zero(ThunkContext* thunk_context, const DecodedOp* op) {
  constexpr unsigned kOutsideLongMode = 8;
  Context& context = context_of(thunk_context);
  begin(context, op);
  require_unit(context.cpu, *op->insn);
  CpuState& state = context.cpu.state;
  const unsigned registers = state.code_64() ? static_cast<unsigned>(state.ymm.size()) : kOutsideLongMode;
  for (unsigned i = 0; i < registers; ++i) {
    Ymm& ymm = state.ymm[i];
    if (kAll) ymm.qword[0] = ymm.qword[1] = 0;
    ymm.qword[2] = ymm.qword[3] = 0;
  }
  return next(thunk_context, op);
}

}  // namespace

Handler vector_handler(const Insn& insn) {
  if (insn.mem.gather) return gather;
  switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_VMASKMOVPS:
    case ZYDIS_MNEMONIC_VMASKMOVPD:
    case ZYDIS_MNEMONIC_VPMASKMOVD:
    case ZYDIS_MNEMONIC_VPMASKMOVQ:
      return masked_move;
    case ZYDIS_MNEMONIC_MASKMOVQ:
    case ZYDIS_MNEMONIC_MASKMOVDQU:
    case ZYDIS_MNEMONIC_VMASKMOVDQU:
      return masked_byte_store;
    case ZYDIS_MNEMONIC_VZEROALL:
      return zero<true>;
    case ZYDIS_MNEMONIC_VZEROUPPER:
      return zero<false>;
    default:
      return nullptr;
  }
}

}  // namespace doppel::engine::interp
