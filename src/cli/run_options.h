#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "machine/config.h"

namespace doppel::cli {

/// `doppel run`, as the user wrote it.
struct RunOptions {
  std::string kernel{};  ///< empty: the embedded guest; or the name of an image (run_image.h)
  std::vector<std::string> initrds{};
  std::vector<std::string> modules{};  ///< "FILE ARGUMENTS"
  std::optional<std::string> append{};
  std::optional<std::string> command{};  ///< of -c

  std::string from{};              ///< the snapshot to go on from; empty: the kernel boots
  bool quiet = false;              ///< a detached machine's name is not printed
  bool renewed_by_caller = false;  ///< tells the guest the time, and who it is; else that happens soon
  bool await_load = false;         ///< until the control socket has named a snapshot there is no machine
  bool start_paused = false;
  bool restore = false;       ///< the machine's own disks go back to that snapshot with it
  bool memory_given = false;  ///< the user has said how much, and how many
  bool cpus_given = false;

  std::vector<std::string> disks{};   ///< of --disk, as written
  std::vector<std::string> nets{};    ///< of --net
  std::vector<std::string> macs{};    ///< of --mac
  std::vector<std::string> shares{};  ///< of --share

  std::string user_data{};              ///< file
  std::vector<std::string> ssh_keys{};  ///< files
  std::string hostname{};

  std::string console = "serial";  ///< of --console
  bool balloon = false;
  std::string memory = "1G";
  std::string cpus = "1";
  std::string engine = "auto";
  std::string direct = "auto";
  std::string code_cache{};  ///< of --code-cache; empty: the default
  bool perf_map = false;
  std::uint64_t lockstep_from = 0;   ///< blocks
  std::uint64_t lockstep_every = 1;  ///< blocks
  std::string name{};
  bool no_reboot = false;
  bool detach = false;
  bool temporary = false;  ///< nothing that the machine writes to its image is kept

  std::string gdb{};      ///< [HOST]:PORT; empty: no debugger
  bool gdb_wait = false;  ///< the first instruction is the debugger's
  std::string jail = "on";
  std::string log_level = "warning";
  std::string log_file{};
};

/// What the guest should know of the terminal that its console is shown on.
struct TerminalFacts {
  std::optional<std::string> size{};  ///< "80x24"
  std::optional<std::string> type{};  ///< $TERM; nothing: no terminal
};

/// Checks everything that can be checked without building a machine, and reads the files. Errors are the user's to
/// mend.
Result<machine::MachineConfig> make_config(const RunOptions& options, const TerminalFacts& terminal);

/// `embedded_guest`: which needs more than a machine does.
Result<std::uint64_t> parse_memory(const std::string& text, bool embedded_guest);
Result<unsigned> parse_cpus(const std::string& text);

/// What belongs to the engine: --engine and the options that go with it.
Result<void> set_engine(const RunOptions& options, machine::MachineConfig& config);

/// Whether the shell of the embedded guest is what its console shows.
bool runs_embedded_shell(const RunOptions& options);

}  // namespace doppel::cli
