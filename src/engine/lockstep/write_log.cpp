#include "engine/lockstep/write_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "isa/insn_queries.h"
#include "isa/system.h"
#include "x86/fault.h"
#include "x86/segmentation.h"

namespace doppel::engine::lockstep {

namespace {

using isa::Insn;
using x86::SegReg;

constexpr std::uint64_t kMostBytes = 64 * 1024;

struct Range {
  x86::LinearAddress linear = 0;
  std::uint64_t size = 0;
};

bool pushes(ZydisMnemonic mnemonic) {
  switch (mnemonic) {
    case ZYDIS_MNEMONIC_PUSH:
    case ZYDIS_MNEMONIC_CALL:
    case ZYDIS_MNEMONIC_PUSHF:
    case ZYDIS_MNEMONIC_PUSHFD:
    case ZYDIS_MNEMONIC_PUSHFQ:
      return true;
    default:
      return false;
  }
}

unsigned stored_string_element(const Insn& insn) {
  if (!insn.string) return 0;
  switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_STOSB:
    case ZYDIS_MNEMONIC_MOVSB:
      return 1;
    case ZYDIS_MNEMONIC_STOSW:
    case ZYDIS_MNEMONIC_MOVSW:
      return 2;
    case ZYDIS_MNEMONIC_STOSD:
    case ZYDIS_MNEMONIC_MOVSD:
      return 4;
    case ZYDIS_MNEMONIC_STOSQ:
    case ZYDIS_MNEMONIC_MOVSQ:
      return 8;
    default:
      return 0;
  }
}

Range stored_string(x86::Cpu& cpu, const Insn& insn, unsigned element) {
  const x86::CpuState& state = cpu.state;
  const std::uint64_t mask = low_mask(insn.address_size * 8U);
  const std::uint64_t count = insn.rep || insn.repne ? state.gpr[x86::kRcx] & mask : 1;
  if (count > kMostBytes / element) return {0, kMostBytes + 1};
  if (count == 0) return {};
  const std::uint64_t offset = state.gpr[x86::kRdi] & mask, before = (count - 1) * element;
  const bool down = (state.rflags_without_of & x86::rflags::kDf) != 0;
  const std::uint64_t base = state.code_64() ? 0 : state.seg(SegReg::Es).base;
  return {base + (down ? offset - before : offset), count * element};
}

/// What it writes; throws the fault that it raises instead.
Range written_range(x86::Cpu& cpu, const Insn& insn) {
  const x86::CpuState& state = cpu.state;
  if (pushes(insn.mnemonic)) {
    const bool wide = state.code_64();
    const std::uint64_t size = wide ? 8 : 4;
    if (wide) return {state.gpr[x86::kRsp] - size, size};
    const bool stack_32 = state.seg(SegReg::Ss).default_32();
    const std::uint64_t sp = (state.gpr[x86::kRsp] - size) & (stack_32 ? 0xFFFF'FFFF : 0xFFFF);
    return {(state.seg(SegReg::Ss).base + sp) & 0xFFFF'FFFF, size};
  }
  if (const unsigned element = stored_string_element(insn); element != 0) return stored_string(cpu, insn, element);
  const isa::Operand* operand = isa::memory_operand(insn);
  if (operand == nullptr || !operand->written) return {};
  const auto moved = static_cast<std::uint64_t>(isa::bit_string_offset(state, insn));
  const std::uint64_t offset = (isa::effective_address(cpu, insn) + moved) & low_mask(insn.mem.address_size * 8U);
  return {x86::segment_address(cpu, insn.mem.segment, offset, operand->size, x86::Access::Write), operand->size};
}

}  // namespace

void WriteLog::clear() {
  entries_.clear();
  old_.clear();
  new_.clear();
  executed_ = 0;
}

bool WriteLog::note(x86::Cpu& cpu, const Insn& insn, unsigned step) {
  const std::uint64_t rip = cpu.state.rip;
  Range range;
  // RIP-relative operands count from the next instruction.
  cpu.state.rip = rip + insn.length;
  try {
    range = written_range(cpu, insn);
  } catch (const x86::Fault&) {
  }
  cpu.state.rip = rip;
  return range.size <= kMostBytes && note_range(cpu, range.linear, range.size, step);
}

bool WriteLog::note_range(x86::Cpu& cpu, x86::LinearAddress linear, std::uint64_t size, unsigned step) {
  while (size != 0) {
    const std::uint64_t part = std::min(size, memory::kPageSize - (linear & (memory::kPageSize - 1)));
    memory::GuestPhysical physical = 0;
    // What is not mapped raises a fault.
    if (cpu.mmu.debug_translate(linear, physical)) {
      std::byte* page = memory_.page(physical);
      if (page == nullptr || memory_.code().has_code(memory_.page_index(physical))) return false;
      std::byte* host = page + (physical & (memory::kPageSize - 1));
      entries_.push_back({linear, host, step, old_.size(), part});
      old_.insert(old_.end(), host, host + part);
    }
    linear += part;
    size -= part;
  }
  return true;
}

void WriteLog::executed() {
  new_.resize(old_.size());
  for (; executed_ < entries_.size(); ++executed_) {
    const Entry& entry = entries_[executed_];
    std::memcpy(new_.data() + entry.at, entry.host, entry.size);
  }
}

void WriteLog::undo() {
  for (auto entry = entries_.rbegin(); entry != entries_.rend(); ++entry)
    std::memcpy(entry->host, old_.data() + entry->at, entry->size);
}

std::vector<std::string> WriteLog::differences(unsigned steps) const {
  std::vector<std::string> lines;
  for (auto entry = entries_.begin(); entry != entries_.begin() + static_cast<std::ptrdiff_t>(executed_); ++entry) {
    if (entry->step >= steps || std::memcmp(entry->host, new_.data() + entry->at, entry->size) == 0) continue;
    for (std::size_t i = 0; i < entry->size; ++i) {
      const std::byte* at = entry->host + i;
      const auto writes_it_too = [&](const Entry& later) {
        return later.step < steps && at >= later.host && at < later.host + later.size;
      };
      const std::byte expected = new_[entry->at + i];
      if (*at == expected || std::any_of(entry + 1, entries_.end(), writes_it_too)) continue;
      lines.push_back(fmt::format("memory {:#x}: {:#04x} != {:#04x}", entry->linear + i,
                                  std::to_integer<unsigned>(expected), std::to_integer<unsigned>(*at)));
    }
  }
  return lines;
}

}  // namespace doppel::engine::lockstep
