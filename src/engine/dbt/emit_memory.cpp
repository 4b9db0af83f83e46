#include <bit>

#include "engine/dbt/emitter.h"
#include "engine/dbt/views.h"

/// Addresses, and the look-up of their pages.
namespace doppel::engine::dbt {

namespace host = asmjit::x86;
using x86::SegReg;

/// Leaves the offset of the memory operand, without the segment's base, in a register: r11, or the base register itself
/// where nothing is to be added. May change rcx. False when that is not to be had.
bool Emitter::effective_address(const SourceInsn& source, HostReg& out) {
  const isa::MemoryOperand& mem = source.insn.mem;
  if (mem.gather || mem.address_size == 2) return false;
  if (mem.displacement != static_cast<std::int32_t>(mem.displacement)) {
    // MOV with a 64-bit absolute address.
    if (mem.base != isa::kNoRegister || mem.index != isa::kNoRegister) return false;
    a_.mov(host::r11, static_cast<std::uint64_t>(mem.displacement));
    out = kHostR11;
    return true;
  }
  const auto displacement = static_cast<std::int32_t>(mem.displacement);
  const bool narrow = mem.address_size == 4;
  const Gp sum = reg(kHostR11, narrow ? 4 : 8);
  out = kHostR11;
  if (mem.base == isa::kRipRegister) {
    if (narrow) return false;
    load_linear(host::r11, std::int64_t{next_offset_} + displacement);
    return true;
  }
  Gp base, index;
  if (mem.base != isa::kNoRegister) {
    base = reg(host_of(mem.base), 8);
    if (is_slot(mem.base)) a_.mov(base = host::r11, slot(mem.base));
  }
  if (mem.index != isa::kNoRegister) {
    index = reg(host_of(mem.index), 8);
    if (is_slot(mem.index)) a_.mov(index = host::rcx, slot(mem.index));
  }
  const unsigned shift = mem.scale == 8 ? 3 : mem.scale == 4 ? 2 : mem.scale == 2 ? 1 : 0;
  if (index.isValid()) {
    if (base.isValid()) {
      a_.lea(sum, host::ptr(base, index, shift, displacement));
    } else {
      a_.lea(sum, host::ptr(static_cast<std::uint64_t>(static_cast<std::int64_t>(displacement)), index, shift));
    }
  } else if (base.isValid()) {
    if (displacement == 0 && !narrow) {
      out = static_cast<HostReg>(base.id());
    } else {
      a_.lea(sum, host::ptr(base, displacement));
    }
  } else if (narrow) {
    a_.mov(sum, static_cast<std::uint32_t>(displacement));
  } else {
    a_.mov(sum, std::int64_t{displacement});
  }
  return true;
}

bool Emitter::linear_address(const SourceInsn& source, HostReg& out) {
  const isa::MemoryOperand& mem = source.insn.mem;
  const bool based = mem.segment == SegReg::Fs || mem.segment == SegReg::Gs;
  if (based && (!mode_.code_64 || mem.address_size != 8)) return false;
  // A code segment is never written to, and need not be readable.
  if (!mode_.code_64 && mem.segment == SegReg::Cs) return false;
  if (!effective_address(source, out)) return false;
  if (!based) return true;
  a_.mov(host::rcx, env(mem.segment == SegReg::Fs ? DOPPEL_ENV(fs_base) : DOPPEL_ENV(gs_base)));
  a_.lea(host::r11, host::ptr(host::rcx, reg(out, 8)));
  out = kHostR11;
  return true;
}

/// Leaves when the access crosses into another page. What is aligned does not; small operands mostly are.
void Emitter::check_crossing(HostReg linear, unsigned size) {
  const Label inside = a_.newLabel();
  const auto log = static_cast<std::size_t>(std::bit_width(size) - 1);
  if (std::has_single_bit(size) && log < Trampolines::kCheckedSizes) {
    a_.pext(host::ecx, reg(linear, 4), env(DOPPEL_ENV(alignment_mask) + 4 * static_cast<std::int32_t>(log - 1), 4));
    a_.short_().jecxz(host::rcx, inside);
    call_unnumbered(trampolines_.check_crossing[log][linear], add_site());
    a_.bind(inside);
    return;
  }
  a_.pext(host::ecx, reg(linear, 4), env(DOPPEL_ENV(page_offset_mask), 4));
  a_.lea(host::ecx, host::ptr(host::rcx, static_cast<std::int32_t>(size - 1)));
  a_.pext(host::ecx, host::ecx, env(DOPPEL_ENV(page_carry_mask), 4));
  a_.short_().jecxz(host::rcx, inside);
  call_unnumbered(trampolines_.exit[static_cast<std::size_t>(ExitReason::Crossing)], add_site());
  a_.bind(inside);
}

/// Loads the page's entry of the read or write table into rcx.
void Emitter::load_entry(HostReg linear, Kind kind) {
  ++lookups_;
  // Bits 12 to 47, shifted by the low bits of rsp: faster than PEXT.
  constexpr unsigned kTop = memory::kPageShift + DeltaTable::kIndexBits;
  static_assert(64 - DeltaTable::kIndexBits == kEnvShift);
  a_.rorx(host::rcx, reg(linear, 8), kTop);
  a_.shrx(host::rcx, host::rcx, host::rsp);
  if (kind == Kind::Read) {
    a_.mov(host::rcx, host::qword_ptr(host::rsp, host::rcx, 3, Views::kReadTable));
  } else {
    Mem entry = host::qword_ptr(std::uint64_t{0}, host::rcx, 3);
    entry.setSegment(host::gs);
    a_.mov(host::rcx, entry);
  }
}

/// Leaves the distance from linear to host address in rcx. `crosses`: the access need not be aligned.
void Emitter::look_up(HostReg linear, unsigned size, Kind kind, bool crosses, const Label& retry) {
  if (crosses && size > 1) check_crossing(linear, size);
  keep_islands_in_reach();
  load_entry(linear, kind);
  const Label island = a_.newLabel();
  a_.short_().jecxz(host::rcx, island);
  const auto resume = static_cast<CodeOffset>(a_.code()->labelOffset(retry));
  islands_.push_back({island, kind == Kind::Read ? ExitReason::ReadMiss : ExitReason::WriteMiss, add_site(resume),
                      linear, a_.offset()});
}

/// Looks the page of a whole group up. Where it is in two, or not all may be done yet that the group does, the rest of
/// the block is left to one without groups.
void Emitter::establish(const AccessGroups::Member& member, HostReg base) {
  const AccessGroups::Group& group = groups_.group(member.group);
  keep_islands_in_reach();
  a_.lea(host::r11, host::ptr(reg(base, 8), member.low));
  const Label inside = a_.newLabel(), split = a_.newLabel();
  a_.pext(host::ecx, host::r11d, env(DOPPEL_ENV(page_offset_mask), 4));
  a_.lea(host::ecx, host::ptr(host::rcx, group.bytes - 1));
  a_.pext(host::ecx, host::ecx, env(DOPPEL_ENV(page_carry_mask), 4));
  a_.short_().jecxz(host::rcx, inside);
  a_.bind(split);
  SideExit exit;
  exit.entry = a_.newLabel();
  exit.linked = true;
  exit.reason = ExitReason::Split;
  exit.site = add_site();
  a_.long_().jmp(exit.entry);
  sites_[exit.site].jump = here();
  side_exits_.push_back(exit);
  a_.bind(inside);
  load_entry(kHostR11, group.writes ? Kind::Write : Kind::Read);
  a_.short_().jecxz(host::rcx, split);
  a_.mov(env(DOPPEL_ENV(group) + 8 * member.group), host::rcx);
  keep_islands_in_reach();
  established_.set(member.group);
}

/// An access of a group, off a guest register or, as with isa::kRipRegister, off the block's page.
Emitter::Access Emitter::grouped(const AccessGroups::Member& member, unsigned base, std::int32_t displacement) {
  HostReg linear = kHostR11;
  const auto load_base = [&] {
    if (base == isa::kRipRegister) {
      load_linear(host::r11, 0);
    } else if (is_slot(base)) {
      a_.mov(host::r11, slot(base));
    } else {
      linear = host_of(base);
    }
  };
  load_base();
  if (!established_.test(member.group)) {
    establish(member, linear);
    if (linear == kHostR11) load_base();
  } else if (held_ != member.group) {
    a_.mov(host::rcx, env(DOPPEL_ENV(group) + 8 * member.group));
  }
  kept_ = member.group;
  return {linear, displacement};
}

bool Emitter::access(const SourceInsn& source, unsigned size, Kind kind, bool crosses, Access& out) {
  if (const AccessGroups::Member member = groups_.memory(index_); member.group != AccessGroups::kNone) {
    const isa::MemoryOperand& mem = source.insn.mem;
    const std::int64_t from = mem.base == isa::kRipRegister ? next_offset_ : 0;
    out = grouped(member, mem.base, static_cast<std::int32_t>(mem.displacement + from));
    return true;
  }
  const Label retry = a_.newLabel();
  a_.bind(retry);
  if (!linear_address(source, out.linear)) return false;
  look_up(out.linear, size, kind, crosses, retry);
  out.displacement = 0;
  return true;
}

}  // namespace doppel::engine::dbt
