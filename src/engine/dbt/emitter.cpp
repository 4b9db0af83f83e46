#include "engine/dbt/emitter.h"

#include <utility>

#include "isa/op_table.h"
#include "isa/system.h"

namespace doppel::engine::dbt {

namespace host = asmjit::x86;
using isa::OpClass;

namespace {

/// Whether the block may go on behind an instruction that the interpreter has executed.
bool goes_on(const isa::Insn& insn, OpClass op_class) {
  if (insn.string) return true;
  switch (op_class) {
    case OpClass::HostAlu:
      return true;
    case OpClass::System:
      return isa::is_quiet(insn.mnemonic);
    default:
      return insn.mnemonic == ZYDIS_MNEMONIC_PUSH || insn.mnemonic == ZYDIS_MNEMONIC_POP ||
             insn.mnemonic == ZYDIS_MNEMONIC_LEAVE;
  }
}

bool touches_fpu(const isa::Insn& insn, OpClass op_class) {
  if (insn.unit == isa::Unit::X87 || insn.unit == isa::Unit::Mmx) return true;
  return op_class == OpClass::System && isa::works_on_x87_state(insn.mnemonic);
}

/// Whether it may want its operand to be aligned.
bool may_align(const isa::Insn& insn) {
  return insn.unit != isa::Unit::Integer || insn.mnemonic == ZYDIS_MNEMONIC_CMPXCHG16B;
}

}  // namespace

Emitter::Emitter(asmjit::x86::Assembler& assembler, const Trampolines& trampolines, const BlockMode& mode,
                 const AccessGroups& groups, std::uint32_t first_site, std::pmr::memory_resource* scratch)
    : a_(assembler),
      trampolines_(trampolines),
      mode_(mode),
      groups_(groups),
      first_site_(first_site),
      sites_(scratch),
      islands_(scratch),
      side_exits_(scratch) {}

Emitter::Mem Emitter::slot(unsigned guest, std::uint32_t size) {
  return env(DOPPEL_ENV(slot) + static_cast<std::int32_t>(8 * (guest - x86::kR9)), size);
}

HostReg Emitter::host_of(unsigned guest) {
  switch (guest) {
    case x86::kRcx:
      return kHostR9;
    case x86::kRsp:
      return kHostR10;
    default:
      return static_cast<HostReg>(guest);
  }
}

Emitter::Gp Emitter::reg(HostReg number, unsigned size) {
  switch (size) {
    case 1:
      return host::gpb(number);
    case 2:
      return host::gpw(number);
    case 4:
      return host::gpd(number);
    default:
      return host::gpq(number);
  }
}

/// The whole guest register.
void Emitter::load_gpr(const Gp& target, unsigned guest) {
  if (is_slot(guest)) {
    a_.mov(target, slot(guest));
  } else {
    a_.mov(target, reg(host_of(guest), 8));
  }
}

void Emitter::store_gpr(unsigned guest, const Gp& source) {
  if (is_slot(guest)) {
    a_.mov(slot(guest), source);
  } else {
    a_.mov(reg(host_of(guest), 8), source);
  }
}

/// The linear address of a place relative to the block's page.
void Emitter::load_linear(const Gp& target, std::int64_t page_offset) {
  if (mode_.user) {
    a_.mov(target, env(DOPPEL_ENV(page_base)));
    if (page_offset == 0) return;
    // A displacement of 2 GiB less a little, counted from the page's start, may not fit into one.
    constexpr std::int64_t kMost = 0x7FFF'FFFF, kPage = memory::kPageSize;
    if (mode_.code_64 && page_offset > kMost) {
      a_.lea(target, host::ptr(target, static_cast<std::int32_t>(kPage)));
      page_offset -= kPage;
    }
    a_.lea(mode_.code_64 ? target : target.r32(), host::ptr(target, static_cast<std::int32_t>(page_offset)));
    return;
  }
  std::uint64_t linear = mode_.linear_page + static_cast<std::uint64_t>(page_offset);
  if (!mode_.code_64) linear &= 0xFFFF'FFFF;
  a_.mov(target, linear);
}

std::uint32_t Emitter::add_site(CodeOffset resume) {
  Site site;
  site.page_offset = page_offset_;
  site.resume = resume;
  sites_.push_back(site);
  return static_cast<std::uint32_t>(sites_.size() - 1);
}

void Emitter::call_out(ExitReason reason, std::uint32_t site) {
  a_.call(reinterpret_cast<std::uint64_t>(trampolines_.exit[static_cast<std::size_t>(reason)]));
  a_.embedUInt32(first_site_ + site);
}

/// The site is found by the address behind the call.
void Emitter::call_unnumbered(const std::byte* trampoline, std::uint32_t site) {
  a_.call(reinterpret_cast<std::uint64_t>(trampoline));
  sites_[site].called_from = here();
}

namespace {
constexpr std::size_t kShortReach = 127;
constexpr std::size_t kIslandBytes = 9;
constexpr std::size_t kMostAhead = 72;  // bytes that may be written between two looks at the islands
}  // namespace

/// JRCXZ reaches 127 bytes: its targets are written in time, with a jump around them.
void Emitter::keep_islands_in_reach() {
  if (islands_.empty()) return;
  const std::size_t last = islands_.front().branch_at + kShortReach;
  if (a_.offset() + kMostAhead + kIslandBytes * (islands_.size() + 1) < last) return;
  const Label around = a_.newLabel();
  a_.short_().jmp(around);
  emit_islands();
  a_.bind(around);
}

void Emitter::emit_islands() {
  for (const Island& island : islands_) {
    a_.bind(island.entry);
    if (island.linear == kNoHostReg) {
      call_out(island.reason, island.site);
    } else {
      call_unnumbered(trampolines_.miss[island.reason == ExitReason::WriteMiss ? 1 : 0][island.linear], island.site);
    }
  }
  islands_.clear();
}

/// Leaves when something waits for the vCPU; the instruction under way has not begun.
void Emitter::poll() {
  keep_islands_in_reach();
  a_.mov(host::ecx, env(DOPPEL_ENV(jump_mask), 4));
  const Label island = a_.newLabel();
  a_.short_().jecxz(host::rcx, island);
  islands_.push_back({island, ExitReason::Attention, add_site(), kNoHostReg, a_.offset()});
}

void Emitter::need_fpu() {
  if (fpu_known_) return;
  fpu_known_ = true;
  held_ = AccessGroups::kNone;
  keep_islands_in_reach();
  const std::uint32_t site = add_site(here());
  a_.mov(host::rcx, env(DOPPEL_ENV(fpu_loaded)));
  const Label island = a_.newLabel();
  a_.short_().jecxz(host::rcx, island);
  islands_.push_back({island, ExitReason::LoadFpu, site, kNoHostReg, a_.offset()});
}

CodeOffset Emitter::verify_second_page(const SourceInsn& source) {
  page_offset_ = source.offset;
  const Label begin = a_.newLabel(), verified = a_.newLabel(), same = a_.newLabel();
  a_.short_().jmp(begin);
  a_.bind(verified);
  const auto at = here();
  a_.embedUInt64(0);
  a_.bind(begin);
  const std::uint32_t site = add_site();
  a_.mov(host::rcx, env(DOPPEL_ENV(mappings)));
  a_.mov(host::r11, host::qword_ptr(verified));
  a_.not_(host::r11);
  a_.lea(host::rcx, host::ptr(host::rcx, host::r11, 0, 1));
  a_.short_().jecxz(host::rcx, same);
  call_out(ExitReason::Remapped, site);
  a_.bind(same);
  return at;
}

Emitter::Next Emitter::instruction(const SourceInsn& source, const SourceInsn* following) {
  page_offset_ = source.offset;
  next_offset_ = static_cast<std::uint16_t>(source.offset + source.insn.length);
  held_ = std::exchange(kept_, AccessGroups::kNone);
  keep_islands_in_reach();
  const std::size_t first_site = sites_.size();
  Next next = Next::Untranslated;
  const OpClass op_class = isa::op_class(source.insn);
  switch (op_class) {
    case OpClass::HostAlu:
      next = host(source);
      break;
    case OpClass::Cpp:
      next = branch(source);
      break;
    case OpClass::System:
      next = system(source, following);
      break;
    case OpClass::Undefined:
      break;
  }
  // C++ may have come in between.
  if (next == Next::Untranslated || op_class == OpClass::System) {
    established_.reset();
    kept_ = AccessGroups::kNone;
  }
  if (next == Next::Untranslated) {
    call_out(ExitReason::Interpret, add_site());
    if (goes_on(source.insn, op_class)) next = Next::Continue;
  }
  if (next == Next::Continue) {
    for (std::size_t i = first_site; i < sites_.size(); ++i) {
      if (sites_[i].looks_around) continue;
      sites_[i].after = here();
      sites_[i].length = source.insn.length;
      sites_[i].touches_fpu = touches_fpu(source.insn, op_class);
      sites_[i].may_align = may_align(source.insn);
    }
  }
  ++index_;
  return next;
}

void Emitter::fall_through(std::uint16_t page_offset) {
  page_offset_ = next_offset_ = page_offset;
  jump_to(page_offset);
}

void Emitter::finish() {
  emit_islands();
  for (const SideExit& exit : side_exits_) {
    a_.bind(exit.entry);
    Site& site = sites_[exit.site];
    page_offset_ = site.page_offset;
    if (exit.linked) {
      site.resume = here();
      call_out(exit.reason, exit.site);
    } else {
      jump_to(exit.target);
      emit_islands();
    }
  }
}

}  // namespace doppel::engine::dbt
