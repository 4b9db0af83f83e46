#pragma once

#include <asmjit/x86.h>

#include <bitset>
#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "engine/dbt/code_cache.h"
#include "engine/dbt/known_insns.h"
#include "engine/direct/copier.h"
#include "isa/decoder.h"

namespace doppel::engine::direct {

/// Makes blocks of a program's code for direct execution. One per process.
class Translator {
 public:
  Translator(const isa::Decoder& decoder, dbt::CodeCache& cache, const Stub& stub)
      : known_(decoder), cache_(cache), stub_(stub) {}

  struct Source {
    std::span<const std::byte> bytes;  ///< from the first instruction to the end of its page
    memory::GuestPhysical physical;
    x86::LinearAddress linear;
    std::uint32_t mode;  ///< the key of its blocks
    CopyMode copy;
    /// The second page of an instruction that crosses, of which alone the block is made; else Block::kNone.
    memory::GuestPhysical second_page = dbt::Block::kNone;
    /// Where instructions of the page begin that there is code for: the block ends in front of them.
    const std::bitset<memory::kPageSize>* starts = nullptr;
  };
  struct Made {
    dbt::Block* block = nullptr;  ///< in the cache
    std::span<const Copier::Literal> literals;
    std::span<const std::uint16_t> returns;  ///< where its calls return to, in the page
  };
  /// Called before bytes [0, end) of the source are read, with growing `end`.
  using Announce = std::function<void(std::size_t end)>;

  /// No block when its first instruction crosses the page or means nothing, or when there is no room: see
  /// CodeCache::room. Valid until the next call.
  Made translate(const Source& source, const Announce& announce);

 private:
  void read(const Source& source, const Announce& announce);

  dbt::KnownInsns known_;
  dbt::CodeCache& cache_;
  const Stub& stub_;
  asmjit::CodeHolder code_;
  std::vector<dbt::SourceInsn> insns_;
  Copier::Lists lists_;
};

}  // namespace doppel::engine::direct
