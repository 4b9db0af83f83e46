#pragma once

struct Suite {
  const char* name;
  void (*run)(void);
  unsigned cpus;  ///< that it takes; 0: it has to be asked for, since it ends the machine
};

/// Runs the suites that the kernel's command line (of PVH's start info) asks for: only=NAME,NAME; without that all but
/// those that have to be asked for. Calls `restore` after each, and ends the machine.
_Noreturn void run_suites(const struct Suite* suites, unsigned count, void (*restore)(void));
