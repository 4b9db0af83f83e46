#pragma once

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "engine/dbt/code_cache.h"
#include "engine/dbt/jump_table.h"
#include "engine/direct/copier.h"
#include "memory/guest_memory.h"
#include "x86/mmu.h"

namespace doppel::engine::direct {

/// The code made for direct execution, by the pages of RAM that it is made of. A page's code is written for one linear
/// address, and is moved to another by writing the addresses in it anew; so what processes share is translated once.
/// Code is *in force* while the program's address space is known to have its page there: only then does the jump table
/// lead to it, or a jump from another page. An instruction that goes over into a next page is by itself such a page.
/// The vCPU's thread; never while the process runs.
class CodePages {
 public:
  CodePages(dbt::CodeCache& cache, dbt::JumpTable& jumps, const x86::Mmu& mmu)
      : cache_(cache), jumps_(jumps), mmu_(mmu) {}

  /// Eight bytes of a block's code that hold an address of the page's.
  struct Literal {
    const std::byte* at;
    std::int32_t offset;  ///< from the page's beginning
  };
  struct Page;
  /// A jump from one page into another.
  struct Link {
    std::uint32_t site;
    std::uint16_t offset;   ///< in the page that it leads to
    bool on = false;        ///< in the code
    std::int64_t distance;  ///< from the beginning of `from` to where the instruction jumps
    Page* from;
    Page* to;  ///< null when one of them is no more
    const std::byte* code;
  };
  /// An address that jumps through the jump table, and returns, lead to.
  struct Target {
    std::uint16_t offset;
    const std::byte* code;
  };
  struct Page {
    memory::GuestPhysical physical = 0;  ///< of the page, or of the instruction that goes over into `second`
    memory::GuestPhysical second = dbt::Block::kNone;
    std::uint32_t mode = 0;
    x86::LinearAddress linear = 0;  ///< what the code is written for: the beginning of the page
    bool in_force = false;
    std::bitset<memory::kPageSize> starts;  ///< of instructions that there is code for
    std::vector<dbt::Block*> blocks;        ///< by where they start
    std::vector<Literal> literals;
    std::vector<Target> targets;
    std::vector<Link*> in, out;
    std::vector<Page*> crossings;  ///< instructions that begin here and end in a next page
  };

  /// The code for an address, if it is in force.
  const std::byte* find(x86::LinearAddress rip) const { return place_of(rip).code; }
  /// Whether there is code of a page of RAM, written for this linear page.
  bool has(memory::GuestPhysical physical, std::uint32_t mode, x86::LinearAddress linear_page) const;
  /// The page in force at the beginning of this linear page, or null.
  Page* at(x86::LinearAddress linear_page) const;
  /// The page of RAM that is at `linear_page` in the program's address space, in force from now on.
  Page& put_in_force(memory::GuestPhysical physical, std::uint32_t mode, x86::LinearAddress linear_page);
  /// The same for an instruction that goes over into a next page. Empty of code if that page was another.
  Page& put_crossing_in_force(memory::GuestPhysical instruction, memory::GuestPhysical second, std::uint32_t mode,
                              x86::LinearAddress linear_page);
  /// The code in a page for an instruction that begins at this offset, or null.
  static const std::byte* code_at(const Page& page, std::uint16_t offset);
  /// Takes over a new block, with what has to be rewritten when the page moves.
  static void add(Page& page, dbt::Block& block, std::span<const Copier::Literal> literals);
  /// Lets the jump table lead to the code for this address, whenever that is in force.
  void add_target(x86::LinearAddress rip);
  /// The same for what will be wanted soon, where there is room.
  void add_targets(Page& page, std::span<const Target> targets);
  /// Lets the jump of a Chain site lead to where it wants to, if there is code for that in force. False if there is
  /// none.
  bool link(std::uint32_t site);
  /// The same for sites of this page, from `first` to before `end`.
  void link_all(Page& page, std::uint32_t first, std::uint32_t end);

  // What changes in the program's address space.
  void flushed_page(x86::LinearAddress linear_page);
  /// What is no longer as it was is no longer in force.
  void revalidate();
  void withdraw_all();
  /// The contents of a page of RAM have changed. Whether there was code for it in force.
  bool drop(memory::GuestPhysical page);
  /// Everything goes, the code cache's too.
  void flush();

 private:
  static std::uint64_t key_of(memory::GuestPhysical physical, std::uint32_t mode) {
    constexpr unsigned kModeShift = 48;
    return physical ^ std::uint64_t{mode} << kModeShift;
  }
  struct Place {
    Page* page = nullptr;
    const std::byte* code = nullptr;
  };
  Place place_of(x86::LinearAddress rip) const;
  Page& page_of(memory::GuestPhysical physical, std::uint32_t mode);
  bool still(const Page& page) const;
  void enforce(Page& page, x86::LinearAddress linear_page);
  void withdraw(Page& page);
  void put_targets(const Page& page, std::span<const Target> targets);
  void set(Link& link, bool on);
  void settle(Link& link);
  void clear(Page& page);

  dbt::CodeCache& cache_;
  dbt::JumpTable& jumps_;
  const x86::Mmu& mmu_;
  std::unordered_map<std::uint64_t, std::unique_ptr<Page>> pages_;             ///< by key
  std::unordered_map<memory::GuestPhysical, std::vector<Page*>> by_physical_;  ///< `second` as well
  std::unordered_map<x86::LinearAddress, Page*> in_force_;                     ///< by linear page
  std::unordered_map<x86::LinearAddress, Page*> crossings_in_force_;           ///< by instruction
  std::deque<Link> links_;
};

}  // namespace doppel::engine::direct
