#include "isa/host_fault_guard.h"

#include <ucontext.h>

#include <csignal>
#include <cstdint>
#include <mutex>

#include "x86/registers.h"

namespace doppel::isa {

namespace {

/// The code that this thread's faults are expected in: the thread_local that DESIGN 2 allows, because a signal handler
/// has no other way to find out.
thread_local std::span<const std::byte> guarded_code;

// The handlers that ours replaced; written once, before ours can run.
struct sigaction previous_fpe, previous_segv;

void forward(const struct sigaction& previous, int signal, siginfo_t* info, void* context) {
  if ((previous.sa_flags & SA_SIGINFO) != 0) {
    previous.sa_sigaction(signal, info, context);
  } else if (previous.sa_handler != SIG_DFL && previous.sa_handler != SIG_IGN) {
    previous.sa_handler(signal);
  } else {
    // The instruction runs again and the default action ends the process.
    ::signal(signal, SIG_DFL);
  }
}

void on_host_fault(int signal, siginfo_t* info, void* context) {
  auto& registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
  const auto pc = static_cast<std::uintptr_t>(registers[REG_RIP]);
  const auto start = reinterpret_cast<std::uintptr_t>(guarded_code.data());
  const auto vector = registers[REG_TRAPNO];
  const bool expected = vector == x86::vector::kDe || vector == x86::vector::kXm || vector == x86::vector::kMf ||
                        vector == x86::vector::kGp;
  if (pc - start < guarded_code.size() && expected) {
    registers[REG_RIP] = registers[REG_R10];
    registers[REG_RDX] = vector;
    return;
  }
  forward(signal == SIGFPE ? previous_fpe : previous_segv, signal, info, context);
}

void install() {
  struct sigaction action {};
  action.sa_sigaction = on_host_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigemptyset(&action.sa_mask);
  sigaction(SIGFPE, &action, &previous_fpe);
  sigaction(SIGSEGV, &action, &previous_segv);
}

}  // namespace

HostFaultGuard::HostFaultGuard(std::span<const std::byte> code) {
  static std::once_flag installed;
  std::call_once(installed, install);
  guarded_code = code;
}

HostFaultGuard::~HostFaultGuard() {
  guarded_code = {};
}

}  // namespace doppel::isa
