// The kernel's services, seen from one process.
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "suite.h"

static void must(bool done, const char* what) {
  if (!done) fail("%s: %s", what, strerror(errno));
}

enum { kCalls = 200 };

static uint64_t run_getpid(void) {
  long sum = 0;
  const long pid = getpid();
  for (int i = 0; i < kCalls; ++i) sum += syscall(SYS_getpid) - pid;
  return (uint64_t)sum;
}

static int zero = -1, null = -1;

static void prepare_devices(void) {
  if (zero < 0) zero = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_WRONLY);
  must(zero >= 0 && null >= 0, "/dev/zero and /dev/null");
}

static uint64_t run_read(void) {
  char byte = 1;
  for (int i = 0; i < kCalls; ++i) must(read(zero, &byte, 1) == 1, "read");
  return (uint64_t)byte;
}

static uint64_t run_write(void) {
  const char byte = 0;
  for (int i = 0; i < kCalls; ++i) must(write(null, &byte, 1) == 1, "write");
  return 0;
}

enum { kPages = 64, kPageSize = 4096 };

static uint64_t run_mmap(void) {
  unsigned char* memory = mmap(NULL, kPages * kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  must(memory != MAP_FAILED, "mmap");
  uint64_t sum = 0;
  for (int i = 0; i < kPages; ++i) {
    sum = mix(sum, memory[i * kPageSize]);
    memory[i * kPageSize] = 1;
  }
  must(munmap(memory, kPages * kPageSize) == 0, "munmap");
  return sum;
}

static unsigned char* guarded;
static volatile sig_atomic_t signals;

static void on_signal(int number) {
  (void)number;
  ++signals;
}

static void on_fault(int number) {
  (void)number;
  ++signals;
  must(mprotect(guarded, kPageSize, PROT_READ | PROT_WRITE) == 0, "mprotect");
}

static void prepare_signal(void) {
  struct sigaction action = {.sa_handler = on_signal};
  must(sigaction(SIGUSR1, &action, NULL) == 0, "sigaction");
  action.sa_handler = on_fault;
  must(sigaction(SIGSEGV, &action, NULL) == 0, "sigaction");
  if (!guarded) guarded = mmap(NULL, kPageSize, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  must(guarded != MAP_FAILED, "mmap");
}

static uint64_t run_signal(void) {
  signals = 0;
  for (int i = 0; i < kCalls; ++i) raise(SIGUSR1);
  return (uint64_t)signals;
}

static uint64_t run_fault_signal(void) {
  signals = 0;
  for (int i = 0; i < kCalls; ++i) {
    must(mprotect(guarded, kPageSize, PROT_READ) == 0, "mprotect");
    *(volatile unsigned char*)guarded = (unsigned char)i;
  }
  signal(SIGSEGV, SIG_DFL);
  prepare_signal();
  return (uint64_t)signals;
}

static uint64_t run_gettimeofday(void) {
  struct timeval before = {0, 0}, after;
  for (int i = 0; i < kCalls; ++i) {
    must(gettimeofday(&after, NULL) == 0, "gettimeofday");
    if (timercmp(&after, &before, <)) fail("gettimeofday: time runs backwards");
    before = after;
  }
  return 0;
}

static uint64_t run_clock(void) {
  struct timespec before = {0, 0}, after;
  for (int i = 0; i < kCalls; ++i) {
    must(clock_gettime(CLOCK_MONOTONIC, &after) == 0, "clock_gettime");
    if (after.tv_sec < before.tv_sec || (after.tv_sec == before.tv_sec && after.tv_nsec < before.tv_nsec))
      fail("clock_gettime: time runs backwards");
    before = after;
  }
  return 0;
}

enum { kSleepNs = 1000000 };

static uint64_t run_sleep(void) {
  const struct timespec time = {0, kSleepNs};
  must(nanosleep(&time, NULL) == 0, "nanosleep");
  return 0;
}

enum { kFiles = 32 };

static uint64_t run_files(void) {
  char name[256];
  struct stat status;
  uint64_t sum = 0;
  for (int i = 0; i < kFiles; ++i) {
    snprintf(name, sizeof name, "%s/bench-%d-%d", surroundings.directory, (int)getpid(), i);
    const int file = open(name, O_CREAT | O_EXCL | O_WRONLY, 0600);
    must(file >= 0, name);
    must(write(file, name, (size_t)i) == i && close(file) == 0 && stat(name, &status) == 0 && unlink(name) == 0, name);
    sum = mix(sum, (uint64_t)status.st_size);
  }
  return sum;
}

const struct Row kSystemRows[] = {
    {"system.getpid", "ns/call", kCalls, NULL, run_getpid},
    {"system.read-1", "ns/call", kCalls, prepare_devices, run_read},
    {"system.write-1", "ns/call", kCalls, prepare_devices, run_write},
    {"system.mmap-touch", "ns/page", kPages, NULL, run_mmap},
    {"system.signal", "ns/signal", kCalls, prepare_signal, run_signal},
    {"system.fault-signal", "ns/signal", kCalls, prepare_signal, run_fault_signal},
    {"system.gettimeofday", "ns/call", kCalls, NULL, run_gettimeofday},
    {"system.clock", "ns/call", kCalls, NULL, run_clock},
    {"system.sleep-1ms-late", "ns/sleep", 1, NULL, run_sleep, kSleepNs},
    {"system.files", "ns/file", kFiles, NULL, run_files},
    {0},
};
