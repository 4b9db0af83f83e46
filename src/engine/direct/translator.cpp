#include "engine/direct/translator.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "isa/insn_queries.h"
#include "isa/op_table.h"

namespace doppel::engine::direct {

using dbt::Block;
using dbt::SourceInsn;

namespace {

constexpr std::size_t kAnnounced = 64;  // bytes at a time

bool ends_block(const isa::Insn& insn) {
  switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_JMP:
    case ZYDIS_MNEMONIC_CALL:
    case ZYDIS_MNEMONIC_RET:
    case ZYDIS_MNEMONIC_SYSCALL:
      return true;
    default:
      return isa::op_class(insn) == isa::OpClass::Undefined;
  }
}

/// asmjit reports what it cannot encode by this.
class Failure : public asmjit::ErrorHandler {
 public:
  void handleError(asmjit::Error, const char*, asmjit::BaseEmitter*) override { happened = true; }
  bool happened = false;
};

}  // namespace

void Translator::read(const Source& source, const Announce& announce) {
  insns_.clear();
  const auto first_offset = static_cast<std::uint16_t>(source.physical & (memory::kPageSize - 1));
  std::size_t at = 0, announced = 0;
  const std::size_t most = source.second_page == Block::kNone ? dbt::CodeCache::kMaxInstructions : 1;
  while (insns_.size() < most) {
    const std::size_t available = std::min(source.bytes.size() - at, isa::kMaxInsnLength);
    if (available == 0) return;
    if (at != 0 && source.starts != nullptr && source.starts->test(first_offset + at)) return;
    if (at + available > announced) {
      announced = std::min(source.bytes.size(), at + kAnnounced);
      announce(announced);
    }
    SourceInsn& insn = insns_.emplace_back();
    const std::span<const std::byte> bytes = source.bytes.subspan(at, available);
    if (!known_.decode(bytes, isa::CodeSize::Bits64, insn)) {
      insns_.pop_back();
      return;
    }
    insn.offset = static_cast<std::uint16_t>(first_offset + at);
    at += insn.insn.length;
    if (ends_block(insn.insn)) return;
  }
}

Translator::Made Translator::translate(const Source& source, const Announce& announce) {
  std::byte* room = cache_.room();
  if (room == nullptr) return {};
  Failure failure;
  code_.reset();
  code_.init(asmjit::Environment::host(), reinterpret_cast<std::uint64_t>(room));
  code_.setErrorHandler(&failure);
  asmjit::x86::Assembler assembler(&code_);

  read(source, announce);
  if (insns_.empty()) return {};
  auto block = std::make_unique<Block>();
  block->physical = source.physical;
  block->mode = source.mode;
  block->linear_page = x86::Tlb::page_of(source.linear);
  block->second_page = source.second_page;
  Copier copier(assembler, stub_, source.copy, cache_.next_site(), lists_);
  bool more = true;
  for (auto insn = insns_.begin(); insn != insns_.end() && more; ++insn) {
    more = copier.instruction(*insn);
    ++block->instructions;
  }
  const SourceInsn& last = insns_[block->instructions - 1U];
  const auto end = static_cast<std::uint16_t>(last.offset + last.insn.length);
  if (more) copier.fall_through(end);
  copier.finish();
  block->bytes = static_cast<std::uint16_t>(end - (source.physical & (memory::kPageSize - 1)));

  code_.flatten();
  code_.resolveUnresolvedLinks();
  const asmjit::CodeBuffer& buffer = code_.sectionById(0)->buffer();
  const dbt::CodeCache::Parts parts{std::as_bytes(std::span{buffer.data(), buffer.size()}), lists_.sites, lists_.marks,
                                    lists_.inexact};
  Block* added = failure.happened ? nullptr : cache_.add(std::move(block), parts);
  if (added == nullptr) cache_.give_up(source.physical, source.mode);
  return {added, lists_.literals, lists_.returns};
}

}  // namespace doppel::engine::direct
