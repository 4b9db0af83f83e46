#include "jail/allow_list.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <linux/if_tun.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include <array>

namespace doppel::jail {
namespace {

using Condition = Rule::Condition;

constexpr std::uint64_t kAll = ~std::uint64_t{0};

constexpr Rule when(int system_call, unsigned argument, std::uint64_t value, std::uint64_t mask = kAll) {
  return {system_call, Condition{argument, mask, value}};
}

constexpr auto kMachine = std::to_array<Rule>({
    // Reading, writing and waiting for what is open: console, log, sockets, signals.
    {SCMP_SYS(read)},
    {SCMP_SYS(write)},
    {SCMP_SYS(readv)},
    {SCMP_SYS(writev)},
    {SCMP_SYS(lseek)},
    {SCMP_SYS(pread64)},
    {SCMP_SYS(pwrite64)},
    {SCMP_SYS(ftruncate)},
    {SCMP_SYS(fstat)},
    when(SCMP_SYS(newfstatat), 3, AT_EMPTY_PATH),
    {SCMP_SYS(close)},
    {SCMP_SYS(dup)},
    {SCMP_SYS(dup2)},
    {SCMP_SYS(dup3)},
    {SCMP_SYS(fcntl)},
    {SCMP_SYS(poll)},
    {SCMP_SYS(ppoll)},
    {SCMP_SYS(eventfd2)},
    {SCMP_SYS(pipe2)},
    {SCMP_SYS(signalfd4)},
    // The user's terminal.
    when(SCMP_SYS(ioctl), 1, TCGETS),
    when(SCMP_SYS(ioctl), 1, TCSETS),
    when(SCMP_SYS(ioctl), 1, TCSETSW),
    when(SCMP_SYS(ioctl), 1, TCSETSF),
    when(SCMP_SYS(ioctl), 1, TIOCGWINSZ),
    when(SCMP_SYS(ioctl), 1, FIONREAD),
    when(SCMP_SYS(ioctl), 1, FIONBIO),
    // Clients of the control and console sockets, which have been listening since before.
    {SCMP_SYS(accept)},
    {SCMP_SYS(accept4)},
    {SCMP_SYS(recvfrom)},
    {SCMP_SYS(recvmsg)},
    {SCMP_SYS(sendto)},
    {SCMP_SYS(sendmsg)},
    {SCMP_SYS(shutdown)},
    {SCMP_SYS(getsockopt)},
    {SCMP_SYS(getsockname)},
    {SCMP_SYS(getpeername)},
    // Memory: the heap, the guest's RAM at a reset, engines' tables and code.
    {SCMP_SYS(brk)},
    {SCMP_SYS(mmap)},
    {SCMP_SYS(munmap)},
    {SCMP_SYS(mremap)},
    {SCMP_SYS(mprotect)},
    {SCMP_SYS(madvise)},
    {SCMP_SYS(msync)},
    {SCMP_SYS(memfd_create)},
    {SCMP_SYS(fallocate)},
    {SCMP_SYS(membarrier)},
    // Threads. A new process is none.
    when(SCMP_SYS(clone), 0, CLONE_THREAD | CLONE_VM | CLONE_SIGHAND, CLONE_THREAD | CLONE_VM | CLONE_SIGHAND),
    {SCMP_SYS(futex)},
    {SCMP_SYS(set_robust_list)},
    {SCMP_SYS(rseq)},
    {SCMP_SYS(set_tid_address)},
    {SCMP_SYS(gettid)},
    {SCMP_SYS(sched_yield)},
    {SCMP_SYS(sched_getaffinity)},
    when(SCMP_SYS(sched_setaffinity), 0, 0),
    when(SCMP_SYS(prctl), 0, PR_SET_NAME),
    when(SCMP_SYS(prctl), 0, PR_SET_TIMERSLACK),
    {SCMP_SYS(arch_prctl)},
    {SCMP_SYS(exit)},
    {SCMP_SYS(exit_group)},
    {SCMP_SYS(wait4)},
    // To the processes that run guest programs; there is no way to a descriptor of another one.
    {SCMP_SYS(pidfd_send_signal)},
    // Time, and the signals that end a processor's turn; signals by which an engine learns of its code's faults.
    {SCMP_SYS(clock_gettime)},
    {SCMP_SYS(clock_getres)},
    {SCMP_SYS(clock_nanosleep)},
    {SCMP_SYS(nanosleep)},
    {SCMP_SYS(gettimeofday)},
    {SCMP_SYS(time)},
    {SCMP_SYS(timer_create)},
    {SCMP_SYS(timer_settime)},
    {SCMP_SYS(timer_gettime)},
    {SCMP_SYS(timer_getoverrun)},
    {SCMP_SYS(timer_delete)},
    {SCMP_SYS(timerfd_create)},
    {SCMP_SYS(timerfd_settime)},
    {SCMP_SYS(rt_sigaction)},
    {SCMP_SYS(rt_sigprocmask)},
    {SCMP_SYS(rt_sigreturn)},
    {SCMP_SYS(rt_sigtimedwait)},
    {SCMP_SYS(sigaltstack)},
    {SCMP_SYS(restart_syscall)},
    // What a process may know of itself.
    {SCMP_SYS(getpid)},
    {SCMP_SYS(getppid)},
    {SCMP_SYS(getuid)},
    {SCMP_SYS(geteuid)},
    {SCMP_SYS(getgid)},
    {SCMP_SYS(getegid)},
    {SCMP_SYS(getrusage)},
    {SCMP_SYS(sysinfo)},
    {SCMP_SYS(uname)},
    {SCMP_SYS(getrandom)},
});

constexpr auto kDebugger = std::to_array<Rule>({
    {SCMP_SYS(setsockopt)},
});

// Images are open and io_uring's rings set up before: io_uring_setup would make rings that no filter sees through.
constexpr auto kStorage = std::to_array<Rule>({
    {SCMP_SYS(preadv)},
    {SCMP_SYS(pwritev)},
    {SCMP_SYS(preadv2)},
    {SCMP_SYS(pwritev2)},
    {SCMP_SYS(fsync)},
    {SCMP_SYS(fdatasync)},
    {SCMP_SYS(copy_file_range)},
    {SCMP_SYS(flock)},
    {SCMP_SYS(io_uring_enter)},
});

constexpr auto kNetwork = std::to_array<Rule>({
    when(SCMP_SYS(socket), 0, AF_INET),
    when(SCMP_SYS(socket), 0, AF_INET6),
    {SCMP_SYS(connect)},
    {SCMP_SYS(bind)},
    {SCMP_SYS(listen)},
    {SCMP_SYS(setsockopt)},
    {SCMP_SYS(sendmmsg)},
    {SCMP_SYS(recvmmsg)},
    {SCMP_SYS(select)},
    {SCMP_SYS(pselect6)},
    {SCMP_SYS(epoll_create1)},
    {SCMP_SYS(epoll_ctl)},
    {SCMP_SYS(epoll_wait)},
    {SCMP_SYS(epoll_pwait)},
});

constexpr auto kReactor = std::to_array<Rule>({
    {SCMP_SYS(epoll_ctl)},
    {SCMP_SYS(epoll_wait)},
    {SCMP_SYS(epoll_pwait)},
    when(SCMP_SYS(ioctl), 1, TUNSETOFFLOAD),
});

// Names are followed from an open directory, which is a mount of its own (shared_directory.h).
constexpr auto kShare = std::to_array<Rule>({
    {SCMP_SYS(openat)},
    when(SCMP_SYS(newfstatat), 3, AT_SYMLINK_NOFOLLOW),
    when(SCMP_SYS(newfstatat), 3, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH),
    {SCMP_SYS(fstatfs)},
    {SCMP_SYS(getdents64)},
    {SCMP_SYS(readlinkat)},
    {SCMP_SYS(mkdirat)},
    {SCMP_SYS(symlinkat)},
    when(SCMP_SYS(linkat), 4, 0),
    {SCMP_SYS(unlinkat)},
    {SCMP_SYS(renameat)},
    {SCMP_SYS(renameat2)},
    {SCMP_SYS(fchmod)},
    {SCMP_SYS(utimensat)},
    {SCMP_SYS(pread64)},
    {SCMP_SYS(pwrite64)},
    {SCMP_SYS(fsync)},
    {SCMP_SYS(fdatasync)},
});

constexpr std::array<Group, 6> kGroups{{
    {Needs::Machine, kMachine},
    {Needs::Debugger, kDebugger},
    {Needs::Storage, kStorage},
    {Needs::Network, kNetwork},
    {Needs::Reactor, kReactor},
    {Needs::Share, kShare},
}};

/// Job control (SIGSTOP), abort().
constexpr auto kOnThisProcess = std::to_array<int>({SCMP_SYS(kill), SCMP_SYS(tgkill)});

constexpr auto kUnknown = std::to_array<int>({SCMP_SYS(clone3)});

constexpr auto kFatal = std::to_array<int>({
    SCMP_SYS(execve),
    SCMP_SYS(execveat),
    SCMP_SYS(fork),
    SCMP_SYS(vfork),
    SCMP_SYS(ptrace),
    SCMP_SYS(process_vm_readv),
    SCMP_SYS(process_vm_writev),
    SCMP_SYS(pidfd_getfd),
    SCMP_SYS(unshare),
    SCMP_SYS(setns),
    SCMP_SYS(mount),
    SCMP_SYS(umount2),
    SCMP_SYS(pivot_root),
    SCMP_SYS(chroot),
    SCMP_SYS(open_by_handle_at),
    SCMP_SYS(bpf),
    SCMP_SYS(userfaultfd),
    SCMP_SYS(perf_event_open),
    SCMP_SYS(init_module),
    SCMP_SYS(finit_module),
    SCMP_SYS(kexec_load),
    SCMP_SYS(keyctl),
    SCMP_SYS(add_key),
    SCMP_SYS(setuid),
    SCMP_SYS(setgid),
    SCMP_SYS(capset),
});

}  // namespace

std::span<const Group> allow_list() {
  return kGroups;
}
std::span<const int> allowed_on_this_process() {
  return kOnThisProcess;
}
std::span<const int> unknown_calls() {
  return kUnknown;
}
std::span<const int> fatal_calls() {
  return kFatal;
}

}  // namespace doppel::jail
