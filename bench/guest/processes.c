// The kernel's services, between processes.
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "suite.h"

static void must(bool done, const char* what) {
  if (!done) fail("%s: %s", what, strerror(errno));
}

static void must_end_well(pid_t child, const char* what) {
  int status = -1;
  must(waitpid(child, &status, 0) == child, what);
  if (status != 0) fail("%s: status %x", what, (unsigned)status);
}

enum { kForks = 4 };

static uint64_t run_fork(void) {
  for (int i = 0; i < kForks; ++i) {
    const pid_t child = fork();
    must(child >= 0, "fork");
    if (child == 0) _exit(0);
    must_end_well(child, "fork");
  }
  return 0;
}

static void execute(const char* file, char* const* arguments) {
  char* const environment[] = {NULL};
  const pid_t child = fork();
  must(child >= 0, "fork");
  if (child == 0) {
    execve(file, arguments, environment);
    _exit(127);
  }
  must_end_well(child, file);
}

static uint64_t run_exec(void) {
  char* const arguments[] = {"suite", "--nothing", NULL};
  for (int i = 0; i < kForks; ++i) execute(surroundings.self, arguments);
  return 0;
}

static bool has_shell(void) {
  return access(surroundings.busybox, X_OK) == 0;
}

static uint64_t run_shell_count(void) {
  char* const arguments[] = {"sh", "-c", "i=0; while [ $i -lt 1000 ]; do i=$((i + 1)); done; [ $i = 1000 ]", NULL};
  execute(surroundings.busybox, arguments);
  return 0;
}

static uint64_t run_shell_fork(void) {
  char* const arguments[] = {"sh", "-c", "i=0; while [ $i -lt 10 ]; do x=$(echo $i); i=$((x + 1)); done; [ $i = 10 ]",
                             NULL};
  execute(surroundings.busybox, arguments);
  return 0;
}

// A ring of processes, each of which passes on what it reads, plus one. The last one is this process. A ring of two is
// a ping-pong.

enum { kRing = 64, kRounds = 8, kPingPongs = 100 };
struct Ring {
  int in, out;
};
static struct Ring ring;

static struct Ring make_ring(int processes) {
  int first[2], before;
  must(pipe(first) == 0, "pipe");
  before = first[0];
  for (int i = 1; i < processes; ++i) {
    int next[2];
    must(pipe(next) == 0, "pipe");
    const pid_t child = fork();
    must(child >= 0, "fork");
    if (child == 0) {
      uint32_t token;
      prctl(PR_SET_PDEATHSIG, SIGKILL);  // whatever becomes of the row
      close(first[1]);
      close(next[0]);
      while (read(before, &token, sizeof token) == sizeof token) {
        ++token;
        if (write(next[1], &token, sizeof token) != sizeof token) break;
      }
      _exit(0);
    }
    close(before);
    close(next[1]);
    before = next[0];
  }
  return (struct Ring){before, first[1]};
}

static uint64_t go_round(int processes, int rounds) {
  uint32_t token = 0;
  for (int i = 0; i < rounds; ++i) {
    must(write(ring.out, &token, sizeof token) == sizeof token, "write");
    must(read(ring.in, &token, sizeof token) == sizeof token, "read");
  }
  if (token != (uint32_t)((processes - 1) * rounds)) fail("ring of %d: %u", processes, token);
  return token;
}

static void prepare_ping_pong(void) {
  ring = make_ring(2);
}
static void prepare_ring(void) {
  ring = make_ring(kRing);
}
static uint64_t run_ping_pong(void) {
  return go_round(2, kPingPongs);
}
static uint64_t run_ring(void) {
  return go_round(kRing, kRounds);
}

const struct Row kProcessRows[] = {
    {"system.fork-wait", "ns/fork", kForks, NULL, run_fork},
    {"system.fork-exec", "ns/exec", kForks, NULL, run_exec},
    {"system.shell-loop", "ns/round", 1000, NULL, run_shell_count, 0, has_shell},
    {"system.shell-fork", "ns/round", 10, NULL, run_shell_fork, 0, has_shell},
    {"system.pipe-ping-pong", "ns/round", kPingPongs, prepare_ping_pong, run_ping_pong},
    {"system.context-64", "ns/switch", kRing* kRounds, prepare_ring, run_ring},
    {0},
};
