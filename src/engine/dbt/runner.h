#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_set>

#include "engine/dbt/block_observer.h"
#include "engine/dbt/code_cache.h"
#include "engine/dbt/code_writers.h"
#include "engine/dbt/perf_map.h"
#include "engine/dbt/signal_stack.h"
#include "engine/dbt/trampolines.h"
#include "engine/dbt/translator.h"
#include "engine/dbt/views.h"
#include "engine/direct/executor.h"
#include "engine/engine.h"
#include "engine/interp/runner.h"

namespace doppel::engine::dbt {

/// What the vCPUs of one machine share. Outlives them.
struct Shared {
  explicit Shared(memory::GuestMemory& memory, std::unique_ptr<PerfMap> map = nullptr)
      : writers(memory), perf_map(std::move(map)) {}

  CodeWriters writers;
  direct::CpuPlaces places;
  const std::unique_ptr<PerfMap> perf_map;  ///< null: nobody wants one
};

/// One vCPU on the translator. The interpreter beside it works on the same Cpu and executes what is not translated.
class Runner : public VcpuRunner, private x86::Mmu::FlushListener, private CodeWriters::Peer {
 public:
  /// What it takes to make one; an error where the host does not give it.
  struct Parts {
    std::unique_ptr<Views> views;
    CodeCache cache;
    Trampolines trampolines;
    std::unique_ptr<direct::Process> process = nullptr;  ///< null: no program runs directly
  };
  static Result<Parts> allocate(std::size_t code_bytes);

  Runner(const x86::CpuPorts& ports, Shared& shared, Parts parts, std::unique_ptr<interp::Runner> interpreter,
         DirectExecution direct = DirectExecution::Never);
  ~Runner() override;

  Exit run() override;
  void load(const x86::CpuState& state) override { interpreter_->load(state); }
  void store(x86::CpuState& state) override { interpreter_->store(state); }
  void flush_translations() override { interpreter_->flush_translations(); }
  void set_debug(const DebugRequest& request) override;
  bool translate(std::uint64_t linear, std::uint64_t& physical) override {
    return interpreter_->translate(linear, physical);
  }
  nlohmann::json stats() const override;
  void set_counting(bool counting) override;
  nlohmann::json describe_code(std::uint64_t linear) override;

  /// Before the first run(); outlives this.
  void set_observer(BlockObserver* observer) { observer_ = observer; }
  x86::Cpu& cpu() { return cpu_; }

 private:
  void flushed_all() override;
  void mappings_changed();
  void flushed_non_global() override;
  void flushed_page(x86::LinearAddress address) override;
  void drop_code(memory::GuestPhysical page) override;
  void drop_writes(memory::GuestPhysical page) override;

  std::optional<Exit> go_on();
  std::optional<Exit> run_translated();
  bool runs_directly();
  std::optional<Exit> run_directly();
  std::optional<Exit> run_observed();
  void leave_by_branch(std::uint64_t target);
  void raise(const x86::Fault& fault);
  std::optional<Exit> interpret();
  void protect_interpreted();
  bool translatable() const;

  const std::byte* code_at(std::uint64_t rip);
  Block* block_at(std::uint64_t rip, bool plain = false);
  void expect_jumps(Block& block, x86::LinearAddress linear);
  Block* translate_block(std::uint64_t linear, const x86::Mmu::EnginePage& page, bool plain);
  Block* translate_crossing(const Translator::Source& first);
  std::optional<x86::Mmu::EnginePage> page_behind(std::uint64_t linear);

  // After an exit of translated code: where to go on in the code cache, or null to look around first.
  const std::byte* handle_exit();
  const std::byte* interpreted(const Site& site);
  const std::byte* looked_up();
  const std::byte* chained(std::uint32_t site);
  const std::byte* split(std::uint32_t number);
  const std::byte* remapped(const Site& site);
  const std::byte* missed(const Site& site, x86::Access access);
  void host_fault();
  void report_host_fault(const Block* block) const;
  void stop_at(const Block& block, std::uint64_t page_offset);
  void undo_branch(const Site& site);
  void enter(const std::byte* code);
  void allow_switches();
  std::vector<std::string> listing(const Block& block, x86::LinearAddress linear) const;
  void name_for_perf(const Block& block, x86::LinearAddress linear);
  void load_fpu();
  void save_fpu();

  std::unique_ptr<interp::Runner> interpreter_;
  x86::Cpu& cpu_;
  Shared& shared_;
  isa::Decoder decoder_;
  std::unique_ptr<Views> views_;
  CodeCache cache_;
  Trampolines trampolines_;
  Translator translator_;
  SignalStack signal_stack_;
  std::unique_ptr<direct::Executor> direct_;  ///< null: none
  bool debugging_ = false;
  bool counting_ = false;

  BlockObserver* observer_ = nullptr;
  BlockObserver::Left left_ = BlockObserver::Left::Before;
  std::optional<x86::Fault> raised_;  ///< for the observer, not delivered yet

  std::array<std::uint32_t, 2> jump_mode_{};  ///< the mode that each jump table is for
  struct PageFound {
    memory::GuestPhysical physical = 0;
    bool global = false;
  };
  PageFound page_found_;             ///< of the block that block_at() returned
  bool far_links_doubtful_ = false;  ///< as JumpTable::doubt_all() is of supervisor code
  bool interpret_next_ = false;      ///< the instruction at RIP is not to be translated
  bool plain_next_ = false;          ///< it is to be, but without groups of accesses
  std::optional<Exit> exit_;         ///< a delivery in handle_exit has ended run()
  /// Pages larger than 4 KiB, pieces of which may be in the tables: address shifted, and the shift above it.
  std::unordered_set<std::uint64_t> large_pages_;

  struct Stats {
    std::array<std::uint64_t, kExitReasons> exits{};
    std::uint64_t interpreted = 0, read_fills = 0, write_fills = 0;
    std::uint64_t interpreted_alone = 0;  ///< of these, outside of blocks
  };
  Stats stats_;
};

}  // namespace doppel::engine::dbt
