#pragma once

#include <atomic>
#include <cstdint>

#include "base/bits.h"
#include "engine/interp/context.h"
#include "isa/system.h"
#include "memory/code_map.h"
#include "x86/segmentation.h"

/// What the interpreter's own handlers read and write.
namespace doppel::engine::interp {

/// Where RIP and the fault handling of a helper in x86/ or isa/ want to know what is being executed.
inline void begin(Context& context, const DecodedOp* op) {
  context.op = op;
  context.cpu.instruction_start = context.block_rip + op->start;
  context.cpu.state.rip = next_rip(context, op);
}

template <class T>
T& at_offset(Context& context, std::uint16_t offset) {
  return *reinterpret_cast<T*>(reinterpret_cast<std::byte*>(static_cast<ThunkContext*>(&context)) + offset);
}

inline std::uint64_t flat_address(Context& context, const DecodedOp* op) {
  return at_offset<std::uint64_t>(context, op->base) + at_offset<std::uint64_t>(context, op->index) * op->scale +
         static_cast<std::uint64_t>(std::int64_t{op->displacement}) +
         at_offset<std::uint64_t>(context, op->segment_base);
}

inline const x86::Mmu::TlbEntry& tlb_entry(const Context& context, std::uint64_t linear) {
  return context.tlb[x86::Tlb::index(linear)];
}

/// Reads at an address of a flat segment, which `segment` names in case the address is not canonical.
template <class T>
T load(Context& context, std::uint64_t linear, x86::SegReg segment) {
  const x86::Mmu::TlbEntry& entry = tlb_entry(context, linear);
  if (entry.read_tag == x86::Tlb::page_of(linear + sizeof(T) - 1)) [[likely]]
    return load_le<T>(entry.host + (linear & (memory::kPageSize - 1)));
  const x86::LinearAddress checked = x86::segment_address(context.cpu, segment, linear, sizeof(T), x86::Access::Read);
  return context.cpu.mmu.read<T>(checked, data_view(context));
}

template <class T>
void store(Context& context, std::uint64_t linear, T value, x86::SegReg segment) {
  const x86::Mmu::TlbEntry& entry = tlb_entry(context, linear);
  if (entry.write_tag == x86::Tlb::page_of(linear + sizeof(T) - 1)) [[likely]] {
    store_le(entry.host + (linear & (memory::kPageSize - 1)), value);
    if (context.cpu.ports.memory.code().lines_after_store(*entry.code_lines) != 0) [[unlikely]]
      context.cpu.mmu.wrote(linear, sizeof(T), data_view(context));
    return;
  }
  const x86::LinearAddress checked = x86::segment_address(context.cpu, segment, linear, sizeof(T), x86::Access::Write);
  context.cpu.mmu.write<T>(checked, value, data_view(context));
}

/// Stack accesses where SS is flat and the stack pointer 64 bits wide.
template <class T>
void push_flat(Context& context, T value) {
  std::uint64_t& rsp = context.cpu.state.gpr[x86::kRsp];
  store<T>(context, rsp - sizeof(T), value, x86::SegReg::Ss);
  rsp -= sizeof(T);
}
template <class T>
T pop_flat(Context& context) {
  std::uint64_t& rsp = context.cpu.state.gpr[x86::kRsp];
  const T value = load<T>(context, rsp, x86::SegReg::Ss);
  rsp += sizeof(T);
  return value;
}

/// The first operand, a general register or memory, zero-extended.
std::uint64_t read_source_slow(Context& context, const DecodedOp* op);
inline std::uint64_t read_source(Context& context, const DecodedOp* op) {
  if (op->insn->op[0].kind == isa::OperandKind::Gpr && op->insn->op[0].size == 8)
    return at_offset<std::uint64_t>(context, op->reg[0]);
  if (op->flat && op->size == 8 && op->insn->mem.address_size == 8) {
    const x86::SegReg segment = op->insn->mem.segment;
    if (segment != x86::SegReg::Fs && segment != x86::SegReg::Gs)
      return load<std::uint64_t>(context, flat_address(context, op), segment);
  }
  return read_source_slow(context, op);
}

}  // namespace doppel::engine::interp
