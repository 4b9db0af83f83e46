#include "engine/dbt/translator.h"

#include <algorithm>

#include "isa/op_table.h"
#include "isa/system.h"

namespace doppel::engine::dbt {

namespace {

constexpr unsigned kMaxBranches = 4;
constexpr std::size_t kAnnounced = 64;  // bytes at a time

bool ends_block(const isa::Insn& insn) {
  switch (isa::op_class(insn)) {
    case isa::OpClass::HostAlu:
      return false;
    case isa::OpClass::System:
      return !isa::is_quiet(insn.mnemonic) && insn.mnemonic != ZYDIS_MNEMONIC_STI;
    case isa::OpClass::Cpp:
      return insn.mnemonic == ZYDIS_MNEMONIC_JMP || insn.mnemonic == ZYDIS_MNEMONIC_CALL ||
             insn.mnemonic == ZYDIS_MNEMONIC_RET;
    case isa::OpClass::Undefined:
      return true;
  }
  return true;
}

bool is_conditional(const isa::Insn& insn) {
  return insn.operand_count == 1 && insn.op[0].kind == isa::OperandKind::Relative;
}

BlockMode block_mode(const Translator::Source& source) {
  BlockMode mode;
  mode.user = source.mode.has(interp::Mode::kUser);
  mode.code_64 = source.mode.code_64();
  mode.x87 = source.mode.has(interp::Mode::kX87) && source.numeric_error;
  mode.sse = source.mode.has(interp::Mode::kSse);
  mode.avx = source.mode.has(interp::Mode::kAvx);
  mode.linear_page = x86::Tlb::page_of(source.linear);
  mode.far_links = !mode.user && source.global;
  return mode;
}

/// asmjit reports a branch out of reach by this.
class Failure : public asmjit::ErrorHandler {
 public:
  void handleError(asmjit::Error, const char*, asmjit::BaseEmitter*) override { happened = true; }
  bool happened = false;
};

}  // namespace

/// Decodes what the block is made of.
void Translator::read(const Source& source, const Announce& announce) {
  insns_.clear();
  const auto first_offset = static_cast<std::uint16_t>(source.physical & (memory::kPageSize - 1));
  std::size_t at = 0, announced = 0;
  unsigned branches = 0;
  const std::size_t most = source.second_page == Block::kNone ? CodeCache::kMaxInstructions : 1;
  while (insns_.size() < most) {
    const std::size_t available = std::min(source.bytes.size() - at, isa::kMaxInsnLength);
    if (available == 0) return;
    if (at + available > announced) {
      announced = std::min(source.bytes.size(), at + kAnnounced);
      announce(announced);
    }
    SourceInsn& insn = insns_.emplace_back();
    if (!insns_known_.decode(source.bytes.subspan(at, available), source.mode.code_size(), insn)) {
      insns_.pop_back();
      return;
    }
    insn.offset = static_cast<std::uint16_t>(first_offset + at);
    at += insn.insn.length;
    if (ends_block(insn.insn)) return;
    if (!is_conditional(insn.insn)) continue;
    // What comes behind it may be translated already: most of what would be twice begins there.
    if (++branches == kMaxBranches || cache_.find(source.physical + at, source.mode.key, source.linear) != nullptr)
      return;
  }
}

Block* Translator::translate(const Source& source, const Announce& announce) {
  std::byte* room = cache_.room();
  if (room == nullptr) return nullptr;
  Failure failure;
  code_.reset();
  code_.init(asmjit::Environment::host(), reinterpret_cast<std::uint64_t>(room));
  code_.setErrorHandler(&failure);
  asmjit::x86::Assembler assembler(&code_);

  auto block = std::make_unique<Block>();
  block->physical = source.physical;
  block->mode = source.mode.key;
  block->absolute = !source.mode.has(interp::Mode::kUser);
  block->linear_page = x86::Tlb::page_of(source.linear);
  block->second_page = source.second_page;
  const auto first_offset = static_cast<std::uint16_t>(source.physical & (memory::kPageSize - 1));
  const BlockMode mode = block_mode(source);

  read(source, announce);
  if (insns_.empty()) return nullptr;
  marks_.clear();
  scratch_.release();
  const AccessGroups groups = source.plain || !mode.code_64 ? AccessGroups() : AccessGroups(insns_, &scratch_);
  Emitter emitter(assembler, trampolines_, mode, groups, cache_.next_site(), &scratch_);
  Emitter::Next next = Emitter::Next::Continue;
  if (block->second_page != Block::kNone) block->verified = emitter.verify_second_page(insns_.front());
  for (std::size_t i = 0; i < insns_.size() && next == Emitter::Next::Continue; ++i) {
    if (source.counting && (i == 0 || is_conditional(insns_[i - 1].insn))) emitter.begin_count();
    marks_.push_back({emitter.here(), insns_[i].offset});
    next = emitter.instruction(insns_[i], i + 1 < insns_.size() ? &insns_[i + 1] : nullptr);
    ++block->instructions;
  }
  emitter.end_count();
  const SourceInsn& last = insns_[block->instructions - 1U];
  const auto end = static_cast<std::uint16_t>(last.offset + last.insn.length);
  if (next == Emitter::Next::Continue) {
    marks_.push_back({emitter.here(), end});
    emitter.fall_through(end);
  }
  emitter.finish();
  block->bytes = static_cast<std::uint16_t>(end - first_offset);

  code_.flatten();
  code_.resolveUnresolvedLinks();
  const asmjit::CodeBuffer& buffer = code_.sectionById(0)->buffer();
  const CodeCache::Parts parts{std::as_bytes(std::span{buffer.data(), buffer.size()}), emitter.sites(), marks_};
  Block* added = failure.happened ? nullptr : cache_.add(std::move(block), parts);
  if (added == nullptr) {
    ++failures_;
    cache_.give_up(source.physical, source.mode.key);
  }
  return added;
}

}  // namespace doppel::engine::dbt
