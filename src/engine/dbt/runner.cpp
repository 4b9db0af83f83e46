#include "engine/dbt/runner.h"

#include <ucontext.h>

#include <bit>
#include <cstring>

#include "engine/dbt/fpu.h"
#include "isa/host_fault_guard.h"
#include "x86/fault.h"

namespace doppel::engine::dbt {

namespace {

namespace rflags = x86::rflags;
using interp::Mode;
using x86::Access;
using x86::LinearAddress;

constexpr std::uint32_t kNumericError = 1 << 12, kPlain = 1 << 13;  // beside the bits of interp::Mode
constexpr std::array<unsigned, 3> kLargeShifts{21, 22, 30};

std::uint64_t large_mark(LinearAddress address, unsigned shift) {
  constexpr unsigned kShiftAt = 56;
  return (address >> shift & ((std::uint64_t{1} << kShiftAt) - 1)) | std::uint64_t{shift} << kShiftAt;
}

/// The address behind the call that left translated code.
const std::byte* called_from(const Env& env) {
  const std::byte* address = nullptr;
  std::memcpy(&address, &env.called[4], sizeof address);
  return address;
}

void set_host_gs(std::uint64_t base) {
  asm volatile("wrgsbase %0" : : "r"(base));
}

/// The signal handler's part of a fault in translated code.
bool leave_translated_code(isa::HostRegisters registers, std::uint64_t vector) {
  auto* env = std::bit_cast<Env*>(registers[REG_RSP] - static_cast<long long>(kEnvAnchor));
  env->fault_pc = static_cast<std::uint64_t>(registers[REG_RIP]);
  env->fault_vector = vector;
  registers[REG_RIP] = reinterpret_cast<long long>(env->fault_resume);
  return true;
}

}  // namespace

Result<Runner::Parts> Runner::allocate(std::size_t code_bytes) {
  Result<std::unique_ptr<Views>> views = Views::create();
  if (!views) return views.error();
  Result<isa::CodeArea> code = isa::CodeArea::create(code_bytes);
  if (!code) return code.error();
  Result<CodeCache> cache = CodeCache::create(std::move(*code));
  if (!cache) return cache.error();
  Result<Trampolines> trampolines = Trampolines::emit(*cache);
  if (!trampolines) return trampolines.error();
  return Parts{std::move(*views), std::move(*cache), *trampolines};
}

Runner::Runner(const x86::CpuPorts& ports, Shared& shared, Parts parts, std::unique_ptr<interp::Runner> interpreter,
               DirectExecution direct)
    : interpreter_(std::move(interpreter)),
      cpu_(interpreter_->cpu()),
      shared_(shared),
      decoder_(ports.cpuid),
      views_(std::move(parts.views)),
      cache_(std::move(parts.cache)),
      trampolines_(parts.trampolines),
      translator_(decoder_, cache_, trampolines_) {
  cpu_.mmu.set_flush_listener(this);
  shared_.writers.add(*this, ports.attention);
  Env& env = views_->env();
  env.page_offset_mask = memory::kPageSize - 1;
  env.page_carry_mask = memory::kPageSize;
  env.alignment_mask = {1, 3, 7, 0};
  env.bit_mask_32 = 31;
  env.bit_mask_64 = 63;
  env.found_mask = JumpTable::kPlaces;
  env.page_mask = ~std::uint64_t{memory::kPageSize - 1};
  ports.attention.set_doorbell(&env.jump_mask);
  env.state = &cpu_.state;
  env.fault_resume = trampolines_.host_fault;
  for (const bool user : {false, true}) views_->jumps(user).set_nowhere(trampolines_.nowhere);
  if (parts.process != nullptr) {
    CodeWriters::Peer& self = *this;
    direct_ = std::make_unique<direct::Executor>(cpu_, decoder_, shared_.writers, self, std::move(parts.process),
                                                 direct::Preference(direct), shared_.places);
  }
  if (shared_.perf_map != nullptr) shared_.perf_map->add(cache_.permanent(), "doppel trampolines");
}

Runner::~Runner() {
  cpu_.ports.attention.set_doorbell(nullptr);
  shared_.writers.remove(*this);
}

void Runner::set_debug(const DebugRequest& request) {
  debugging_ = !request.empty();
  interpreter_->set_debug(request);
}

// --- Told by others ---

void Runner::flushed_all() {
  views_->flush_all();
  if (direct_ != nullptr) direct_->flushed_all();
  far_links_doubtful_ = true;
  large_pages_.clear();
  mappings_changed();
}

void Runner::flushed_non_global() {
  views_->flush_non_global();
  if (direct_ != nullptr) direct_->flushed_non_global();
  mappings_changed();
}

void Runner::flushed_page(LinearAddress address) {
  for (const unsigned shift : kLargeShifts) {
    if (large_pages_.contains(large_mark(address, shift))) return flushed_all();
  }
  views_->flush_page(address);
  if (direct_ != nullptr) direct_->flushed_page(address);
  cache_.unlink_far_to(address);
  mappings_changed();
}

void Runner::mappings_changed() {
  ++views_->env().mappings;
  interpreter_->mappings_changed();
  if (observer_ != nullptr) observer_->flushed();
}

void Runner::drop_code(memory::GuestPhysical page) {
  for (const memory::GuestPhysical start : cache_.drop_page(page)) {
    views_->jumps(false).drop_physical(start);
    views_->jumps(true).drop_physical(start);
  }
  if (direct_ != nullptr) direct_->drop_code(page);
}

void Runner::drop_writes(memory::GuestPhysical page) {
  views_->drop_writes_to(cpu_.ports.memory.page(page));
  if (direct_ != nullptr) direct_->drop_writes(page);
}

// --- Running ---

Exit Runner::run() {
  if (debugging_) return interpreter_->run();
  const isa::HostFaultGuard thunks(interpreter_->executable());
  const isa::HostFaultGuard guard(cache_.executable(), leave_translated_code);
  signal_stack_.use();
  views_->env().write_table = 0;
  interpreter_->begin();
  shared_.writers.enter(*this);
  std::optional<Exit> exit;
  while (!exit) exit = go_on();
  save_fpu();
  shared_.writers.leave(*this);
  signal_stack_.release();
  return *exit;
}

std::optional<Exit> Runner::go_on() {
  x86::Attention& attention = cpu_.ports.attention;
  if (attention.any() && attention.take(x86::Attention::kEngine) != 0) shared_.writers.serve(*this);
  if (std::optional<Exit> exit = interpreter_->boundary()) return exit;
  if (!translatable()) return interpret();
  if (runs_directly()) {
    return run_directly();
  }
  std::optional<Exit> exit = observer_ == nullptr ? run_translated() : run_observed();
  // No look around before that: an interrupt that came since must not be taken between STI and HLT.
  return !exit && interpret_next_ ? interpret() : exit;
}

std::optional<Exit> Runner::interpret() {
  interpret_next_ = false;
  save_fpu();
  ++stats_.interpreted;
  ++stats_.interpreted_alone;
  protect_interpreted();
  return interpreter_->step();
}

/// The interpreter keeps what it decodes, which may be nothing that was translated: another mode's code, or the rest of
/// an instruction on the next page. Then translated code must not store to it unnoticed either.
void Runner::protect_interpreted() {
  const x86::CpuState& state = cpu_.state;
  const LinearAddress first = state.code_64() ? state.rip : state.rip + state.seg(x86::SegReg::Cs).base;
  const LinearAddress last = first + isa::kMaxInsnLength - 1;
  memory::GuestMemory& memory = cpu_.ports.memory;
  const auto protect = [&](LinearAddress linear, std::uint64_t length) {
    memory::GuestPhysical physical = 0;
    if (!cpu_.mmu.debug_translate(linear, physical) || memory.page(physical) == nullptr) return;
    memory.code().add_code(memory.page_index(physical), physical & (memory::kPageSize - 1), length);
    shared_.writers.protect(*this, align_down(physical, memory::kPageSize));
  };
  const LinearAddress second_page = x86::Tlb::page_of(last);
  if (x86::Tlb::page_of(first) == second_page) return protect(first, isa::kMaxInsnLength);
  protect(first, second_page - first);
  protect(second_page, last + 1 - second_page);
}

/// 64-bit code, and 32-bit code in flat segments.
bool Runner::translatable() const {
  const Mode mode = interpreter_->mode();
  if (mode.has(Mode::kSingle) || !mode.has(Mode::kProtected)) return false;
  // What only CPL 0 may do is translated for all supervisor code.
  if (!mode.has(Mode::kUser) && cpu_.state.cpl() != 0) return false;
  if (cpu_.mmu.checks_alignment()) return false;
  if (mode.code_64()) return true;
  const x86::Segment& cs = cpu_.state.seg(x86::SegReg::Cs);
  return mode.code_size() == isa::CodeSize::Bits32 && mode.has(Mode::kFlatDs | Mode::kFlatEs | Mode::kFlatSs) &&
         cs.base == 0 && cs.limit == 0xFFFF'FFFF && cpu_.state.seg(x86::SegReg::Ss).default_32();
}

std::optional<Exit> Runner::run_directly() {
  save_fpu();
  switch (direct_->run(interpreter_->mode())) {
    case direct::Executor::Next::Interpret:
      return interpret();
    case direct::Executor::Next::Fault:
      return interpreter_->deliver(direct_->fault());
    case direct::Executor::Next::Lost:
      return interpreter_->deliver({x86::vector::kGp, true});
    default:
      return std::nullopt;
  }
}

/// Whether the program at RIP is to be executed in a process of its own.
bool Runner::runs_directly() {
  if (direct_ == nullptr || observer_ != nullptr || counting_) return false;
  const Mode mode = interpreter_->mode();
  return mode.has(Mode::kUser) && mode.code_64() && direct_->wanted(++views_->env().returns);
}

std::optional<Exit> Runner::run_translated() {
  const std::byte* code = code_at(cpu_.state.rip);
  if (exit_) return std::exchange(exit_, std::nullopt);
  allow_switches();
  while (code != nullptr) {
    enter(code);
    code = handle_exit();
  }
  return std::exchange(exit_, std::nullopt);
}

std::optional<Exit> Runner::run_observed() {
  const LinearAddress rip = cpu_.state.rip;
  const Block* block = block_at(rip, std::exchange(plain_next_, false));
  if (block == nullptr) return std::exchange(exit_, std::nullopt);
  save_fpu();
  views_->env().may_switch = views_->env().may_change_access = 0;
  BlockObserver::Next next = BlockObserver::Next::Again;
  while (next == BlockObserver::Next::Again) {
    observer_->before(*block);
    left_ = BlockObserver::Left::Before;
    raised_.reset();
    interpret_next_ = false;
    views_->env().page_base = x86::Tlb::page_of(rip);
    for (const std::byte* code = block->code; code != nullptr; code = handle_exit()) enter(code);
    save_fpu();
    next = observer_->after(left_, raised_ ? &*raised_ : nullptr);
  }
  if (next == BlockObserver::Next::Stop) return Exit{engine::ExitReason::Diverged, cpu_.state.rip};
  return raised_ ? interpreter_->deliver(*raised_) : std::nullopt;
}

/// Where an observed block ends.
void Runner::leave_by_branch(std::uint64_t target) {
  cpu_.state.rip = target;
  left_ = BlockObserver::Left::Branch;
}

/// An exception of the instruction at RIP.
void Runner::raise(const x86::Fault& fault) {
  if (observer_ != nullptr) {
    raised_ = fault;
  } else {
    exit_ = interpreter_->deliver(fault);
  }
}

void Runner::enter(const std::byte* code) {
  Env& env = views_->env();
  const x86::View view = cpu_.mmu.data_view();
  env.fs_base = cpu_.state.seg(x86::SegReg::Fs).base;
  env.gs_base = cpu_.state.seg(x86::SegReg::Gs).base;
  env.kernel_gs_base = cpu_.state.kernel_gs_base;
  if (env.jump_mask.load(std::memory_order_relaxed) == 0) {
    env.jump_mask.store(JumpTable::kPlaces, std::memory_order_seq_cst);
    if (cpu_.ports.attention.any()) env.jump_mask.store(0, std::memory_order_relaxed);
  }
  constexpr std::uint64_t kHidden = rflags::kVm | rflags::kRf | rflags::kIf | rflags::kAc | rflags::kDf | 0xFF;
  env.interrupt_flag = cpu_.state.rflags_without_of & rflags::kIf;
  env.access_flag = cpu_.state.rflags_without_of & rflags::kAc;
  env.direction_flag = cpu_.state.rflags_without_of & rflags::kDf;
  env.pushed_flags = cpu_.state.rflags_without_of & ~kHidden;
  env.interrupt_waiting = cpu_.interrupt_waiting ? 1 : 0;
  const bool tsc = (cpu_.state.cr4 & x86::cr4::kTsd) == 0 && observer_ == nullptr;
  env.clock = tsc ? &cpu_.ports.clock.line() : nullptr;
  env.fsgsbase = observer_ == nullptr ? cpu_.state.cr4 & x86::cr4::kFsgsbase : 0;
  const auto table = reinterpret_cast<std::uint64_t>(views_->writes(view).entries());
  if (table != env.write_table) set_host_gs(env.write_table = table);
  trampolines_.enter(views_->stack_pointer(view), code);
  constexpr std::uint64_t kInEnv = rflags::kIf | rflags::kAc | rflags::kDf;
  cpu_.state.rflags_without_of =
      (cpu_.state.rflags_without_of & ~kInEnv) | env.interrupt_flag | env.access_flag | env.direction_flag;
  cpu_.state.seg(x86::SegReg::Fs).base = env.fs_base;
  cpu_.state.seg(x86::SegReg::Gs).base = env.gs_base;
  cpu_.state.kernel_gs_base = env.kernel_gs_base;
}

/// Sees whether SYSCALL and SYSRET have more to look at than what translated code looks at itself; and what they and
/// STAC and CLAC change to.
void Runner::allow_switches() {
  Env& env = views_->env();
  const x86::CpuState& state = cpu_.state;
  const Mode mode = interpreter_->mode();
  const bool user = mode.has(Mode::kUser);
  const bool smap = (state.cr4 & x86::cr4::kSmap) != 0;
  // Both jump tables are right, and what SYSCALL makes of AC is known.
  const bool allowed = mode.code_64() && (state.efer & x86::efer::kSce) != 0 && jump_mode_[user] == mode.key &&
                       jump_mode_[!user] == (mode.key ^ Mode::kUser) && !views_->jumps(true).doubtful() &&
                       !views_->jumps(false).doubtful() && (!smap || (state.sfmask & rflags::kAc) != 0);
  env.may_switch = allowed && (direct_ == nullptr || !direct_->expected()) ? 1 : 0;
  env.may_change_access = 1;
  const auto tables = [this](x86::View view) {
    return Env::Tables{reinterpret_cast<std::uint64_t>(views_->stack_pointer(view)),
                       reinterpret_cast<std::uint64_t>(views_->writes(view).entries())};
  };
  env.tables = {tables(smap ? x86::View::SupervisorSmap : x86::View::Supervisor), tables(x86::View::User),
                tables(x86::View::Supervisor)};
}

void Runner::load_fpu() {
  load_x87(cpu_.state.fpu);
  views_->env().fpu_loaded = 1;
}

void Runner::save_fpu() {
  Env& env = views_->env();
  if (env.fpu_loaded == 0) return;
  save_x87(cpu_.state.fpu);
  env.fpu_loaded = 0;
}

// --- Blocks ---

/// The code for the guest's RIP, which is left there; null when the instruction has to be interpreted, or a fault on
/// the way has been delivered.
const std::byte* Runner::code_at(std::uint64_t rip) {
  cpu_.state.rip = rip;
  const Mode mode = interpreter_->mode();
  const bool user = mode.has(Mode::kUser);
  const auto same = [&](LinearAddress linear, memory::GuestPhysical physical) {
    const x86::View view = user ? x86::View::User : x86::View::Supervisor;
    return cpu_.mmu.leads_to(linear, physical, Access::Execute, view);
  };
  views_->jumps(user).revalidate(same);
  if (!user && std::exchange(far_links_doubtful_, false)) cache_.unlink_far_unless(same);
  if (jump_mode_[user] == mode.key) {
    if (const void* known = views_->jumps(user).find(rip)) {
      views_->env().page_base = x86::Tlb::page_of(rip);
      return static_cast<const std::byte*>(known);
    }
  }
  Block* block = block_at(rip);
  if (block == nullptr) return nullptr;
  views_->env().page_base = x86::Tlb::page_of(rip);
  expect_jumps(*block, rip);
  return block->code;
}

Block* Runner::block_at(std::uint64_t rip, bool plain) {
  const Mode mode = interpreter_->mode();
  const bool user = mode.has(Mode::kUser);
  if (jump_mode_[user] != mode.key) {
    views_->jumps(user).flush_all();
    jump_mode_[user] = mode.key;
  }
  if (mode.code_64() && !x86::is_canonical(rip)) {
    interpret_next_ = true;
    return nullptr;
  }
  const x86::View view = user ? x86::View::User : x86::View::Supervisor;
  const x86::Mmu::EnginePage page = cpu_.mmu.engine_page(rip, Access::Execute, view);
  if (page.fault) {
    exit_ = interpreter_->deliver(*page.fault);
    return nullptr;
  }
  Block* block = page.host == nullptr ? nullptr : translate_block(rip, page, plain);
  if (block == nullptr) {
    interpret_next_ = true;
    return nullptr;
  }
  if (page.page_shift != memory::kPageShift) large_pages_.insert(large_mark(rip, page.page_shift));
  page_found_ = {page.physical, page.global};
  return block;
}

/// The block is found by its address from now on; with it, after a new mapping, what else the page is known for.
void Runner::expect_jumps(Block& block, LinearAddress linear) {
  JumpTable& jumps = views_->jumps(interpreter_->mode().has(Mode::kUser));
  const bool first = jumps.put(linear, block.code, page_found_.physical, page_found_.global);
  cache_.add_target(block);
  if (!first || block.absolute) return;
  for (const CodeCache::Target& target : cache_.targets(page_found_.physical)) {
    if (target.mode == block.mode) jumps.put_beside(x86::Tlb::page_of(linear) + target.page_offset, target.code);
  }
}

Block* Runner::translate_block(LinearAddress linear, const x86::Mmu::EnginePage& page, bool plain) {
  memory::GuestMemory& memory = cpu_.ports.memory;
  const std::uint64_t offset = linear & (memory::kPageSize - 1);
  const memory::GuestPhysical physical = page.physical + offset;
  Mode mode = interpreter_->mode();
  const bool numeric_error = (cpu_.state.cr0 & x86::cr0::kNe) != 0;
  if (numeric_error) mode.key |= kNumericError;
  if (plain) mode.key |= kPlain;
  if (Block* known = cache_.find(physical, mode.key, linear)) return known;
  if (cache_.given_up(physical, mode.key)) return nullptr;

  if (cache_.room() == nullptr) {
    cache_.flush();
    for (const bool user : {false, true}) views_->jumps(user).flush_all();
  }
  memory::CodeMap& code = memory.code();
  const std::uint64_t index = memory.page_index(physical);
  const std::uint32_t generation = code.generation(index);
  const auto announce = [&](std::size_t end) {
    code.add_code(index, offset, end);
    shared_.writers.protect(*this, page.physical);
  };
  const std::span<const std::byte> bytes(page.host + offset, memory::kPageSize - offset);
  const Translator::Source source{bytes, physical, linear, mode, numeric_error, page.global, plain, counting_};
  Block* block = translator_.translate(source, announce);
  if (block == nullptr && bytes.size() < isa::kMaxInsnLength) block = translate_crossing(source);
  if (code.generation(index) == generation) {
    if (block != nullptr && shared_.perf_map != nullptr) name_for_perf(*block, linear);
    return block;
  }
  // Somebody stored to the page meanwhile.
  drop_code(page.physical);
  return nullptr;
}

/// The instruction at the end of a page, if the rest of it can be had from the next; what cannot is left to the
/// interpreter, faults and all.
Block* Runner::translate_crossing(const Translator::Source& first) {
  const std::optional<x86::Mmu::EnginePage> page = page_behind(first.linear);
  if (!page) return nullptr;
  memory::CodeMap& code = cpu_.ports.memory.code();
  const std::uint64_t index = cpu_.ports.memory.page_index(page->physical);
  const std::uint32_t generation = code.generation(index);
  const std::size_t rest = isa::kMaxInsnLength - first.bytes.size();
  code.add_code(index, 0, rest);
  shared_.writers.protect(*this, page->physical);
  std::array<std::byte, isa::kMaxInsnLength> bytes{};
  std::copy_n(page->host, rest, std::copy(first.bytes.begin(), first.bytes.end(), bytes.begin()));
  Translator::Source source = first;
  source.bytes = bytes;
  source.second_page = page->physical;
  // The bytes of the first page have been announced.
  Block* block = translator_.translate(source, [](std::size_t) {});
  if (block != nullptr) cache_.verify(*block, views_->env().mappings);
  if (code.generation(index) == generation) return block;
  drop_code(page->physical);
  return nullptr;
}

/// The page of code behind the one of this address; nothing where it cannot be executed in place.
std::optional<x86::Mmu::EnginePage> Runner::page_behind(LinearAddress linear) {
  const Mode mode = interpreter_->mode();
  LinearAddress next = x86::Tlb::page_of(linear) + memory::kPageSize;
  if (!mode.code_64()) next &= 0xFFFF'FFFF;
  if (mode.code_64() && !x86::is_canonical(next)) return std::nullopt;
  const x86::View view = mode.has(Mode::kUser) ? x86::View::User : x86::View::Supervisor;
  const x86::Mmu::EnginePage page = cpu_.mmu.engine_page(next, Access::Execute, view);
  if (page.host == nullptr) return std::nullopt;
  if (page.page_shift != memory::kPageShift) large_pages_.insert(large_mark(next, page.page_shift));
  return page;
}

// --- Exits ---

/// RIP is that of an instruction of the block.
void Runner::stop_at(const Block& block, std::uint64_t page_offset) {
  const LinearAddress page = block.absolute ? block.linear_page : views_->env().page_base;
  cpu_.state.rip = page + page_offset;
  if (!interpreter_->mode().code_64()) cpu_.state.rip &= 0xFFFF'FFFF;
}

const std::byte* Runner::handle_exit() {
  if (std::exchange(views_->env().switched, 0) != 0) interpreter_->rights_changed();
  const ExitReason reason = views_->env().reason;
  ++stats_.exits[static_cast<std::size_t>(reason)];
  if (reason == ExitReason::HostFault) {
    host_fault();
    return nullptr;
  }
  if (reason == ExitReason::Lookup) return looked_up();
  if (reason == ExitReason::Nowhere) {
    // The branch is not known any more: its #GP comes at the target.
    cpu_.state.rip = JumpTable::kNowhere;
    interpret_next_ = true;
    return nullptr;
  }
  const std::byte* const behind = called_from(views_->env());
  if (reason == ExitReason::ReadMiss) return missed(cache_.site_before(behind), Access::Read);
  if (reason == ExitReason::WriteMiss) return missed(cache_.site_before(behind), Access::Write);
  if (reason == ExitReason::Crossing || reason == ExitReason::String) return interpreted(cache_.site_before(behind));
  std::uint32_t number = 0;
  std::memcpy(&number, behind, sizeof number);
  const Site& site = cache_.site(number);
  switch (reason) {
    case ExitReason::Chain:
      return chained(number);
    case ExitReason::Split:
      return split(number);
    case ExitReason::Remapped:
      return remapped(site);
    case ExitReason::LoadFpu:
      load_fpu();
      return site.block->code + site.resume;
    case ExitReason::Interpret:
    case ExitReason::InterpretAndLook:
      return interpreted(site);
    default:  // Attention
      stop_at(*site.block, site.page_offset);
      return nullptr;
  }
}

/// Executes one instruction for translated code, which goes on behind it if nothing else came up.
const std::byte* Runner::interpreted(const Site& site) {
  stop_at(*site.block, site.page_offset);
  if (observer_ != nullptr) {
    interpret_next_ = true;
    return nullptr;
  }
  const std::byte* after = site.after == 0 ? nullptr : site.block->code + site.after;
  const std::uint64_t next = cpu_.state.rip + site.length;
  const bool fpu = (site.touches_fpu || after == nullptr) && views_->env().fpu_loaded != 0;
  if (fpu) save_fpu();
  ++stats_.interpreted;
  exit_ = interpreter_->step();
  if (exit_ || cpu_.state.rip != next || cpu_.ports.attention.any() || cpu_.state.ss_shadow) return nullptr;
  if (fpu && after != nullptr) load_fpu();
  return after;
}

const std::byte* Runner::looked_up() {
  const std::uint64_t target = views_->env().target;
  if (interpreter_->mode().code_64() && !x86::is_canonical(target)) {
    undo_branch(cache_.site_before(called_from(views_->env())));
    return nullptr;
  }
  if (observer_ != nullptr) {
    leave_by_branch(target);
    return nullptr;
  }
  const std::byte* code = code_at(target);
  return cpu_.ports.attention.any() ? nullptr : code;
}

/// A jump to where no code can be faults before it changes anything. It is not tried again, for a CALL may have pushed
/// over its own operand.
void Runner::undo_branch(const Site& site) {
  stop_at(*site.block, site.page_offset);
  cpu_.state.gpr[x86::kRsp] -= static_cast<std::uint64_t>(std::int64_t{site.stack_change});
  raise({x86::vector::kGp, true});
}

const std::byte* Runner::chained(std::uint32_t number) {
  const Site site = cache_.site(number);
  stop_at(*site.block, site.target);
  if (site.far_target != 0) {
    if (!x86::is_canonical(site.far_target)) {
      undo_branch(site);
      return nullptr;
    }
    cpu_.state.rip = site.far_target;
  }
  if (observer_ != nullptr) {
    leave_by_branch(cpu_.state.rip);
    return nullptr;
  }
  const std::uint64_t flushes = cache_.stats().flushes;
  const std::uint64_t dropped = cache_.stats().dropped;
  Block* target = block_at(cpu_.state.rip);
  if (target == nullptr) return nullptr;
  const bool lasting = site.far_target == 0 || page_found_.global;
  if (lasting && cache_.stats().flushes == flushes && cache_.stats().dropped == dropped) cache_.link(number, target);
  return target->code;
}

/// The rest of a block one of whose groups of accesses is in two pages.
const std::byte* Runner::split(std::uint32_t number) {
  const Site site = cache_.site(number);
  stop_at(*site.block, site.page_offset);
  if (observer_ != nullptr) {
    plain_next_ = true;
    return nullptr;
  }
  const CodeCache::Stats before = cache_.stats();
  Block* target = block_at(cpu_.state.rip, true);
  if (target == nullptr) return nullptr;
  if (cache_.stats().flushes == before.flushes && cache_.stats().dropped == before.dropped) cache_.link(number, target);
  return target->code;
}

/// Translations have been flushed since the block of an instruction across pages was last seen to be right.
const std::byte* Runner::remapped(const Site& site) {
  const Block& block = *site.block;
  stop_at(block, site.page_offset);
  const std::optional<x86::Mmu::EnginePage> page = page_behind(cpu_.state.rip);
  if (page && page->physical == block.second_page) {
    cache_.verify(block, views_->env().mappings);
    return block.code;
  }
  interpret_next_ = true;
  return nullptr;
}

const std::byte* Runner::missed(const Site& site, Access access) {
  const LinearAddress linear = views_->env().scratch_r11;
  stop_at(*site.block, site.page_offset);
  const x86::View view = cpu_.mmu.data_view();
  if (cpu_.state.long_mode_active() && !x86::is_canonical(linear)) {
    interpret_next_ = true;
    return nullptr;
  }
  const x86::Mmu::EnginePage page = cpu_.mmu.engine_page(linear, access, view);
  if (page.fault) {
    // Other faults may go before this one: of alignment, or a pending one of x87. The interpreter finds out.
    constexpr LinearAddress kAlignment = 32;
    interpret_next_ = (site.may_align && linear % kAlignment != 0) || site.touches_fpu;
    if (!interpret_next_) raise(*page.fault);
    return nullptr;
  }
  const bool here = page.host != nullptr && !cpu_.mmu.code_modified() &&
                    (access == Access::Read || shared_.writers.may_write(*this, page.physical));
  if (!here) {
    interpret_next_ = true;
    return nullptr;
  }
  if (page.page_shift != memory::kPageShift) large_pages_.insert(large_mark(linear, page.page_shift));
  // What may be written may be read, and mostly is.
  views_->reads(view).fill(linear, page.host, page.global);
  ++stats_.read_fills;
  if (access == Access::Write) {
    views_->writes(view).fill(linear, page.host, page.global);
    ++stats_.write_fills;
  }
  return site.block->code + site.resume;
}

/// The guest's fault comes again, and is delivered, when the interpreter executes the instruction. Any other is ours.
void Runner::host_fault() {
  const Env& env = views_->env();
  const Block* block = cache_.block_at(std::bit_cast<const std::byte*>(env.fault_pc));
  if (block == nullptr || env.fault_vector == x86::vector::kPf || env.fault_vector == x86::vector::kUd) {
    report_host_fault(block);
    return;
  }
  const std::uint64_t at = env.fault_pc - reinterpret_cast<std::uint64_t>(block->code);
  const Block::Mark* found = &block->marks.front();
  for (const Block::Mark& mark : block->marks) {
    if (mark.code_offset <= at) found = &mark;
  }
  stop_at(*block, found->page_offset);
  interpret_next_ = true;
}

}  // namespace doppel::engine::dbt
