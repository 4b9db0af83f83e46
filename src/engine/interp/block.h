#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "isa/decoded_op.h"
#include "memory/guest_memory.h"

namespace doppel::engine::interp {

struct Block;

/// A way out of a block. Inside the page the next block needs no look-up: the mapping that led to this block leads to
/// that one.
struct Link {
  Block* block = nullptr;  ///< known successor, to be used while it is current(); stays null unless `local`
  bool local = false;
};

/// A run of decoded instructions that ends with a branch, a system instruction or the page. Owned by its BlockCache.
struct Block {
  /// The code map's cell for the page, and what it said when the bytes were read.
  const std::atomic<std::uint32_t>* generation_cell = nullptr;
  std::uint32_t generation = 0;
  std::uint32_t mode = 0;
  memory::GuestPhysical physical = 0;
  std::uint16_t count = 0;  ///< instructions; those that do nothing have no op
  std::uint16_t bytes = 0;
  std::array<Link, 2> link{};  ///< not taken or fallen through; taken
  std::unique_ptr<isa::DecodedOp[]> ops;
  std::unique_ptr<isa::Insn[]> insns;  ///< those that ops refer to
  std::size_t op_count = 0;

  /// A block across two pages is current only while the second page is where it was and holds what it held.
  bool crosses_page = false;
  memory::GuestPhysical second_physical = 0;
  const std::atomic<std::uint32_t>* second_generation_cell = nullptr;
  std::uint32_t second_generation = 0;

  bool current() const { return generation_cell->load(std::memory_order_acquire) == generation; }
};

}  // namespace doppel::engine::interp
