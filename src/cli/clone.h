#pragma once

#include <string>

namespace doppel::cli {

struct CloneOptions {
  std::string source;  ///< MACHINE[:TAG]
  unsigned number = 1;
  std::string prefix{};  ///< of the clones' names; empty: the machine's
  std::string engine = "auto";
};

/// `doppel clone`: starts machines that go on from one state and share its memory until they change it. Their names are
/// printed. A running machine without a TAG is saved for that, and goes on itself.
int clone_machine(const CloneOptions& options);

}  // namespace doppel::cli
