#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "cli/agent_client.h"

namespace doppel::cli {

struct ExecOptions {
  std::string name;
  std::vector<std::string> command;
  bool interactive = false;  ///< standard input goes to the command
  bool terminal = false;     ///< the command gets a terminal, of the size of ours
  /// How long to wait for the guest's agent.
  std::chrono::seconds patience{60};
  bool tells_of_waiting = true;
  /// What the guest is told first, where it goes on from a snapshot.
  std::optional<Renewal> renewal{};
};

/// `doppel exec`: runs a command in a machine's guest; its output is ours, and its exit status the value.
int exec_in_guest(const ExecOptions& options);

/// `doppel cp`: copies a file or directory, one of the two being NAME:PATH, with a tar archive between the host's tar
/// and the guest's.
int copy_files(const std::string& source, const std::string& destination);

}  // namespace doppel::cli
