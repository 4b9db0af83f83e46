#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "x86/cpu.h"

/// The door between a machine and whatever executes its instructions. Shaped so that hardware virtualization fits
/// behind it as well.
namespace doppel::engine {

/// Why run() came back.
enum class ExitReason : std::uint8_t {
  Stopped,     ///< Attention::kStop was set; the bit has been cleared
  Halted,      ///< HLT, or waiting for a SIPI: nothing to do until attention is set
  Shutdown,    ///< triple fault
  Breakpoint,  ///< a debugger's breakpoint at the current RIP, which has not executed yet
  Watchpoint,  ///< a debugger's watchpoint; the access has happened, `address` is its own
  Stepped,     ///< the single instruction asked for has been executed
  Diverged,    ///< lockstep: two engines disagree about what the guest did; the report has been logged
};

struct Exit {
  ExitReason reason;
  std::uint64_t address = 0;
};

/// What a debugger wants of one vCPU. Linear addresses.
struct DebugRequest {
  bool single_step = false;
  std::vector<std::uint64_t> breakpoints;
  struct Watchpoint {
    std::uint64_t address, length;
    bool on_read, on_write;
  };
  std::vector<Watchpoint> watchpoints;

  bool empty() const { return !single_step && breakpoints.empty() && watchpoints.empty(); }
};

/// Runs one vCPU. All calls come from the vCPU's thread, or from the machine's owner while that thread is parked
/// outside run(); other threads speak to it through Attention only.
class VcpuRunner {
 public:
  virtual ~VcpuRunner() = default;

  /// Executes guest instructions, delivering interrupts, until there is a reason to leave.
  virtual Exit run() = 0;

  /// Moves the canonical state in and out, at pause points only. load() drops whatever was derived from the old one.
  virtual void load(const x86::CpuState& state) = 0;
  virtual void store(x86::CpuState& state) = 0;

  /// Drops all cached translations and write rights; required after DirtyMap::collect and after RAM changed behind the
  /// engine's back.
  virtual void flush_translations() = 0;

  virtual void set_debug(const DebugRequest& request) = 0;

  /// Linear to physical, for debuggers; no side effects. False when not mapped.
  virtual bool translate(std::uint64_t linear, std::uint64_t& physical) = 0;

  /// Counters for `doppel stats`: instructions retired, blocks decoded, TLB misses … Names are the engine's own.
  virtual nlohmann::json stats() const = 0;

  /// Whether stats() has "instructions" and "tlb_lookups" for those engines that count them only when asked, because it
  /// costs time. At pause points only.
  virtual void set_counting(bool /*counting*/) {}

  /// What has been made of the guest's code at a linear address, as lists of lines for people; empty where nothing has.
  /// At pause points only.
  virtual nlohmann::json describe_code(std::uint64_t linear) = 0;
};

class Engine {
 public:
  virtual ~Engine() = default;
  virtual std::string_view name() const = 0;
  virtual std::unique_ptr<VcpuRunner> create_vcpu(const x86::CpuPorts& ports) = 0;
};

/// The reference interpreter: needs nothing of the host but its instruction set.
std::unique_ptr<Engine> make_interpreter();

/// Whether programs of the guest run in processes of the host's, without look-ups of their memory (direct/executor.h).
enum class DirectExecution : std::uint8_t {
  Never,
  Auto,    ///< those that gain by it
  Always,  ///< whatever it costs; for tests
};

struct TranslatorOptions {
  static constexpr std::size_t kLeastCode = std::size_t{1} << 20, kMostCode = std::size_t{1} << 30;

  std::size_t code_bytes = std::size_t{64} << 20;  ///< of translated code that each vCPU keeps; when full, all goes
  DirectExecution direct = DirectExecution::Auto;
  bool perf_map = false;  ///< names blocks for `perf`, in /tmp
};

/// The dynamic binary translator; an error where the host lacks what it needs.
Result<std::unique_ptr<Engine>> make_translator(const TranslatorOptions& options = {});

/// The translator with the interpreter at its heels: each translated block is executed by both, from the same state,
/// and compared. For machines of one processor.
struct LockstepOptions {
  std::uint64_t from = 0;   ///< how many blocks to run before the first that is compared
  std::uint64_t every = 1;  ///< compares one block in so many
};
Result<std::unique_ptr<Engine>> make_lockstep(const LockstepOptions& options, const TranslatorOptions& translator = {});

}  // namespace doppel::engine
