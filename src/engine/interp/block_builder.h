#pragma once

#include <cstdint>
#include <memory>

#include "engine/interp/block.h"
#include "engine/interp/context.h"
#include "engine/interp/mode.h"
#include "isa/decoder.h"
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
  void add(Block& block, const isa::Insn& insn, Mode mode, unsigned start);
  void add_pseudo(Block& block, Handler handler, unsigned start);
  isa::Insn& keep(Block& block, const isa::Insn& insn);
  void describe_operands(const isa::Insn& insn, Mode mode, isa::DecodedOp& op) const;
  void choose_handler(const isa::Insn& insn, Mode mode, isa::DecodedOp& op);
  void choose_host_handler(const isa::Insn& insn, Mode mode, isa::DecodedOp& op);
  bool first_crossing(Block& block, std::uint64_t linear, Mode mode, std::size_t available);
  void outside_ram(Block& block, std::uint64_t linear, Mode mode);
  void set_links(Block& block) const;

  Context& context_;
  const isa::Decoder& decoder_;
  isa::ThunkCache& thunks_;
};

}  // namespace doppel::engine::interp
