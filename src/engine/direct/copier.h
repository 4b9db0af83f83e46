#pragma once

#include <asmjit/x86.h>

#include <cstdint>
#include <span>
#include <vector>

#include "engine/dbt/block.h"
#include "engine/dbt/reencoder.h"
#include "engine/direct/stub.h"

namespace doppel::engine::direct {

/// What the code of a block depends on beside the guest's instructions, which are those of a 64-bit program.
struct CopyMode {
  bool x87 = false, sse = false, avx = false;  ///< the unit may be used without a check
  x86::LinearAddress linear_page = 0;
};

/// Assembles one block for direct execution: the guest's instructions as they are, with all of its registers in place,
/// but for what would show that they are elsewhere: branches, and addresses relative to RIP. What is not for programs
/// to do goes to the monitor.
class Copier {
 public:
  /// Where eight bytes of code hold an address, and which one of the page's.
  struct Literal {
    dbt::CodeOffset at;
    std::int32_t offset;
  };
  /// What it finds out beside the code.
  struct Lists {
    std::vector<dbt::Site> sites;
    std::vector<dbt::Block::Mark> marks;
    std::vector<dbt::Block::Inexact> inexact;
    std::vector<Literal> literals;
    std::vector<std::uint16_t> returns;  ///< where calls return to, in the page
    void clear();
  };
  /// Clears the lists, which the caller keeps.
  Copier(asmjit::x86::Assembler& assembler, const Stub& stub, const CopyMode& mode, std::uint32_t first_site,
         Lists& lists)
      : a_(assembler),
        stub_(stub),
        mode_(mode),
        first_site_(first_site),
        sites_(lists.sites),
        marks_(lists.marks),
        inexact_(lists.inexact),
        literals_(lists.literals),
        returns_(lists.returns) {
    lists.clear();
  }

  /// False when the block ends with it.
  bool instruction(const dbt::SourceInsn& source);
  /// Goes on at another place, when the block ends between two instructions.
  void fall_through(std::uint16_t page_offset);
  /// After the last instruction.
  void finish();

 private:
  using Inexact = dbt::Block::Inexact;

  void mark(std::uint16_t page_offset);
  dbt::CodeOffset here() const { return static_cast<dbt::CodeOffset>(a_.offset()); }
  /// From `begin` to here.
  void add_inexact(dbt::CodeOffset begin, Inexact kind);
  std::uint64_t linear(std::int64_t page_offset) const {
    return mode_.linear_page + static_cast<std::uint64_t>(page_offset);
  }

  bool copy(const dbt::SourceInsn& source);
  bool copy_relative(const dbt::SourceInsn& source);
  bool branch(const dbt::SourceInsn& source);
  bool stack_or_string(const dbt::SourceInsn& source);
  void conditional(const dbt::SourceInsn& source, unsigned condition);
  void chain(std::int64_t target);
  void call(std::int64_t target);
  bool indirect(const dbt::SourceInsn& source);
  void push_return_address();
  std::uint32_t add_site();
  static void set_target(dbt::Site& site, std::int64_t target);
  void load_address(unsigned reg, std::int64_t page_offset);
  void leave(std::uint32_t site);

  asmjit::x86::Assembler& a_;
  const Stub& stub_;
  const CopyMode& mode_;
  const std::uint32_t first_site_;
  std::vector<dbt::Site>& sites_;
  std::vector<dbt::Block::Mark>& marks_;
  std::vector<Inexact>& inexact_;
  std::vector<Literal>& literals_;
  std::vector<std::uint16_t>& returns_;
  std::uint16_t page_offset_ = 0;  ///< of the instruction under way
  std::uint16_t next_offset_ = 0;

  struct SideExit {
    asmjit::Label entry;
    std::uint32_t site;
  };
  std::vector<SideExit> side_exits_;
  struct Constant {
    asmjit::Label at;
    std::int64_t page_offset;
  };
  std::vector<Constant> constants_;
};

}  // namespace doppel::engine::direct
