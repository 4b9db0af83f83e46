#pragma once

#include <sys/types.h>

#include <span>
#include <string>

#include "base/fd.h"
#include "fuzz_isa/case.h"

namespace doppel::fuzz_isa {

/// The host's processor, in a child process of ours: code and data lie at their addresses, and each case starts with
/// an IRETQ and ends by running through to what saves its state, or by an exception, that is in a signal. A seccomp
/// filter lets code of a case make no system call.
class NativeProcessor {
 public:
  /// Why this machine cannot be the judge, or nullptr.
  static const char* obstacle();

  NativeProcessor();
  ~NativeProcessor();
  NativeProcessor(const NativeProcessor&) = delete;
  NativeProcessor& operator=(const NativeProcessor&) = delete;

  /// Executes up to kBatch cases, each from `memory`. `code` is all of the code region. The outcome of a case that took
  /// the child with it, and of those behind it, is NotRun.
  std::span<const Outcome> run(std::span<const Case> cases, std::span<const std::uint8_t> code, const Memory& memory);

  /// Whether the child has memory there, beyond what cases are promised.
  static bool has_memory_at(std::uint64_t address);

  /// What a case leaves in the writable pages.
  std::vector<std::uint8_t> memory_after(const Case& made, std::span<const std::uint8_t> code, const Memory& memory);

 private:
  struct Shared;
  void start();
  void stop();
  [[noreturn]] void serve(int requests, int replies);

  Shared* shared_;
  int code_memory_;
  pid_t child_ = -1;
  UniqueFd request_, reply_;
};

}  // namespace doppel::fuzz_isa
