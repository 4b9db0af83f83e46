#pragma once

#include <string>
#include <string_view>

#include "debug/debug_target.h"

/// What `monitor …` and `info threads` say in GDB.
namespace doppel::debug {

struct MonitorReply {
  std::string text;
  bool kills = false;  ///< the command was to end the machine
};

/// help, info registers, info cpus, reset, quit. The machine is stopped. `vcpu` is the one that GDB looks at.
MonitorReply run_monitor_command(DebugTarget& target, unsigned vcpu, std::string_view command);

/// "CPU 0, running, 64-bit, CPL 0".
std::string describe_vcpu(DebugTarget& target, unsigned vcpu);

}  // namespace doppel::debug
