#pragma once

#include <cstdint>
#include <mutex>

#include "engine/interp/block.h"
#include "isa/decoded_op.h"
#include "x86/cpu.h"

namespace doppel::engine::interp {

/// The interpreter's view of one vCPU: what its handlers work on. Belongs to the vCPU's thread.
struct Context : isa::ThunkContext {
  Context(const x86::CpuPorts& ports, std::mutex& lock_of_split_accesses)
      : cpu(ports), split_lock(lock_of_split_accesses) {
    tlb = cpu.mmu.tlb(cpu.mmu.data_view());
  }

  x86::Cpu cpu;
  /// Held while a locked access is made in pieces (across pages, to MMIO), so that no two of those mix. One for all
  /// processors of the machine; devices' locks are taken while it is held, never the other way round.
  std::mutex& split_lock;

  Block* block = nullptr;  ///< the running one
  /// The op that may raise a fault now; null while no instruction is under way.
  const isa::DecodedOp* op = nullptr;
  Link lookup;                   ///< for ways out whose target is not known before
  Link* link = &lookup;          ///< how the last block was left
  bool leave = false;            ///< a system instruction has ended the block: look at modes and events
  std::uint64_t code_limit = 0;  ///< CS.limit; without end in 64-bit mode
  std::uint32_t pauses = 0;      ///< PAUSE instructions executed, to yield the host's processor now and then
};

using isa::DecodedOp;
using isa::Handler;
using isa::ThunkContext;

inline Context& context_of(ThunkContext* context) {
  return *static_cast<Context*>(context);
}

/// Goes on with the instruction after `op`.
inline void next(ThunkContext* context, const DecodedOp* op) {
  return op[1].handler(context, op + 1);
}

/// Ends the block after `op`, and counts only what was executed of it.
inline void stop_after(Context& context, const DecodedOp* op, std::uint64_t rip) {
  context.cpu.instructions -= context.block->count - (op->ordinal + 1U);
  context.cpu.state.rip = rip;
  context.link = &context.lookup;
}

/// Where the instruction after `op` is. (EIP and IP wrap; a block never does.)
inline std::uint64_t next_rip(const Context& context, const DecodedOp* op) {
  return context.block_rip + op->next;
}

/// Ends a handler that may have stored to memory: code that was stored to must not run on.
inline void next_after_store(ThunkContext* thunk_context, const DecodedOp* op) {
  Context& context = context_of(thunk_context);
  if (context.cpu.mmu.take_code_modified()) [[unlikely]]
    return stop_after(context, op, next_rip(context, op));
  return next(thunk_context, op);
}

inline x86::View data_view(const Context& context) {
  return context.cpu.mmu.data_view();
}

}  // namespace doppel::engine::interp
