#pragma once

#include <asmjit/x86.h>

#include <array>
#include <functional>
#include <memory>
#include <memory_resource>
#include <span>
#include <vector>

#include "engine/dbt/code_cache.h"
#include "engine/dbt/emitter.h"
#include "engine/dbt/known_insns.h"
#include "engine/interp/mode.h"
#include "isa/decoder.h"

namespace doppel::engine::dbt {

/// Turns guest code into host code. One per vCPU, its thread.
class Translator {
 public:
  Translator(const isa::Decoder& decoder, CodeCache& cache, const Trampolines& trampolines)
      : insns_known_(decoder), cache_(cache), trampolines_(trampolines) {}
  Translator(const Translator&) = delete;
  Translator& operator=(const Translator&) = delete;

  /// What is being translated.
  struct Source {
    std::span<const std::byte> bytes;  ///< from the first instruction to the end of its page
    memory::GuestPhysical physical;
    x86::LinearAddress linear;
    interp::Mode mode;
    bool numeric_error;  ///< CR0.NE
    bool global;         ///< the page is
    bool plain = false;  ///< each access is looked up by itself
    bool counting = false;
    /// The second page of an instruction that crosses, of which alone the block is made; else Block::kNone.
    memory::GuestPhysical second_page = Block::kNone;
  };
  /// Called before bytes [0, end) of the source are read, with growing `end`.
  using Announce = std::function<void(std::size_t end)>;

  /// The block, already in the cache; null when its first instruction cannot be translated on its own (it crosses the
  /// page, or means nothing), or when the cache is full: see CodeCache::room.
  Block* translate(const Source& source, const Announce& announce);

  /// How many could not be assembled, a fault of ours: the cache gives them up, so that they are tried once.
  std::uint64_t failures() const { return failures_; }

 private:
  void read(const Source& source, const Announce& announce);

  KnownInsns insns_known_;
  CodeCache& cache_;
  const Trampolines& trampolines_;
  asmjit::CodeHolder code_;
  /// For what is known of one block while it is translated.
  std::array<std::byte, 32768> scratch_bytes_;
  std::pmr::monotonic_buffer_resource scratch_{scratch_bytes_.data(), scratch_bytes_.size()};
  std::vector<SourceInsn> insns_;
  std::vector<Block::Mark> marks_;
  std::uint64_t failures_ = 0;
};

}  // namespace doppel::engine::dbt
