#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>

#include "engine/engine.h"
#include "engine/interp/block_builder.h"
#include "engine/interp/block_cache.h"
#include "engine/interp/context.h"
#include "engine/interp/mode.h"
#include "x86/fault.h"

namespace doppel::engine::interp {

/// What the vCPUs of one machine share: the decoder, the generated code, the lock of split accesses. Outlives them.
struct Shared {
  Shared(const x86::CpuidModel& cpuid, std::unique_ptr<isa::ThunkCache> cache)
      : decoder(cpuid), thunks(std::move(cache)) {}

  /// Throws std::runtime_error where the host gives no memory for generated code.
  static std::unique_ptr<Shared> create(const x86::CpuPorts& ports);

  isa::Decoder decoder;
  std::unique_ptr<isa::ThunkCache> thunks;
  std::mutex split_lock;
};

/// One vCPU on the interpreter.
class Runner : public VcpuRunner, private x86::Mmu::FlushListener {
 public:
  Runner(const x86::CpuPorts& ports, Shared& shared);

  Exit run() override;
  void load(const x86::CpuState& state) override;
  void store(x86::CpuState& state) override;
  void flush_translations() override;
  void set_debug(const DebugRequest& request) override;
  bool translate(std::uint64_t linear, std::uint64_t& physical) override;
  nlohmann::json stats() const override;
  nlohmann::json describe_code(std::uint64_t linear) override;

  // For an engine that executes most instructions otherwise, on the same Cpu, and leaves some to this one. All of these
  // are to be called while a HostFaultGuard on executable() lives.
  x86::Cpu& cpu() { return context_.cpu; }
  std::span<const std::byte> executable() const { return shared_.thunks->executable(); }
  /// The mode as of the last boundary().
  Mode mode() const { return mode_; }
  /// To be called when run() of that engine begins.
  void begin();
  /// What waits between two instructions; an Exit when run() is to return.
  std::optional<Exit> boundary();
  /// The other engine has changed CPL or RFLAGS.AC.
  void rights_changed();
  /// Executes the instruction at RIP, or delivers its fault.
  std::optional<Exit> step();
  /// Delivers the fault of the instruction at RIP.
  std::optional<Exit> deliver(const x86::Fault& fault);
  // To check such an engine against this one:
  /// Goes on from another processor's state, keeping translations: mappings are the same as before.
  void follow(const x86::CpuState& state);
  /// Executes the instruction at RIP; or returns its fault, and nothing has changed.
  std::optional<x86::Fault> try_step();
  /// That engine is the Mmu's listener then, and passes it on.
  void mappings_changed() { ++epoch_; }

 private:
  void flushed_all() override { mappings_changed(); }
  void flushed_non_global() override { mappings_changed(); }
  void flushed_page(x86::LinearAddress) override { mappings_changed(); }

  /// Runs `action`; delivers the fault it throws.
  template <class Action>
  std::optional<Exit> guarded(Action action);
  std::optional<Exit> look_around();
  std::optional<Exit> breakpoint();
  std::optional<Exit> debugger_stop();
  std::uint64_t linear_rip() const;
  void execute();
  void execute_to_breakpoint();
  bool holds_breakpoint(const Block& block) const;
  void execute_one();
  void enter(Block* block);
  Block* find_block();
  Block* find_block_slow();
  Block* look_up(std::uint64_t linear, Mode mode);
  bool still_current(const Block& block, std::uint64_t linear);
  Block* up_to_limit(std::uint64_t linear, std::uint64_t rip);
  void unwind_to_instruction();
  void refresh();
  bool events_may_be_due() const;

  Context context_;
  Shared& shared_;
  BlockBuilder builder_;
  BlockCache cache_;
  std::unique_ptr<Block> transient_;  ///< the running block, where it is not in the cache

  Mode mode_{};
  std::uint64_t epoch_ = 0;        ///< of linear look-ups: moves with every flush
  std::uint64_t space_ = 0;        ///< epoch_ and mode_, for BlockCache
  std::uint64_t linear_base_ = 0;  ///< of RIP: CS.base outside 64-bit mode
  std::uint64_t linear_mask_ = 0;  ///< its width
  bool step_ = false;              ///< service_events() asked for one instruction
  bool near_breakpoint_ = false;   ///< the block at RIP holds a debugger's breakpoint: one instruction

  DebugRequest debug_;
  std::optional<std::uint64_t> reported_;  ///< the breakpoint at RIP, once it has been reported
  std::uint64_t blocks_decoded_ = 0;
};

}  // namespace doppel::engine::interp
