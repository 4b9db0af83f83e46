#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "memory/guest_memory.h"
#include "x86/tlb.h"

namespace doppel::engine::dbt {

/// From the beginning of a block's code.
using CodeOffset = std::uint16_t;

/// A translated run of instructions of one page: entered at its start, left anywhere. Owned by its CodeCache.
struct Block {
  memory::GuestPhysical physical = 0;
  std::uint32_t mode = 0;
  /// Supervisor code is made for one linear address, the page of which this is; user code runs wherever its page is
  /// mapped, and finds its addresses by Env::page_base.
  bool absolute = false;
  x86::LinearAddress linear_page = 0;
  /// Where the rest of its only instruction is, which begins in one page and ends in the next; else kNone. The code
  /// starts with a look whether the next page is still that one: Env::mappings, and the count of it at `verified`.
  static constexpr memory::GuestPhysical kNone = ~memory::GuestPhysical{0};
  memory::GuestPhysical second_page = kNone;
  CodeOffset verified = 0;

  const std::byte* code = nullptr;  ///< in the executable mapping
  std::uint32_t code_size = 0;
  std::uint16_t bytes = 0;         ///< of the guest's, from the first instruction on
  std::uint16_t instructions = 0;  ///< of the guest's

  /// Where each instruction's code starts, ascending.
  struct Mark {
    CodeOffset code_offset;
    std::uint16_t page_offset;  ///< of the instruction
  };
  std::span<const Mark> marks;
  /// Of code for direct execution, where the host's registers are the guest's but for these pieces of it, ascending.
  struct Inexact {
    enum class At : std::uint8_t {
      Mark,    ///< RIP is that of the mark before it
      Target,  ///< … where site `site` jumps to
      Jump,    ///< … of the block that direct::Shared::jump leads to
    };
    CodeOffset begin, end;
    At at = At::Mark;
    std::array<std::uint8_t, 2> spilled{kExact, kExact};  ///< what is in direct::Shared::spill
    std::uint16_t site = 0;                               ///< of the block's
    static constexpr std::uint8_t kExact = 0xFF;
  };
  std::span<const Inexact> inexact;
  bool target = false;                  ///< among CodeCache::targets()
  std::vector<std::uint32_t> incoming;  ///< sites that are linked to this block
  std::uint32_t first_site = 0, sites = 0;

  std::uint64_t page_offset() const { return physical & (memory::kPageSize - 1); }
};

/// A place in translated code that calls out to C++. Its number follows the call instruction; where the call may come
/// back, and where there are many of them, it is found by the address behind the call.
struct Site {
  Block* block = nullptr;
  /// Chain: instead of `target`, where it is in another page, of supervisor code; of direct execution, from the
  /// beginning of the block's page on.
  x86::LinearAddress far_target = 0;
  CodeOffset called_from = 0;     ///< that address; else 0
  CodeOffset resume = 0;          ///< misses: where to try again; Chain: where the call is
  CodeOffset after = 0;           ///< where the next instruction's code is, or 0 when the block is to be left
  CodeOffset jump = 0;            ///< Chain: the end of the jump to be linked
  std::int32_t stack_change = 0;  ///< branches: what has been added to RSP by the time they leave here
  std::uint16_t page_offset = 0;  ///< of its instruction
  std::uint16_t target = 0;       ///< Chain: of the instruction jumped to, in the same page
  std::uint8_t length = 0;        ///< of its instruction
  bool looks_around = false;      ///< events may be deliverable behind its instruction, so the block is left
  bool touches_fpu = false;       ///< its instruction works on x87, MMX or extended state
  bool may_align = false;         ///< … may raise #GP because of where its operand is
  bool indirect = false;          ///< of direct execution: a jump, call or return whose target was looked up in vain
};

}  // namespace doppel::engine::dbt
