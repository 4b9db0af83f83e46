#include "engine/interp/runner.h"

#include <emmintrin.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "engine/interp/handlers.h"
#include "isa/host_fault_guard.h"
#include "x86/control_registers.h"
#include "x86/events.h"
#include "x86/fault.h"

namespace doppel::engine::interp {

namespace {

namespace rflags = x86::rflags;
constexpr std::uint64_t kAnyBreakpoint = 0xFF;  // DR7: L0–L3, G0–G3

constexpr std::uint64_t kNoLimit = ~std::uint64_t{0};

}  // namespace

Runner::Runner(const x86::CpuPorts& ports, Shared& shared)
    : context_(ports, shared.split_lock), shared_(shared), builder_(context_, shared.decoder, *shared.thunks) {
  context_.cpu.mmu.set_flush_listener(this);
}

void Runner::load(const x86::CpuState& state) {
  context_.cpu.state = state;
  x86::state_replaced(context_.cpu);
  flush_translations();
}

void Runner::store(x86::CpuState& state) {
  state = context_.cpu.state;
}

void Runner::flush_translations() {
  context_.cpu.mmu.flush_all();
  mappings_changed();
}

bool Runner::translate(std::uint64_t linear, std::uint64_t& physical) {
  return context_.cpu.mmu.debug_translate(linear, physical);
}

void Runner::set_debug(const DebugRequest& request) {
  debug_ = request;
  std::vector<x86::Mmu::Watch> watches;
  for (const DebugRequest::Watchpoint& point : request.watchpoints)
    watches.push_back({point.address, point.length, point.on_read, point.on_write, 0});
  context_.cpu.mmu.set_watches(std::move(watches));
  reported_.reset();
  near_breakpoint_ = false;
}

nlohmann::json Runner::stats() const {
  const x86::Mmu::Stats& mmu = context_.cpu.mmu.stats();
  return {{"instructions", context_.cpu.instructions},
          {"blocks_decoded", blocks_decoded_},
          {"blocks", cache_.size()},
          {"tlb_misses", mmu.misses},
          {"page_walks", mmu.walks},
          {"tlb_flushes", mmu.flushes}};
}

nlohmann::json Runner::describe_code(std::uint64_t /*linear*/) {
  return nlohmann::json::array();
}

void Runner::begin() {
  context_.host_mxcsr = _mm_getcsr();
  context_.link = &context_.lookup;
}

Exit Runner::run() {
  const isa::HostFaultGuard guard(executable());
  begin();
  for (;;) {
    if (std::optional<Exit> exit = boundary()) return *exit;
    if (mode_.has(Mode::kSingle)) {
      if (std::optional<Exit> exit = step()) return *exit;
    } else if (std::optional<Exit> exit =
                   guarded([this] { debug_.breakpoints.empty() ? execute() : execute_to_breakpoint(); })) {
      return *exit;
    }
  }
}

template <class Action>
std::optional<Exit> Runner::guarded(Action action) {
  try {
    if constexpr (std::is_void_v<decltype(action())>) {
      action();
      return std::nullopt;
    } else {
      return action();
    }
  } catch (const x86::Fault& fault) {
    unwind_to_instruction();
    return deliver(fault);
  } catch (const x86::Restart&) {
    unwind_to_instruction();
    return std::nullopt;
  } catch (const x86::Shutdown&) {
    context_.cpu.state.activity = x86::Activity::Shutdown;
    return Exit{ExitReason::Shutdown};
  }
}

std::optional<Exit> Runner::deliver(const x86::Fault& fault) {
  context_.link = &context_.lookup;
  context_.cpu.instruction_start = context_.cpu.state.rip;
  try {
    x86::deliver_exception(context_.cpu, fault);
  } catch (const x86::Shutdown&) {
    context_.cpu.state.activity = x86::Activity::Shutdown;
    return Exit{ExitReason::Shutdown};
  }
  if (debug_.single_step) return Exit{ExitReason::Stepped};
  return std::nullopt;
}

std::optional<Exit> Runner::boundary() {
  return guarded([this] { return look_around(); });
}

std::optional<Exit> Runner::step() {
  const Mode mode = mode_;
  if (!mode_.has(Mode::kSingle)) mode_.key |= Mode::kAlone;
  space_ = epoch_ << 16 | mode_.key;
  std::optional<Exit> exit = guarded([this] { execute_one(); });
  mode_ = mode;
  if (exit) return exit;
  return debugger_stop();
}

void Runner::follow(const x86::CpuState& state) {
  context_.cpu.state = state;
  context_.cpu.mmu.refresh_view();
  context_.cpu.mmu.take_code_modified();
  context_.leave = false;
  context_.op = nullptr;
  step_ = false;
  refresh();
}

std::optional<x86::Fault> Runner::try_step() {
  if (std::exchange(context_.leave, false)) refresh();
  mode_.key |= Mode::kSingle;
  space_ = epoch_ << 16 | mode_.key;
  try {
    execute_one();
    return std::nullopt;
  } catch (const x86::Fault& fault) {
    unwind_to_instruction();
    return fault;
  }
}

/// A fault leaves no trace of its instruction: RIP is back at its start, and it was not retired. A task switch that
/// faults once the new task is in place has moved that start to the new task (SDM vol. 3, 7.3).
void Runner::unwind_to_instruction() {
  if (context_.op != nullptr) {
    const DecodedOp* op = std::exchange(context_.op, nullptr);
    const bool may_switch_tasks = op->handler == system_handler;
    stop_after(context_, op, may_switch_tasks ? context_.cpu.instruction_start : context_.block_rip + op->start);
    --context_.cpu.instructions;
  }
  context_.cpu.instruction_start = context_.cpu.state.rip;
}

/// Takes over what a system instruction or an event may have changed.
void Runner::refresh() {
  const x86::CpuState& state = context_.cpu.state;
  mode_ = Mode::of(state, step_ || near_breakpoint_ || debug_.single_step || context_.cpu.mmu.has_watches());
  space_ = epoch_ << 16 | mode_.key;
  context_.tlb = context_.cpu.mmu.tlb(context_.cpu.mmu.data_view());
  const x86::Segment& cs = state.seg(x86::SegReg::Cs);
  context_.code_limit = mode_.code_64() ? kNoLimit : cs.limit;
  linear_base_ = mode_.code_64() ? 0 : cs.base;
  linear_mask_ = mode_.code_64() ? kNoLimit : 0xFFFF'FFFF;
}

void Runner::rights_changed() {
  context_.cpu.mmu.refresh_view();
  refresh();
}

bool Runner::events_may_be_due() const {
  const x86::Cpu& cpu = context_.cpu;
  const x86::CpuState& state = cpu.state;
  return cpu.ports.attention.any() || (cpu.interrupt_waiting && (state.rflags_without_of & rflags::kIf) != 0) ||
         state.sti_shadow || state.ss_shadow || state.pending_debug != 0 || state.nmi_pending ||
         state.activity != x86::Activity::Running || (state.dr7 & kAnyBreakpoint) != 0 ||
         (state.rflags_without_of & (rflags::kTf | rflags::kRf)) != 0;
}

std::optional<Exit> Runner::look_around() {
  context_.leave = false;
  context_.op = nullptr;
  step_ = false;
  if (events_may_be_due()) {
    const x86::Boundary next = x86::service_events(context_.cpu);
    if (next == x86::Boundary::Idle) return Exit{ExitReason::Halted};
    if (next == x86::Boundary::Stop) return Exit{ExitReason::Stopped};
    step_ = next == x86::Boundary::Step;
    context_.link = &context_.lookup;
  }
  refresh();
  return breakpoint();
}

/// A debugger's breakpoint at RIP is reported once, before its instruction.
std::optional<Exit> Runner::breakpoint() {
  if (debug_.breakpoints.empty()) return std::nullopt;
  const std::uint64_t linear = linear_rip();
  if (reported_ == linear) return std::nullopt;
  if (std::find(debug_.breakpoints.begin(), debug_.breakpoints.end(), linear) == debug_.breakpoints.end())
    return std::nullopt;
  reported_ = linear;
  return Exit{ExitReason::Breakpoint, linear};
}

std::uint64_t Runner::linear_rip() const {
  return (context_.cpu.state.rip + linear_base_) & linear_mask_;
}

void Runner::enter(Block* block) {
  context_.block = block;
  context_.block_rip = context_.cpu.state.rip;
  context_.cpu.instructions += block->count;
  block->ops[0].handler(&context_, block->ops.get());
}

/// Runs blocks until something else is to be looked at.
void Runner::execute() {
  const x86::Attention& attention = context_.cpu.ports.attention;
  do {
    Block* block = context_.link->block;
    if (block == nullptr || !block->current()) block = find_block();
    enter(block);
  } while (!context_.leave && !attention.any());
}

/// The same, up to a block that holds a breakpoint. That is executed by single instructions: a breakpoint in its middle
/// is at a boundary then.
void Runner::execute_to_breakpoint() {
  const x86::Attention& attention = context_.cpu.ports.attention;
  do {
    Block* block = find_block();
    near_breakpoint_ = holds_breakpoint(*block);
    if (near_breakpoint_) return;
    enter(block);
  } while (!context_.leave && !attention.any());
}

bool Runner::holds_breakpoint(const Block& block) const {
  const std::uint64_t start = linear_rip();
  return std::ranges::any_of(debug_.breakpoints, [&](std::uint64_t breakpoint) {
    return ((breakpoint - start) & linear_mask_) < block.bytes;
  });
}

/// Runs one instruction.
void Runner::execute_one() {
  context_.link = &context_.lookup;
  if (step_) x86::begin_step(context_.cpu);
  enter(find_block());
  if (step_) x86::end_step(context_.cpu);
}

std::optional<Exit> Runner::debugger_stop() {
  reported_.reset();
  near_breakpoint_ = false;
  std::uint64_t watched = 0;
  if (!debug_.watchpoints.empty() && context_.cpu.mmu.take_watch_hit(watched))
    return Exit{ExitReason::Watchpoint, watched};
  if (debug_.single_step) return Exit{ExitReason::Stepped};
  return std::nullopt;
}

/// The block at CS:RIP. Mostly one that has been entered from elsewhere under the same mappings.
inline Block* Runner::find_block() {
  Block* block = cache_.find_linear(linear_rip(), space_);
  if (block == nullptr || !block->current() || context_.cpu.state.rip + block->bytes - 1 > context_.code_limit)
      [[unlikely]]
    return find_block_slow();
  if (context_.link->local) context_.link->block = block;
  return block;
}

Block* Runner::find_block_slow() {
  context_.op = nullptr;
  const std::uint64_t rip = context_.cpu.state.rip;
  if (rip > context_.code_limit) x86::raise_gp();
  const std::uint64_t linear = linear_rip();
  Block* block = look_up(linear, mode_);
  if (rip + block->bytes - 1 > context_.code_limit) return up_to_limit(linear, rip);
  // One across pages is asked each time where its second page is.
  if (block == transient_.get() || block->crosses_page) return block;
  cache_.put_linear(linear, space_, block);
  if (context_.link->local) context_.link->block = block;
  return block;
}

/// By physical address; decodes where nothing valid is known.
Block* Runner::look_up(std::uint64_t linear, Mode mode) {
  transient_.reset();
  const x86::Mmu::FetchPage page = context_.cpu.mmu.fetch(linear);
  Block* known = cache_.find(page.physical, mode.block_key());
  if (known != nullptr && still_current(*known, linear)) return known;
  bool cacheable = false;
  std::unique_ptr<Block> built = builder_.build(linear, mode, cacheable);
  ++blocks_decoded_;
  known = built.get();
  if (!cacheable) {
    transient_ = std::move(built);
  } else if (cache_.put(std::move(built))) {
    // The link may have been part of a block that is no more.
    context_.link = &context_.lookup;
  }
  return known;
}

bool Runner::still_current(const Block& block, std::uint64_t linear) {
  if (!block.current()) return false;
  if (!block.crosses_page) return true;
  const std::uint64_t second = align_down(linear, memory::kPageSize) + memory::kPageSize;
  return context_.cpu.mmu.fetch(second).physical == block.second_physical &&
         block.second_generation_cell->load(std::memory_order_acquire) == block.second_generation;
}

/// A block that runs over the code segment's limit is executed by single instructions; the one that does it faults.
Block* Runner::up_to_limit(std::uint64_t linear, std::uint64_t rip) {
  Block* block = look_up(linear, Mode{mode_.key | Mode::kSingle});
  if (rip + block->bytes - 1 > context_.code_limit) x86::raise_gp();
  return block;
}

}  // namespace doppel::engine::interp
