#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "engine/interp/block.h"
#include "engine/interp/context.h"
#include "engine/interp/mode.h"
#include "isa/decoder.h"
#include "isa/op_table.h"
#include "isa/thunk_cache.h"

namespace doppel::engine::interp {

/// Makes blocks of what lies at an address of the guest's. The vCPU's thread only.
class BlockBuilder {
 public:
  BlockBuilder(Context& context, const isa::Decoder& decoder, isa::ThunkCache& thunks)
      : context_(context), decoder_(decoder), thunks_(thunks) {}

  /// The block at a linear address. Throws #PF where its first instruction cannot be fetched. `cacheable`: it may be
  /// kept, under Block::physical and mode; otherwise it is for one execution now.
  std::unique_ptr<Block> build(std::uint64_t linear, Mode mode, bool& cacheable);

 private:
  /// An op under construction, and the generated code that may execute it.
  struct Draft {
    isa::DecodedOp op;
    std::size_t insn = kNone;  ///< index of its instruction in insns_
    isa::ThunkCache::Family* family = nullptr;
    isa::ThunkRequest request;
  };
  static constexpr std::size_t kNone = ~std::size_t{0};

  void in_ram(Block& block, std::uint64_t linear, Mode mode, const x86::Mmu::FetchPage& page, bool& cacheable);
  bool across_pages(Block& block, std::uint64_t linear, Mode mode, std::size_t available);
  void outside_ram(Block& block, std::uint64_t linear, Mode mode);
  /// Adds the instruction; false when the block ends with it.
  bool add(Block& block, const isa::Insn& insn, Mode mode, unsigned start);
  /// What decoding without success has come to: an op that raises the exception.
  void add_failure(Block& block, isa::DecodeStatus status);
  void add_end(unsigned start);
  void describe_operands(const isa::Insn& insn, Mode mode, isa::DecodedOp& op) const;
  void choose_handler(const isa::Insn& insn, Mode mode, isa::OpClass op_class, Draft& draft);
  void choose_host_handler(const isa::Insn& insn, Mode mode, Draft& draft);
  void discard_dead_flags();
  void set_links(Block& block) const;
  void finish(Block& block);

  Context& context_;
  const isa::Decoder& decoder_;
  isa::ThunkCache& thunks_;
  std::vector<Draft> drafts_;
  std::vector<isa::Insn> insns_;
};

}  // namespace doppel::engine::interp
