#include "isa/host_fault_guard.h"

#include <ucontext.h>

#include <csignal>
#include <cstdint>
#include <mutex>

#include "x86/registers.h"

namespace doppel::isa {

namespace {

/// The innermost guard of this thread: the thread_local that DESIGN 2 allows, because a signal handler has no other way
/// to find out.
thread_local HostFaultGuard* innermost = nullptr;

// The handlers that ours replaced; written once, before ours can run.
struct sigaction previous_fpe, previous_segv, previous_bus;

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

bool resume_at_r10(HostRegisters registers, std::uint64_t vector) {
  if (vector != x86::vector::kDe && vector != x86::vector::kXm && vector != x86::vector::kMf &&
      vector != x86::vector::kGp)
    return false;
  registers[REG_RIP] = registers[REG_R10];
  registers[REG_RDX] = static_cast<long long>(vector);
  return true;
}

}  // namespace

struct HostFaultDispatch {
  static bool handled(HostRegisters registers) {
    const auto pc = static_cast<std::uintptr_t>(registers[REG_RIP]);
    for (const HostFaultGuard* guard = innermost; guard != nullptr; guard = guard->outer_) {
      const auto start = reinterpret_cast<std::uintptr_t>(guard->code_.data());
      if (pc - start < guard->code_.size())
        return guard->handler_(registers, static_cast<std::uint64_t>(registers[REG_TRAPNO]));
    }
    return false;
  }
};

namespace {

void on_host_fault(int signal, siginfo_t* info, void* context) {
  if (HostFaultDispatch::handled(static_cast<ucontext_t*>(context)->uc_mcontext.gregs)) return;
  const struct sigaction& previous = signal == SIGFPE ? previous_fpe : signal == SIGBUS ? previous_bus : previous_segv;
  forward(previous, signal, info, context);
}

void install() {
  struct sigaction action {};
  action.sa_sigaction = on_host_fault;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigemptyset(&action.sa_mask);
  sigaction(SIGFPE, &action, &previous_fpe);
  sigaction(SIGSEGV, &action, &previous_segv);
  // A non-canonical address whose base is RSP or RBP is #SS.
  sigaction(SIGBUS, &action, &previous_bus);
}

}  // namespace

HostFaultGuard::HostFaultGuard(std::span<const std::byte> code) : HostFaultGuard(code, resume_at_r10) {}

HostFaultGuard::HostFaultGuard(std::span<const std::byte> code, Handler handler)
    : code_(code), handler_(handler), outer_(innermost) {
  static std::once_flag installed;
  std::call_once(installed, install);
  innermost = this;
}

HostFaultGuard::~HostFaultGuard() {
  innermost = outer_;
}

}  // namespace doppel::isa
