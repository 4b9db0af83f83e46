#pragma once

#include <span>
#include <string>
#include <vector>

#include "engine/dbt/block.h"
#include "engine/dbt/trampolines.h"

/// Blocks for people to read: `doppel debug block`, and reports of bugs.
namespace doppel::engine::dbt {

/// Which of the trampolines this address is the beginning of; empty if none.
std::string trampoline_name(const Trampolines& trampolines, const std::byte* address);

/// "user 64-bit" and the like.
std::string mode_name(std::uint32_t mode);

/// The guest's code of a block, as it is in memory now.
std::vector<std::byte> guest_bytes(const memory::GuestMemory& memory, const Block& block);

/// A headline, and each of the guest's instructions with the host's code for it below. `guest` are the block's bytes,
/// `linear` where they are, `sites` the block's.
std::vector<std::string> list_block(const Block& block, std::span<const Site> sites, std::span<const std::byte> guest,
                                    x86::LinearAddress linear, const Trampolines& trampolines);

}  // namespace doppel::engine::dbt
