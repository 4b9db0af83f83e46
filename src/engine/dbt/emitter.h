#pragma once

#include <asmjit/x86.h>

#include <array>
#include <bitset>
#include <cstdint>
#include <memory_resource>
#include <span>
#include <vector>

#include "engine/dbt/access_groups.h"
#include "engine/dbt/block.h"
#include "engine/dbt/env_operand.h"
#include "engine/dbt/reencoder.h"
#include "engine/dbt/trampolines.h"
#include "x86/mmu.h"

namespace doppel::engine::dbt {

/// What the code of a block depends on beside the guest's instructions.
struct BlockMode {
  bool user = false;                           ///< CPL 3: relative to Env::page_base
  bool code_64 = true;                         ///< else 32-bit code with flat segments
  bool x87 = false, sse = false, avx = false;  ///< the unit may be used without a check
  x86::LinearAddress linear_page = 0;
  /// Supervisor code in a global page: jumps to other pages are linked too, as long as no mapping of theirs changes.
  bool far_links = false;
};

/// Assembles one block, instruction after instruction. Everything that it writes leaves the guest's flags alone but for
/// the guest's own instructions, so each point between two of those is exact.
class Emitter {
 public:
  /// `scratch` and all else outlive this.
  Emitter(asmjit::x86::Assembler& assembler, const Trampolines& trampolines, const BlockMode& mode,
          const AccessGroups& groups, std::uint32_t first_site, std::pmr::memory_resource* scratch);

  enum class Next : std::uint8_t {
    Continue,
    End,           ///< the block ends with this instruction
    Untranslated,  ///< the same, and it is left to the interpreter
  };
  /// First in the block of an instruction that crosses into a page: leaves unless it is the one that it was. Returns
  /// where the count of Env::mappings is that this was seen at.
  CodeOffset verify_second_page(const SourceInsn& source);
  /// `following`, if known, is the one that comes next.
  Next instruction(const SourceInsn& source, const SourceInsn* following);
  /// Before an instruction: those from here to the next end_count() or begin_count() are counted in Env.
  void begin_count();
  void end_count();
  /// Goes on at another place, when the block ends between two instructions.
  void fall_through(std::uint16_t page_offset);
  /// After the last instruction.
  void finish();

  /// How much code there is by now; what a larger block wraps round to does not matter, for none is taken.
  CodeOffset here() const { return static_cast<CodeOffset>(a_.offset()); }
  std::span<const Site> sites() const { return sites_; }

 private:
  using Gp = asmjit::x86::Gp;
  using Mem = asmjit::x86::Mem;
  using Label = asmjit::Label;

  enum class Kind : std::uint8_t { Read, Write };
  /// A memory operand whose page has been looked up: linear address, and what makes it the host's in rcx.
  struct Access {
    HostReg linear = kNoHostReg;
    std::int32_t displacement = 0;
    HostMemory memory() const { return {linear, kHostRcx, displacement}; }
    Mem operand(unsigned size) const { return Mem(reg(linear, 8), asmjit::x86::rcx, 0, displacement, size); }
  };

  // emitter.cpp: what all share.
  static Mem slot(unsigned guest, std::uint32_t size = 8);
  static bool is_slot(unsigned guest) { return guest >= x86::kR9 && guest <= x86::kR11; }
  static HostReg host_of(unsigned guest);
  static Gp reg(HostReg number, unsigned size);
  void load_gpr(const Gp& target, unsigned guest);
  void store_gpr(unsigned guest, const Gp& source);
  void load_linear(const Gp& target, std::int64_t page_offset);
  std::uint32_t add_site(CodeOffset resume = 0);
  void call_out(ExitReason reason, std::uint32_t site);
  void call_unnumbered(const std::byte* trampoline, std::uint32_t site);
  void keep_islands_in_reach();
  void emit_islands();
  void poll();
  void need_fpu();

  // emit_count.cpp
  std::size_t add_to(std::int32_t counter);

  // emit_memory.cpp
  bool effective_address(const SourceInsn& source, HostReg& out);
  bool linear_address(const SourceInsn& source, HostReg& out);
  bool access(const SourceInsn& source, unsigned size, Kind kind, bool crosses, Access& out);
  void check_crossing(HostReg linear, unsigned size);
  void look_up(HostReg linear, unsigned size, Kind kind, bool crosses, const Label& retry);
  void load_entry(HostReg linear, Kind kind);
  Access grouped(const AccessGroups::Member& member, unsigned base, std::int32_t displacement);
  void establish(const AccessGroups::Member& member, HostReg base);
  Access read_stack(unsigned base);

  // emit_host.cpp: instructions that the host executes.
  Next host(const SourceInsn& source);
  Next lea(const SourceInsn& source);
  bool read_ch(const SourceInsn& source, std::size_t operand, const isa::Operand& memory);
  bool bit_string(const SourceInsn& source);
  bool write_host(const SourceInsn& source);

  // emit_system.cpp
  Next system(const SourceInsn& source, const SourceInsn* following);
  void push_flags();
  void leave_where_zero(ExitReason reason);
  void call_switch(const std::byte* trampoline);
  void load_state(const Gp& target, std::size_t offset);
  void read_tsc();
  void change_access(bool allowed);
  Next read_register(const SourceInsn& source);
  Next segment_base(const SourceInsn& source, std::int32_t base, bool write);

  // emit_control.cpp: branches, the stack.
  Next branch(const SourceInsn& source);
  Next conditional(const SourceInsn& source, unsigned condition);
  Next push(const SourceInsn& source);
  Next pop(const SourceInsn& source);
  void leave();
  Next call(const SourceInsn& source);
  Next ret(const SourceInsn& source);
  Next jump(const SourceInsn& source);
  bool load_operand(const SourceInsn& source);
  void jump_to(std::int64_t page_offset);
  void chain(std::int64_t target);
  void set_target(Site& site, std::int64_t target) const;
  bool linkable(std::int64_t target) const;
  void look_up_jump();
  Access write_stack();
  unsigned stack_size() const { return mode_.code_64 ? 8 : 4; }

  // emit_strings.cpp
  Next string(const SourceInsn& source);

  asmjit::x86::Assembler& a_;
  const Trampolines& trampolines_;
  const BlockMode& mode_;
  const AccessGroups& groups_;
  const std::uint32_t first_site_;
  std::pmr::vector<Site> sites_;
  std::size_t index_ = 0;  ///< of the instruction under way
  std::bitset<AccessGroups::kMost> established_;
  /// The group whose distance is in rcx: before the instruction under way, and after what has been written of it.
  std::uint8_t held_ = AccessGroups::kNone, kept_ = AccessGroups::kNone;
  std::uint16_t page_offset_ = 0;  ///< of the instruction under way
  std::uint16_t next_offset_ = 0;
  bool fpu_known_ = false;
  std::size_t lookups_ = 0;  ///< of pages, so far
  /// Where counts are to be written, and what they begin with.
  struct Count {
    std::size_t instructions_at = 0, lookups_at = 0, first_index = 0, first_lookup = 0;
  };
  Count count_;

  /// A short forward branch's target that has not been written yet.
  struct Island {
    Label entry;
    ExitReason reason;
    std::uint32_t site;
    HostReg linear;  ///< of misses: where the address is
    std::size_t branch_at;
  };
  std::pmr::vector<Island> islands_;
  /// A way out that is rarely taken: a conditional branch's, or a split group's.
  struct SideExit {
    Label entry;
    std::uint32_t site = 0;
    std::int64_t target = 0;
    bool linked = false;
    ExitReason reason = ExitReason::Chain;
  };
  std::pmr::vector<SideExit> side_exits_;
};

}  // namespace doppel::engine::dbt
