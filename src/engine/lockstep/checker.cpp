#include "engine/lockstep/checker.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "engine/dbt/block_listing.h"
#include "engine/lockstep/difference.h"
#include "isa/disassembly.h"
#include "isa/op_table.h"

namespace doppel::engine::lockstep {

namespace {

using isa::Insn;
using isa::OpClass;
using isa::OperandKind;

/// Instructions that depend on nothing but the processor's registers and memory, and write only what WriteLog knows.
bool repeatable(const Insn& insn) {
  switch (isa::op_class(insn)) {
    case OpClass::HostAlu:
      return true;
    case OpClass::Cpp:
      break;
    case OpClass::System:
      switch (insn.mnemonic) {
        case ZYDIS_MNEMONIC_CLI:
        case ZYDIS_MNEMONIC_STI:
        case ZYDIS_MNEMONIC_SWAPGS:
        case ZYDIS_MNEMONIC_CLC:
        case ZYDIS_MNEMONIC_STC:
        case ZYDIS_MNEMONIC_CMC:
        case ZYDIS_MNEMONIC_CLD:
        case ZYDIS_MNEMONIC_STD:
        case ZYDIS_MNEMONIC_LAHF:
        case ZYDIS_MNEMONIC_SAHF:
        case ZYDIS_MNEMONIC_PUSHF:
        case ZYDIS_MNEMONIC_PUSHFD:
        case ZYDIS_MNEMONIC_PUSHFQ:
          return true;
        default:
          return false;
      }
    case OpClass::Undefined:
      return false;
  }
  switch (insn.mnemonic) {
    case ZYDIS_MNEMONIC_ENTER:
    case ZYDIS_MNEMONIC_MASKMOVQ:
    case ZYDIS_MNEMONIC_MASKMOVDQU:
    case ZYDIS_MNEMONIC_VMASKMOVDQU:
      return false;
    case ZYDIS_MNEMONIC_POP:
      return insn.op[0].kind == OperandKind::Gpr;
    default:
      return !insn.far_branch;
  }
}

bool same_fault(const x86::Fault& left, const x86::Fault& right) {
  return left.vector == right.vector && left.has_error_code == right.has_error_code &&
         left.error_code == right.error_code && left.address == right.address;
}

std::string text(const x86::Fault& fault) {
  return fmt::format("exception {} with error code {:#x} and address {:#x}", fault.vector, fault.error_code,
                     fault.address);
}

}  // namespace

Checker::Checker(x86::Cpu& cpu, interp::Shared& shared, const LockstepOptions& options)
    : cpu_(cpu),
      options_(options),
      decoder_(cpu.ports.cpuid),
      interpreter_({cpu.ports.memory, io_, cpu.ports.clock, cpu.ports.cpuid, attention_}, shared),
      writes_(cpu.ports.memory) {
  states_.reserve(128);
  interpreter_.begin();
}

const std::vector<Insn>& Checker::decoded(const dbt::Block& block) {
  const std::vector<std::byte> current = dbt::guest_bytes(cpu_.ports.memory, block);
  const std::span<const std::byte> bytes(current);
  constexpr std::size_t kMostBlocks = 200'000;
  if (decoded_.size() > kMostBlocks) decoded_.clear();
  Decoded& known = decoded_[&block];
  if (known.mode == block.mode && std::equal(bytes.begin(), bytes.end(), known.bytes.begin(), known.bytes.end()))
    return known.insns;
  known.mode = block.mode;
  known.bytes.assign(bytes.begin(), bytes.end());
  known.insns.clear();
  const isa::CodeSize size = cpu_.state.code_64() ? isa::CodeSize::Bits64 : isa::CodeSize::Bits32;
  std::size_t at = 0;
  while (known.insns.size() < block.instructions) {
    Insn insn;
    if (decoder_.decode(bytes.subspan(at), size, true, insn) != isa::DecodeStatus::Ok) break;
    known.insns.push_back(insn);
    at += insn.length;
  }
  return known.insns;
}

void Checker::before(const dbt::Block& block) {
  block_ = &block;
  checking_ = stats_.blocks >= options_.from && (stats_.blocks - options_.from) % options_.every == 0;
  states_.assign(1, cpu_.state);
  if (!checking_) return;
  if (std::exchange(flush_, false)) interpreter_.flush_translations();
  insns_ = &decoded(block);
  run_ahead(*insns_);
  writes_.undo();
}

void Checker::run_ahead(const std::vector<Insn>& insns) {
  writes_.clear();
  fault_.reset();
  steps_ = 0;
  complete_ = false;
  interpreter_.follow(cpu_.state);
  x86::Cpu& cpu = interpreter_.cpu();
  for (const Insn& insn : insns) {
    if (!repeatable(insn) || !writes_.note(cpu, insn, steps_)) return;
    const std::uint64_t rip = cpu.state.rip, next = rip + insn.length;
    try {
      // One step of a repeated string instruction need not be all of it.
      do fault_ = interpreter_.try_step();
      while (insn.string && !fault_ && cpu.state.rip == rip);
    } catch (const Unrepeatable&) {
      return;
    }
    writes_.executed();
    if (fault_) {
      after_fault_ = cpu.state;
      return;
    }
    if (insn.string) cpu.state.rflags_without_of &= ~x86::rflags::kRf;  // as between iterations
    // The shadow of STI is over after one instruction.
    if (insn.mnemonic != ZYDIS_MNEMONIC_STI) cpu.state.sti_shadow = false;
    ++steps_;
    states_.push_back(cpu.state);
    if (cpu.state.rip != next) break;
  }
  complete_ = true;
}

/// The translator has left a repeated string instruction between two iterations, which the interpreter need not have.
bool Checker::amid_string(Left left) const {
  if (left != Left::Before) return false;
  for (unsigned i = 0; i <= steps_ && i < insns_->size(); ++i) {
    if (states_[i].rip == cpu_.state.rip && (*insns_)[i].string)
      return states_[i].gpr[x86::kRcx] != cpu_.state.gpr[x86::kRcx];
  }
  return false;
}

std::optional<unsigned> Checker::steps_executed(Left left) const {
  const std::uint64_t rip = cpu_.state.rip;
  const auto is_branch = [&](unsigned step) {
    const Insn& insn = (*insns_)[step];
    return insn.op[0].kind == OperandKind::Relative;
  };
  if (left == Left::Before) {
    for (unsigned i = 0; i <= steps_; ++i) {
      if (states_[i].rip == rip) return i;
    }
    return std::nullopt;
  }
  if (complete_ && states_[steps_].rip == rip) return steps_;
  for (unsigned i = 1; i <= steps_; ++i) {
    // To where it would have gone on anyway.
    if (states_[i].rip == rip && is_branch(i - 1)) return i;
  }
  return std::nullopt;
}

std::vector<std::string> Checker::differences(unsigned steps, const x86::Fault* fault) {
  std::vector<std::string> lines;
  // A fault leaves its instruction's traces, such as flags of MXCSR: in translated code already when it leaves for the
  // interpreter to raise it.
  const bool faults =
      steps == steps_ && fault_ && (fault != nullptr || states_[steps].fpu.mxcsr != cpu_.state.fpu.mxcsr);
  x86::CpuState& expected = faults ? after_fault_ : states_[steps];
  // Translated code knows no shadow: it has made sure that nothing waits.
  expected.sti_shadow = cpu_.state.sti_shadow;
  if (!same(expected, cpu_.state)) lines = lockstep::differences(expected, cpu_.state);
  for (std::string& line : writes_.differences(steps)) lines.push_back(std::move(line));
  if (fault == nullptr) return lines;
  const bool known = steps < steps_ || complete_ || fault_;
  if (!known) return lines;
  if (steps == steps_ && fault_) {
    if (!same_fault(*fault_, *fault)) lines.push_back(text(*fault_) + " != " + text(*fault));
  } else {
    lines.push_back("no exception != " + text(*fault));
  }
  return lines;
}

dbt::BlockObserver::Next Checker::after(Left left, const x86::Fault* fault) {
  const x86::CpuState& start = states_.front();
  History::Run run{stats_.blocks,
                   start.rip,
                   cpu_.state.rip,
                   start.cr3,
                   block_->instructions,
                   static_cast<std::uint8_t>(start.cpl()),
                   false,
                   left == Left::Branch};
  if (checking_) {
    const bool amid_string = this->amid_string(left);
    const std::optional<unsigned> steps = amid_string ? std::nullopt : steps_executed(left);
    std::vector<std::string> lines;
    if (steps) {
      lines = differences(*steps, fault);
    } else if (!amid_string && (complete_ || fault_)) {
      lines = lockstep::differences(states_[steps_], cpu_.state);
    }
    if (!lines.empty() && !repeated_) {
      repeated_ = true;
      writes_.undo();
      cpu_.state = start;
      return Next::Again;
    }
    run.compared = steps.has_value();
    if (!lines.empty()) {
      history_.add(run);
      report(lines, steps.value_or(steps_));
      return Next::Stop;
    }
    if (std::exchange(repeated_, false)) ++stats_.races;
    ++(steps ? stats_.compared : stats_.partly);
    stats_.instructions += steps.value_or(0);
  }
  history_.add(run);
  ++stats_.blocks;
  return Next::GoOn;
}

void Checker::report(const std::vector<std::string>& differences, unsigned steps) const {
  const x86::CpuState& start = states_.front();
  std::string out = fmt::format("interpreter and translator differ after {} of {} instructions of block #{} at {:#x}\n",
                                steps, block_->instructions, stats_.blocks, start.rip);
  const auto add = [&out](std::string_view title, const std::vector<std::string>& lines) {
    out += fmt::format("\n{}:\n", title);
    for (const std::string& line : lines) out += "  " + line + '\n';
  };
  add("Differences, interpreter != translator", differences);
  add("The block", isa::disassemble(dbt::guest_bytes(cpu_.ports.memory, *block_), start.rip, start.code_64()));
  std::vector<std::string> registers = lockstep::differences(start, x86::CpuState{});
  for (std::string& line : registers) line.resize(line.find(" !="));
  add("The registers before it, where they are not as after power-up", registers);
  add("The host's code",
      isa::disassemble({block_->code, block_->code_size}, reinterpret_cast<std::uint64_t>(block_->code), true));
  add("The blocks before it", history_.lines());
  log::error("lockstep", "{}", out);
}

nlohmann::json Checker::stats() const {
  return {{"blocks", stats_.blocks},
          {"blocks_compared", stats_.compared},
          {"blocks_not_comparable", stats_.partly},
          {"instructions_compared", stats_.instructions},
          {"differences_that_did_not_repeat", stats_.races}};
}

}  // namespace doppel::engine::lockstep
