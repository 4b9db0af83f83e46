#pragma once

#include <array>
#include <cstdint>
#include <memory_resource>
#include <span>
#include <vector>

#include "engine/dbt/reencoder.h"

namespace doppel::engine::dbt {

/// Which memory accesses of a block are near each other for certain: off one register that changes by constants only.
/// One look-up of their common page serves them all, if they have one.
class AccessGroups {
 public:
  static constexpr unsigned kMost = 10;  ///< of one block
  static constexpr std::uint8_t kNone = 0xFF;

  /// One access's membership.
  struct Member {
    std::uint8_t group = kNone;
    std::int32_t low = 0;  ///< the lowest byte of the group, from the access's base register as it is then
  };
  struct Group {
    std::int32_t bytes = 0;  ///< from the lowest to the highest
    bool writes = false;     ///< one of them does
  };

  AccessGroups() = default;
  /// Of 64-bit code. `scratch` outlives this.
  AccessGroups(std::span<const SourceInsn> insns, std::pmr::memory_resource* scratch);

  /// The access of an instruction by its ModRM byte, and the one to the stack.
  Member memory(std::size_t insn) const { return insn < members_.size() ? members_[insn].memory : Member{}; }
  Member stack(std::size_t insn) const { return insn < members_.size() ? members_[insn].stack : Member{}; }
  const Group& group(std::uint8_t number) const { return groups_[number]; }

 private:
  struct Members {
    Member memory, stack;
  };
  std::pmr::vector<Members> members_;
  std::array<Group, kMost> groups_{};
};

}  // namespace doppel::engine::dbt
