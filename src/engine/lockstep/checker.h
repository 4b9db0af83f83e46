#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/dbt/block_observer.h"
#include "engine/engine.h"
#include "engine/interp/runner.h"
#include "engine/lockstep/history.h"
#include "engine/lockstep/refusing_io.h"
#include "engine/lockstep/write_log.h"
#include "isa/decoder.h"

namespace doppel::engine::lockstep {

/// Executes each block on the interpreter before the translator does, takes back what that wrote, and compares once the
/// translator is through. What may not happen twice (I/O, most system instructions, a store to code) ends the
/// comparison of its block; the translator executes it alone.
///
/// The other processor's thread may not run meanwhile: what is taken back would be its stores as well. A device that
/// writes to memory while both engines read it makes them differ, too; so a difference counts when it comes twice.
class Checker : public dbt::BlockObserver {
 public:
  Checker(x86::Cpu& cpu, interp::Shared& shared, const LockstepOptions& options);

  void before(const dbt::Block& block) override;
  Next after(Left left, const x86::Fault* fault) override;
  void flushed() override { flush_ = true; }

  nlohmann::json stats() const;

 private:
  /// The instructions of a block, while the bytes that they were decoded from are there.
  struct Decoded {
    std::uint32_t mode = 0;
    std::vector<std::byte> bytes;
    std::vector<isa::Insn> insns;
  };

  const std::vector<isa::Insn>& decoded(const dbt::Block& block);
  void run_ahead(const std::vector<isa::Insn>& insns);
  bool amid_string(Left left) const;
  /// How many instructions the translator has executed; nothing when that cannot be told.
  std::optional<unsigned> steps_executed(Left left) const;
  std::vector<std::string> differences(unsigned steps, const x86::Fault* fault);
  void report(const std::vector<std::string>& differences, unsigned steps) const;

  x86::Cpu& cpu_;
  LockstepOptions options_;
  isa::Decoder decoder_;
  RefusingIo io_;
  x86::Attention attention_;  ///< nothing ever waits
  interp::Runner interpreter_;
  WriteLog writes_;
  History history_;
  std::unordered_map<const dbt::Block*, Decoded> decoded_;

  const dbt::Block* block_ = nullptr;
  bool checking_ = false;
  bool flush_ = true;
  bool repeated_ = false;  ///< this is the second run, because the first one differed
  /// The interpreter's, before each instruction and after the last one.
  std::vector<x86::CpuState> states_;
  unsigned steps_ = 0;               ///< executed by the interpreter
  bool complete_ = false;            ///< … up to a way out of the block
  std::optional<x86::Fault> fault_;  ///< of the instruction after those
  x86::CpuState after_fault_;        ///< valid with fault_
  const std::vector<isa::Insn>* insns_ = nullptr;

  struct Stats {
    std::uint64_t blocks = 0, compared = 0, instructions = 0, partly = 0, races = 0;
  };
  Stats stats_;
};

}  // namespace doppel::engine::lockstep
