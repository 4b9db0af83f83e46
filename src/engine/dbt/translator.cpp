#include "engine/dbt/translator.h"

#include <algorithm>

namespace doppel::engine::dbt {

namespace {

constexpr unsigned kMaxInstructions = 64;

bool decode(const isa::Decoder& decoder, std::span<const std::byte> bytes, interp::Mode mode, SourceInsn& out) {
  const isa::DecodeStatus status = decoder.decode(bytes, mode.code_size(), true, out.insn, &out.encoding);
  if (status != isa::DecodeStatus::Ok) return false;
  std::copy_n(bytes.begin(), out.insn.length, out.bytes.begin());
  return true;
}

BlockMode block_mode(const Translator::Source& source) {
  BlockMode mode;
  mode.user = source.mode.has(interp::Mode::kUser);
  mode.code_64 = source.mode.code_64();
  mode.x87 = source.mode.has(interp::Mode::kX87) && source.numeric_error;
  mode.sse = source.mode.has(interp::Mode::kSse);
  mode.avx = source.mode.has(interp::Mode::kAvx);
  mode.linear_page = x86::Tlb::page_of(source.linear);
  return mode;
}

/// asmjit reports a branch out of reach by this.
class Failure : public asmjit::ErrorHandler {
 public:
  void handleError(asmjit::Error, const char*, asmjit::BaseEmitter*) override { happened = true; }
  bool happened = false;
};

}  // namespace

Block* Translator::translate(const Source& source, const Announce& announce) {
  std::byte* room = cache_.room(kMaxCode);
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
  const auto first_offset = static_cast<std::uint16_t>(source.physical & (memory::kPageSize - 1));
  const BlockMode mode = block_mode(source);
  Emitter emitter(assembler, trampolines_, mode, cache_.next_site());

  std::size_t at = 0;
  Emitter::Next next = Emitter::Next::Continue;
  while (next == Emitter::Next::Continue && block->instructions < kMaxInstructions) {
    const std::size_t available = std::min(source.bytes.size() - at, isa::kMaxInsnLength);
    if (available == 0) break;
    announce(at + available);
    SourceInsn insn;
    insn.offset = static_cast<std::uint16_t>(first_offset + at);
    if (!decode(decoder_, source.bytes.subspan(at, available), source.mode, insn)) break;
    block->marks.push_back({static_cast<std::uint32_t>(assembler.offset()), insn.offset});
    next = emitter.instruction(insn);
    at += insn.insn.length;
    ++block->instructions;
  }
  if (block->instructions == 0) return nullptr;
  if (next == Emitter::Next::Continue) {
    const auto end = static_cast<std::uint16_t>(first_offset + at);
    block->marks.push_back({static_cast<std::uint32_t>(assembler.offset()), end});
    emitter.fall_through(end);
  }
  emitter.finish();
  block->bytes = static_cast<std::uint16_t>(at);

  code_.flatten();
  code_.resolveUnresolvedLinks();
  if (failure.happened) return nullptr;
  const asmjit::CodeBuffer& buffer = code_.sectionById(0)->buffer();
  return cache_.add(std::move(block), std::as_bytes(std::span{buffer.data(), buffer.size()}), emitter.sites());
}

}  // namespace doppel::engine::dbt
