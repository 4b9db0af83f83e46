#include "engine/interp/block_builder.h"

#include <algorithm>
#include <array>
#include <bit>

#include "engine/interp/handlers.h"
#include "isa/insn_queries.h"
#include "isa/op_table.h"
#include "isa/system.h"

namespace doppel::engine::interp {

namespace {

using isa::AddressForm;
using isa::DecodedOp;
using isa::DecodeStatus;
using isa::Insn;
using isa::OpClass;
using isa::Operand;
using isa::OperandKind;
using isa::Unit;
using memory::kPageSize;
using x86::SegReg;

constexpr unsigned kMaxInstructions = 64;

template <class Field>
std::uint16_t offset_in(const Context& context, const Field& field) {
  const auto* start = reinterpret_cast<const std::byte*>(static_cast<const ThunkContext*>(&context));
  return static_cast<std::uint16_t>(reinterpret_cast<const std::byte*>(&field) - start);
}

bool unit_enabled(const Insn& insn, Mode mode) {
  switch (insn.unit) {
    case Unit::Integer:
      return true;
    case Unit::Sse:
      return mode.has(Mode::kSse);
    case Unit::Avx:
      return mode.has(Mode::kAvx);
    default:
      return false;
  }
}

/// The address form with which generated code may access the operand itself; Given when it may not.
AddressForm address_form(const Insn& insn, Mode mode) {
  // Relative to the block's start instead of the instruction's end, a displacement grows by less than this.
  constexpr std::int64_t kRoom = 1 << 12;
  const isa::MemoryOperand& mem = insn.mem;
  if (mem.gather || mem.displacement > INT32_MAX - kRoom || mem.displacement < INT32_MIN) return AddressForm::Given;
  if (mode.code_64()) {
    const bool based = mem.segment == SegReg::Fs || mem.segment == SegReg::Gs;
    if (mem.address_size == 8)
      return based && insn.mnemonic != ZYDIS_MNEMONIC_LEA ? AddressForm::Flat64Segment : AddressForm::Flat64;
    return based || mem.address_size != 4 ? AddressForm::Given : AddressForm::Flat32;
  }
  if (mem.address_size != 4) return AddressForm::Given;
  if (insn.mnemonic == ZYDIS_MNEMONIC_LEA) return AddressForm::Flat32;
  switch (mem.segment) {
    case SegReg::Es:
      return mode.has(Mode::kFlatEs) ? AddressForm::Flat32 : AddressForm::Given;
    case SegReg::Ss:
      return mode.has(Mode::kFlatSs) ? AddressForm::Flat32 : AddressForm::Given;
    case SegReg::Ds:
      return mode.has(Mode::kFlatDs) ? AddressForm::Flat32 : AddressForm::Given;
    default:
      return AddressForm::Given;
  }
}

/// What ends a block: everything that sets RIP or may change what the next instruction means.
bool ends_block(const Insn& insn, OpClass op_class) {
  switch (op_class) {
    case OpClass::HostAlu:
      return false;
    case OpClass::System:
      return !isa::is_quiet(insn.mnemonic);
    case OpClass::Undefined:
      return true;
    case OpClass::Cpp:
      return branch_handler(insn, Mode{}) != nullptr;
  }
  return true;
}

}  // namespace

void BlockBuilder::describe_operands(const Insn& insn, Mode mode, DecodedOp& op) const {
  const x86::CpuState& state = context_.cpu.state;
  const std::uint16_t zero = offset_in(context_, context_.zero);
  for (unsigned i = 0; i < std::min<std::size_t>(insn.operand_count, op.reg.size()); ++i) {
    const Operand& operand = insn.op[i];
    switch (operand.kind) {
      case OperandKind::Gpr:
        op.reg[i] = offset_in(context_, state.gpr[operand.reg]);
        break;
      case OperandKind::GprHigh:
        op.reg[i] = static_cast<std::uint16_t>(offset_in(context_, state.gpr[operand.reg]) + 1);
        break;
      case OperandKind::Mmx:
        op.reg[i] = offset_in(context_, state.fpu.st[operand.reg]);
        break;
      case OperandKind::Xmm:
      case OperandKind::Ymm:
        op.reg[i] = offset_in(context_, state.ymm[operand.reg]);
        break;
      case OperandKind::Immediate:
      case OperandKind::Relative:
        op.imm = insn.imm[operand.reg];
        break;
      default:
        break;
    }
  }
  const isa::MemoryOperand& mem = insn.mem;
  op.base = op.index = op.segment_base = zero;
  std::int64_t displacement = mem.displacement;
  if (mem.base == isa::kRipRegister) {
    op.base = offset_in(context_, context_.block_rip);
    displacement += op.next;
  } else if (mem.base != isa::kNoRegister) {
    op.base = offset_in(context_, state.gpr[mem.base]);
  }
  op.displacement = static_cast<std::int32_t>(displacement);
  if (mem.index != isa::kNoRegister && !mem.gather) op.index = offset_in(context_, state.gpr[mem.index]);
  op.scale = mem.scale;
  if (mode.code_64() && (mem.segment == SegReg::Fs || mem.segment == SegReg::Gs))
    op.segment_base = offset_in(context_, state.seg(mem.segment).base);
  const Operand* operand = isa::memory_operand(insn);
  op.size = operand != nullptr ? static_cast<std::uint8_t>(operand->size) : 0;
  op.flat = mode.code_64() && address_form(insn, mode) != AddressForm::Given && mem.address_size == 8;
}

void BlockBuilder::choose_host_handler(const Insn& insn, Mode mode, Draft& draft) {
  DecodedOp& op = draft.op;
  isa::ThunkCache::Family* family = thunks_.find(insn);
  op.core = family != nullptr ? thunks_.core(*family) : nullptr;
  if (op.core == nullptr) {
    op.handler = undefined;
    return;
  }
  op.handler = core_handler(insn);
  if (!unit_enabled(insn, mode)) return;
  isa::ThunkRequest request;
  if (isa::ThunkCache::canonical(*family).has_memory) {
    request.address = address_form(insn, mode);
    // Vector instructions with an immediate are many already without a thunk for each address form.
    const bool many = insn.unit != Unit::Integer && insn.op[insn.operand_count - 1].kind == OperandKind::Immediate;
    if (request.address == AddressForm::Given || many) return;
    request.has_index = insn.mem.index != isa::kNoRegister;
    if (request.has_index) request.scale = insn.mem.scale;
  }
  draft.family = family;
  draft.request = request;
}

void BlockBuilder::choose_handler(const Insn& insn, Mode mode, OpClass op_class, Draft& draft) {
  DecodedOp& op = draft.op;
  switch (op_class) {
    case OpClass::HostAlu:
      return choose_host_handler(insn, mode, draft);
    case OpClass::System:
      op.system = isa::system_op(insn.mnemonic);
      op.handler = isa::is_quiet(insn.mnemonic) ? quiet_system_handler : system_handler;
      return;
    case OpClass::Cpp:
      for (const Handler handler : {branch_handler(insn, mode), stack_handler(insn, mode), string_handler(insn),
                                    hint_handler(insn), vector_handler(insn)}) {
        if (handler == nullptr) continue;
        op.handler = handler;
        return;
      }
      break;
    case OpClass::Undefined:
      break;
  }
  op.handler = undefined;
}

bool BlockBuilder::add(Block& block, const Insn& insn, Mode mode, unsigned start) {
  const OpClass op_class = isa::op_class(insn);
  if (insn.mnemonic != ZYDIS_MNEMONIC_NOP) {
    Draft draft;
    draft.insn = insns_.size();
    draft.op.ordinal = static_cast<std::uint8_t>(block.count);
    draft.op.start = static_cast<std::uint16_t>(start);
    draft.op.next = static_cast<std::uint16_t>(start + insn.length);
    describe_operands(insn, mode, draft.op);
    choose_handler(insn, mode, op_class, draft);
    insns_.push_back(insn);
    drafts_.push_back(draft);
  }
  ++block.count;
  return !ends_block(insn, op_class);
}

void BlockBuilder::add_failure(Block& block, DecodeStatus status) {
  Draft draft;
  draft.op.handler = status == DecodeStatus::Undefined ? undefined : too_long;
  drafts_.push_back(draft);
  block.count = 1;
  block.bytes = 1;
}

void BlockBuilder::add_end(unsigned start) {
  Draft draft;
  draft.op.handler = end_of_block;
  draft.op.start = draft.op.next = static_cast<std::uint16_t>(start);
  drafts_.push_back(draft);
}

/// Flags that nobody can see need not be saved: those that are written again before they are read, and before anything
/// that may fault or leave the block.
void BlockBuilder::discard_dead_flags() {
  constexpr std::uint64_t kAll = x86::rflags::kStatus;
  std::uint64_t live = kAll;
  for (auto draft = drafts_.rbegin(); draft != drafts_.rend(); ++draft) {
    if (draft->family == nullptr) {
      live = kAll;
      continue;
    }
    const isa::Canonical& canonical = isa::ThunkCache::canonical(*draft->family);
    const bool dead = canonical.flags_written != 0 && (canonical.flags_written & live) == 0;
    draft->request.discard_flags = dead && !canonical.memory_written;
    live = draft->request.discard_flags ? live | canonical.flags_tested
                                        : (live & ~canonical.flags_written) | canonical.flags_read;
    const bool may_fault = canonical.may_fault || (canonical.has_memory && !canonical.address_only);
    if (may_fault) live = kAll;
  }
}

void BlockBuilder::set_links(Block& block) const {
  // Where CS may have a limit, each way out is checked against it in the look-up.
  const bool checked = block.crosses_page || context_.code_limit < 0xFFFF'FFFF;
  const std::uint64_t offset = block.physical % kPageSize;
  const auto in_page = [&](std::uint64_t target) { return !checked && target < kPageSize; };
  block.link[0].local = in_page(offset + block.bytes);
  const Insn* last = insns_.empty() ? nullptr : &insns_.back();
  const bool relative = last != nullptr && last->operand_count == 1 && last->op[0].kind == OperandKind::Relative;
  block.link[1].local = relative && in_page(offset + block.bytes + last->imm[0]);
}

/// Moves the drafts into the block.
void BlockBuilder::finish(Block& block) {
  set_links(block);
  discard_dead_flags();
  block.op_count = drafts_.size();
  block.ops = std::make_unique<DecodedOp[]>(drafts_.size());
  block.insns = std::make_unique<Insn[]>(insns_.size());
  std::copy(insns_.begin(), insns_.end(), block.insns.get());
  for (std::size_t i = 0; i < drafts_.size(); ++i) {
    const Draft& draft = drafts_[i];
    DecodedOp& op = block.ops[i] = draft.op;
    if (draft.insn != kNone) op.insn = &block.insns[draft.insn];
    if (draft.family == nullptr) continue;
    // A full code area leaves the handler for everything.
    const Handler handler = thunks_.handler(*draft.family, draft.request);
    if (handler != nullptr) op.handler = handler;
  }
}

std::unique_ptr<Block> BlockBuilder::build(std::uint64_t linear, Mode mode, bool& cacheable) {
  const x86::Mmu::FetchPage page = context_.cpu.mmu.fetch(linear);
  drafts_.clear();
  insns_.clear();
  auto block = std::make_unique<Block>();
  block->mode = mode.block_key();
  block->physical = page.physical;
  cacheable = page.host != nullptr;
  if (cacheable) in_ram(*block, linear, mode, page, cacheable);
  if (!cacheable) outside_ram(*block, linear, mode);
  finish(*block);
  return block;
}

void BlockBuilder::in_ram(Block& block, std::uint64_t linear, Mode mode, const x86::Mmu::FetchPage& page,
                          bool& cacheable) {
  memory::CodeMap& code = context_.cpu.ports.memory.code();
  const std::uint64_t index = context_.cpu.ports.memory.page_index(page.physical);
  const std::uint64_t offset = page.physical % kPageSize;
  block.generation_cell = &code.generation_cell(index);
  block.generation = code.generation(index);

  const std::size_t available = kPageSize - offset;
  // Marked in pieces, as far as decoding goes: data further on may share the page.
  std::size_t marked = 0;
  unsigned at = 0;
  bool open = true;
  const unsigned limit = mode.has(Mode::kSingle) || mode.has(Mode::kAlone) ? 1 : kMaxInstructions;
  while (open && block.count < limit && at < available) {
    const std::size_t wanted = std::min(available, at + isa::kMaxInsnLength);
    if (wanted > marked) {
      code.add_code(index, offset + marked, wanted - marked);
      marked = wanted;
    }
    Insn insn;
    const DecodeStatus status =
        decoder_.decode({page.host + at, wanted - at}, mode.code_size(), mode.has(Mode::kProtected), insn);
    if (status != DecodeStatus::Ok) {
      // Left to the next block, which begins with it.
      if (at != 0) break;
      if (status == DecodeStatus::NeedsMoreBytes) {
        cacheable = across_pages(block, linear, mode, available);
        return;
      }
      return add_failure(block, status);
    }
    open = add(block, insn, mode, at);
    at += insn.length;
  }
  block.bytes = static_cast<std::uint16_t>(at);
  if (open) add_end(at);
}

/// One instruction, on two pages of RAM; false when the second is none.
bool BlockBuilder::across_pages(Block& block, std::uint64_t linear, Mode mode, std::size_t available) {
  x86::Mmu& mmu = context_.cpu.mmu;
  memory::CodeMap& code = context_.cpu.ports.memory.code();
  if (context_.cpu.state.rip + available > context_.code_limit) x86::raise_gp();
  const x86::Mmu::FetchPage second = mmu.fetch(linear + available);
  const x86::Mmu::FetchPage first = mmu.fetch(linear);
  if (second.host == nullptr) return false;
  const std::uint64_t index = context_.cpu.ports.memory.page_index(second.physical);
  block.second_physical = second.physical;
  block.second_generation_cell = &code.generation_cell(index);
  block.second_generation = code.generation(index);
  block.crosses_page = true;
  std::array<std::byte, isa::kMaxInsnLength> bytes{};
  code.add_code(index, 0, bytes.size() - available);
  std::copy_n(first.host, available, bytes.begin());
  std::copy_n(second.host, bytes.size() - available, bytes.begin() + static_cast<std::ptrdiff_t>(available));
  Insn insn;
  const DecodeStatus status = decoder_.decode(bytes, mode.code_size(), mode.has(Mode::kProtected), insn);
  if (status != DecodeStatus::Ok) {
    add_failure(block, status);
    return true;
  }
  block.bytes = insn.length;
  if (add(block, insn, mode, 0)) add_end(insn.length);
  return true;
}

/// Code in flash memory or the like: read byte by byte, executed once.
void BlockBuilder::outside_ram(Block& block, std::uint64_t linear, Mode mode) {
  static const std::atomic<std::uint32_t> kNever{0};
  block.generation_cell = &kNever;
  block.generation = 0;
  block.crosses_page = false;
  std::array<std::byte, isa::kMaxInsnLength> bytes{};
  std::size_t length = 0;
  Insn insn;
  DecodeStatus status = DecodeStatus::NeedsMoreBytes;
  while (status == DecodeStatus::NeedsMoreBytes && length < bytes.size()) {
    const x86::Mmu::FetchPage page = context_.cpu.mmu.fetch(linear + length);
    bytes[length++] =
        page.host != nullptr ? *page.host : static_cast<std::byte>(context_.cpu.ports.io.mmio_read(page.physical, 1));
    status = decoder_.decode({bytes.data(), length}, mode.code_size(), mode.has(Mode::kProtected), insn);
  }
  if (status != DecodeStatus::Ok) return add_failure(block, status);
  block.bytes = insn.length;
  if (add(block, insn, mode, 0)) add_end(insn.length);
}

}  // namespace doppel::engine::interp
