#include "engine/direct/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include "base/system_error.h"
#include "engine/direct/gs.h"

namespace doppel::engine::direct {

namespace {

/// One past what a program may have mapped.
constexpr std::uint64_t kEnd = (std::uint64_t{1} << 47) - memory::kPageSize;

/// From the kernel's signal.h, without what the C library makes of it.
struct KernelSigaction {
  const std::byte* handler;
  unsigned long flags;
  const std::byte* restorer;
  std::uint64_t mask;
};
constexpr unsigned long kRestorer = 0x0400'0000;
constexpr std::uint64_t signal_bit(int signal) {
  return std::uint64_t{1} << (signal - 1);
}
constexpr std::array kHandled{SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, kKick};

/// What the process may ask of the kernel.
constexpr auto kFilter = [] {
  constexpr auto load = [](std::size_t offset) {
    return sock_filter{BPF_LD | BPF_W | BPF_ABS, 0, 0, static_cast<std::uint32_t>(offset)};
  };
  constexpr auto jump_if = [](std::uint32_t value, std::uint8_t yes, std::uint8_t no) {
    return sock_filter{BPF_JMP | BPF_JEQ | BPF_K, yes, no, value};
  };
  constexpr auto argument = [](std::size_t number) {
    return offsetof(seccomp_data, args) + number * sizeof(std::uint64_t);
  };
  return std::to_array<sock_filter>({
      load(offsetof(seccomp_data, arch)),
      jump_if(AUDIT_ARCH_X86_64, 0, 15),
      load(offsetof(seccomp_data, nr)),
      jump_if(SYS_munmap, 12, 0),
      jump_if(SYS_rt_sigreturn, 11, 0),
      jump_if(SYS_exit_group, 10, 0),
      jump_if(SYS_sched_setaffinity, 9, 0),
      jump_if(SYS_mmap, 6, 0),
      jump_if(SYS_read, 3, 0),
      jump_if(SYS_write, 0, 7),
      load(argument(0)),
      jump_if(kMonitorFd, 4, 5),
      load(argument(0)),
      jump_if(kTurnsFd, 2, 3),
      load(argument(2)),
      {BPF_JMP | BPF_JSET | BPF_K, 1, 0, PROT_EXEC},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW},
      {BPF_RET | BPF_K, 0, 0, SECCOMP_RET_KILL_PROCESS},
  });
}();

Result<UniqueFd> make_memory(const char* name, std::size_t size) {
  UniqueFd file(::memfd_create(name, MFD_CLOEXEC));
  if (!file.valid() || ::ftruncate(file.get(), static_cast<off_t>(size)) != 0) return system_error("memfd");
  return file;
}

bool map_fixed(std::uint64_t address, std::size_t size, int protection, int fd, std::size_t offset = 0) {
  return ::mmap(std::bit_cast<void*>(address), size, protection, MAP_SHARED | MAP_FIXED_NOREPLACE, fd,
                static_cast<off_t>(offset)) != MAP_FAILED;
}

}  // namespace

Result<std::unique_ptr<Process>> Process::create(int memory_fd, std::size_t code_bytes) {
  std::unique_ptr<Process> process(new Process);
  std::uint32_t random = 0;
  if (::getrandom(&random, sizeof random, 0) != sizeof random) return system_error("getrandom");
  // Where programs have nothing: they begin low, or above 80 TiB, and grow down from 128 TiB.
  constexpr std::uint64_t kFirst = std::uint64_t{0x2000} << 32, kPlaces = 0x2000;
  process->base_ = kFirst + (std::uint64_t{random % kPlaces} << 32);
  process->size_ = Layout::kCode + code_bytes;

  const Result<UniqueFd> shared = make_memory("doppel-direct", Layout::kSharedBytes);
  const Result<UniqueFd> jumps = make_memory("doppel-jumps", Layout::kJumpBytes);
  if (!shared) return shared.error();
  if (!jumps) return jumps.error();
  using Sharing = Mapping::Sharing;
  Result<Mapping> mapping = Mapping::file(shared->get(), Layout::kSharedBytes, 0, Sharing::Shared);
  if (!mapping) return mapping.error();
  process->shared_mapping_ = *std::move(mapping);
  process->shared_ = new (process->shared_mapping_.data()) Shared{};
  mapping = Mapping::file(jumps->get(), Layout::kJumpBytes, 0, Sharing::Shared);
  if (!mapping) return mapping.error();
  process->jumps_ = *std::move(mapping);
  reinterpret_cast<Jumps*>(process->jumps_.data())->mask = dbt::JumpTable::kPlaces;

  Result<isa::CodeArea> area =
      isa::CodeArea::create_for_other(code_bytes, std::bit_cast<std::byte*>(process->base_ + Layout::kCode));
  if (!area) return area.error();
  Result<dbt::CodeCache> cache = dbt::CodeCache::create(*std::move(area));
  if (!cache) return cache.error();
  process->cache_ = std::make_unique<dbt::CodeCache>(*std::move(cache));
  const Result<Stub> stub = Stub::emit(*process->cache_, process->base_);
  if (!stub) return stub.error();
  process->stub_ = *stub;
  int to[2], from[2];
  if (::pipe2(to, O_CLOEXEC) != 0) return system_error("pipe");
  const UniqueFd turns(to[0]);
  process->to_process_ = UniqueFd(to[1]);
  if (::pipe2(from, O_CLOEXEC) != 0) return system_error("pipe");
  const UniqueFd monitor(from[1]);
  process->from_process_ = UniqueFd(from[0]);
  const auto started = process->start({memory_fd, shared->get(), jumps->get(), turns.get(), monitor.get()});
  if (!started) return started.error();
  return process;
}

Process::~Process() {
  if (pid_ < 0) return;
  ::syscall(SYS_pidfd_send_signal, pidfd_.get(), SIGKILL, nullptr, 0);
  while (::wait4(pid_, nullptr, __WALL, nullptr) < 0 && errno == EINTR) {
  }
}

Result<void> Process::start(const Inheritance& inheritance) {
  int pidfd = -1;
  // Without a signal at its end, for that would be one of the monitor's children's.
  const long pid = ::syscall(SYS_clone, CLONE_PIDFD, nullptr, &pidfd, nullptr, 0);
  if (pid < 0) return system_error("clone");
  if (pid == 0) live(inheritance);
  pid_ = static_cast<pid_t>(pid);
  pidfd_ = UniqueFd(pidfd);
  unmap_all();
  return {};
}

/// In the process; signal-safe, for the monitor may have threads. Ends in the stub, which has to be mapped by then.
/// What is the monitor's goes with the first commands.
void Process::live(const Inheritance& inheritance) const {
  const auto fail = [](int step) { ::syscall(SYS_exit_group, step); };
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::prctl(PR_SET_NAME, "doppel-direct");
  if (!map_fixed(base_, Layout::kSharedBytes, PROT_READ | PROT_WRITE, inheritance.shared)) fail(1);
  if (!map_fixed(base_ + Layout::kJumps, Layout::kJumpBytes, PROT_READ, inheritance.jumps)) fail(2);
  if (!map_fixed(base_ + Layout::kCode, size_ - Layout::kCode, PROT_READ | PROT_EXEC, cache_->fd())) fail(3);
  // By way of numbers that nothing has, since some of them may be the others' places.
  constexpr int kAway = 1000;
  const std::array places{std::pair{inheritance.memory, kMemoryFd}, std::pair{inheritance.turns, kTurnsFd},
                          std::pair{inheritance.monitor, kMonitorFd}};
  for (const auto& [from, to] : places) {
    if (::dup2(from, kAway + to) < 0) fail(4);
  }
  for (const auto& [from, to] : places) {
    if (::dup2(kAway + to, to) < 0) fail(4);
  }
  if (::syscall(SYS_close_range, kMonitorFd + 1, ~0U, 0) != 0) fail(4);

  // The terminal's signals are for the monitor.
  std::uint64_t blocked = ~std::uint64_t{0};
  for (const int signal : kHandled) blocked &= ~signal_bit(signal);
  const stack_t stack{std::bit_cast<void*>(base_ + Layout::kSignalStack), 0, Layout::kSignalStackBytes};
  if (::syscall(SYS_sigaltstack, &stack, nullptr) != 0) fail(5);
  for (const int signal : kHandled) {
    const KernelSigaction action{stub_.handler, SA_SIGINFO | SA_ONSTACK | SA_NODEFER | kRestorer, stub_.restorer, 0};
    if (::syscall(SYS_rt_sigaction, signal, &action, nullptr, sizeof action.mask) != 0) fail(6);
  }
  if (::syscall(SYS_rt_sigprocmask, SIG_SETMASK, &blocked, nullptr, sizeof blocked) != 0) fail(7);
  // The kernel would look for the C library's memory each time it schedules.
  constexpr unsigned kUnregister = 1, kSize = 32;
  if (__rseq_size != 0) {
    ::syscall(SYS_rseq, static_cast<std::byte*>(__builtin_thread_pointer()) + __rseq_offset, kSize, kUnregister,
              RSEQ_SIG);
  }
  const sock_fprog filter{kFilter.size(), const_cast<sock_filter*>(kFilter.data())};
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) fail(8);
  if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) fail(9);
  asm volatile(
      "wrgsbase %0\n\t"
      "jmp *%1"
      :
      : "r"(base_), "r"(stub_.wait));
  __builtin_unreachable();
}

void Process::map(std::uint64_t address, std::uint64_t length, std::uint64_t memory_offset, bool writable) {
  const std::uint64_t protection = PROT_READ | (writable ? PROT_WRITE : 0);
  pending_.push_back(
      {SYS_mmap, {address, length, protection, MAP_SHARED | MAP_FIXED | MAP_POPULATE, kMemoryFd, memory_offset}});
}

void Process::unmap(std::uint64_t address, std::uint64_t length) {
  pending_.push_back({SYS_munmap, {address, length}});
}

void Process::unmap_all() {
  pending_.clear();
  unmap(0, base_);
  unmap(base_ + size_, kEnd - base_ - size_);
}

void Process::move_to(int cpu) {
  CPU_ZERO(&shared_->cpus);
  CPU_SET(cpu, &shared_->cpus);
  pending_.push_back({SYS_sched_setaffinity, {0, sizeof shared_->cpus, base_ + offsetof(Shared, cpus)}});
}

Result<void> Process::hand_over(const std::byte* entry, std::size_t commands) {
  std::copy_n(pending_.begin(), commands, shared_->commands.begin());
  pending_.erase(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(commands));
  shared_->command_count = static_cast<std::uint32_t>(commands);
  shared_->entry = reinterpret_cast<std::uint64_t>(entry);
  shared_->reason = Reason::None;
  shared_->began = shared_->ended = 0;
  const Error ended{fmt::format("the process {} that runs guest programs is no more", pid_)};
  char turn = 0;
  while (::write(to_process_.get(), &turn, 1) != 1) {
    if (errno != EINTR) return ended;
  }
  ssize_t got = 0;
  while ((got = ::read(from_process_.get(), &turn, 1)) < 0 && errno == EINTR) {
  }
  if (got != 1) return ended;
  return {};
}

void Process::forget_kicks() {
  shared_->kicked.store(0, std::memory_order_seq_cst);
  kicked_.store(false, std::memory_order_seq_cst);
}

Result<void> Process::run(const std::byte* entry) {
  while (pending_.size() > Shared::kCommands) {
    if (auto done = hand_over(stub_.idle, Shared::kCommands); !done) return done;
    if (shared_->reason == Reason::CommandFailed) return {};
  }
  return hand_over(entry, pending_.size());
}

void Process::kick() {
  // Once a turn, for each signal takes room on the process's stack for them.
  if (kicked_.exchange(true, std::memory_order_seq_cst)) return;
  shared_->kicked.store(1, std::memory_order_seq_cst);
  ::syscall(SYS_pidfd_send_signal, pidfd_.get(), kKick, nullptr, 0);
}

bool Process::copy_frame(ucontext_t& frame, Shared::Xsave& xsave) const {
  const auto copy = [this](std::uint64_t address, void* to, std::size_t size) {
    const std::uint64_t offset = address - base_;
    if (offset > Layout::kSharedBytes || size > Layout::kSharedBytes - offset) return false;
    std::memcpy(to, shared_mapping_.data() + offset, size);
    return true;
  };
  return copy(shared_->frame, &frame, sizeof frame) &&
         copy(std::bit_cast<std::uint64_t>(frame.uc_mcontext.fpregs), &xsave, sizeof xsave);
}

}  // namespace doppel::engine::direct
