// The benchmark's guest program: measures each row for a while and prints "name value unit checksum" lines, the value
// in nanoseconds per unit by CLOCK_MONOTONIC. Ends with status 1 as soon as a result is wrong.
//
//   suite [--ms N] [--only PATTERN] [--copies N] [--check FILE] [--busybox FILE] [--directory DIR] [--list]
//   suite ... --command NAME COMMAND ARGUMENT...
//
//   --only PATTERN   rows whose name holds one of the words that | separates
//   --copies N       N processes do each row at the same time; the value is their mean
//   --check FILE     lines of another run: the checksums must be the same
//   --command        instead of the rows: one run of a command, which leaves its result in the file that $OUTPUT names
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "suite.h"

struct Surroundings surroundings = {"/proc/self/exe", "/bin/busybox", "/tmp"};

void fail(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  printf("FAIL ");
  vprintf(format, arguments);
  printf("\n");
  va_end(arguments);
  fflush(stdout);
  _exit(1);
}

uint64_t mix_bytes(const void* bytes, size_t size) {
  uint64_t sum = size;
  for (size_t i = 0; i + 8 <= size; i += 8) {
    uint64_t word;
    memcpy(&word, (const char*)bytes + i, 8);
    sum = mix(sum, word);
  }
  for (size_t i = size & ~(size_t)7; i < size; ++i) sum = mix(sum, ((const unsigned char*)bytes)[i]);
  return sum;
}

static const struct Row* const kAll[] = {kIntegerRows, kObjectRows, kScriptRows,  kFloatingRows,
                                         kMemoryRows,  kSystemRows, kProcessRows, kJitRows};

static double target_ns = 300e6;
static const char* pattern = "";
static const char* expectations = NULL;
static int copies = 1, copy = 0;

static double now_ns(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

struct Result {
  double value;
  uint64_t checksum;
};

static void run_often(const struct Row* row, unsigned long times, uint64_t checksum) {
  for (unsigned long i = 0; i < times; ++i) {
    const uint64_t again = row->run();
    if (again != checksum)
      fail("%s: checksum %016llx, before it was %016llx", row->name, (unsigned long long)again,
           (unsigned long long)checksum);
  }
}

/// Doubles the number of runs until they take a noticeable time, then repeats those until `target_ns` have passed.
static struct Result measure(const struct Row* row) {
  const double before = now_ns();
  struct Result result = {0, row->run()};
  if (row->once) {
    result.value = (now_ns() - before) / row->operations;
    return result;
  }
  unsigned long times = 1;
  for (;;) {
    const double start = now_ns();
    run_often(row, times, result.checksum);
    if (now_ns() - start >= target_ns / 20) break;
    times *= 2;
  }
  unsigned long total = 0;
  const double start = now_ns();
  double elapsed;
  do {
    run_often(row, times, result.checksum);
    total += times;
    elapsed = now_ns() - start;
  } while (elapsed < target_ns);
  result.value = (elapsed / (double)total - row->expected_ns) / row->operations;
  return result;
}

static void must(bool done, const char* what) {
  if (!done) fail("%s: %s", what, strerror(errno));
}

/// In a process of its own, so that no row sees what another left behind; the mean of all copies, which start together.
static struct Result measure_apart(const struct Row* row) {
  int start[2], results[2];
  must(pipe(start) == 0 && pipe(results) == 0, "pipe");
  for (int i = 0; i < copies; ++i) {
    fflush(stdout);
    const pid_t child = fork();
    must(child >= 0, "fork");
    if (child == 0) {
      char go;
      close(start[1]);
      copy = i;
      if (row->prepare) row->prepare();
      must(read(start[0], &go, 1) == 0, "start");
      const struct Result result = measure(row);
      must(write(results[1], &result, sizeof result) == sizeof result, "result");
      _exit(0);
    }
  }
  close(start[0]);
  close(start[1]);
  close(results[1]);
  struct Result mean = {0, 0}, one;
  int count = 0;
  for (; read(results[0], &one, sizeof one) == sizeof one; ++count) {
    if (count > 0 && one.checksum != mean.checksum) fail("%s: the copies disagree", row->name);
    mean.checksum = one.checksum;
    mean.value += one.value / copies;
  }
  close(results[0]);
  for (int status; wait(&status) > 0;)
    if (status != 0) _exit(1);
  if (count != copies) fail("%s: a copy ended early", row->name);
  return mean;
}

static bool chosen(const char* name) {
  char words[1024];
  if (!*pattern) return true;
  snprintf(words, sizeof words, "%s", pattern);
  for (char* word = strtok(words, "|"); word; word = strtok(NULL, "|"))
    if (strstr(name, word)) return true;
  return false;
}

static void check(const struct Row* row, uint64_t checksum) {
  FILE* file = fopen(expectations, "r");
  must(file, expectations);
  char line[256], name[128];
  unsigned long long expected;
  while (fgets(line, sizeof line, file))
    if (sscanf(line, "%127s %*f %*s %llx", name, &expected) == 2 && strcmp(name, row->name) == 0 &&
        expected != checksum)
      fail("%s: checksum %016llx instead of %016llx", name, (unsigned long long)checksum, expected);
  fclose(file);
}

static void do_row(const struct Row* row) {
  if (row->available && !row->available()) {
    printf("%s - %s -\n", row->name, row->unit);
    return;
  }
  const struct Result result = measure_apart(row);
  printf("%s %.4g %s %016llx\n", row->name, result.value, row->unit, (unsigned long long)result.checksum);
  if (expectations) check(row, result.checksum);
}

static char** command;

static uint64_t run_command(void) {
  static char output[64], contents[1 << 22];
  snprintf(output, sizeof output, "/tmp/output.%d", copy);
  setenv("OUTPUT", output, 1);
  const pid_t child = fork();
  must(child >= 0, "fork");
  if (child == 0) {
    execvp(command[0], command);
    _exit(127);
  }
  int status = -1;
  must(waitpid(child, &status, 0) == child, "waitpid");
  if (status != 0) fail("%s: status %x", command[0], (unsigned)status);
  FILE* file = fopen(output, "r");
  must(file, output);
  const size_t size = fread(contents, 1, sizeof contents, file);
  fclose(file);
  return mix_bytes(contents, size);
}

static const char* argument(char** argv, int* i) {
  if (!argv[*i + 1]) fail("%s needs a value", argv[*i]);
  return argv[++*i];
}

int main(int argc, char** argv) {
  bool list = false;
  for (int i = 1; i < argc; ++i) {
    if (strcmp(argv[i], "--nothing") == 0) return 0;  // the row of exec
    if (strcmp(argv[i], "--ms") == 0)
      target_ns = atof(argument(argv, &i)) * 1e6;
    else if (strcmp(argv[i], "--only") == 0)
      pattern = argument(argv, &i);
    else if (strcmp(argv[i], "--copies") == 0)
      copies = atoi(argument(argv, &i));
    else if (strcmp(argv[i], "--check") == 0)
      expectations = argument(argv, &i);
    else if (strcmp(argv[i], "--busybox") == 0)
      surroundings.busybox = argument(argv, &i);
    else if (strcmp(argv[i], "--directory") == 0)
      surroundings.directory = argument(argv, &i);
    else if (strcmp(argv[i], "--list") == 0)
      list = true;
    else if (strcmp(argv[i], "--command") == 0) {
      const char* name = argument(argv, &i);
      const struct Row row = {.name = name, .unit = "ns/run", .operations = 1, .run = run_command, .once = true};
      command = argv + i + 1;
      do_row(&row);
      return 0;
    } else
      fail("unknown option %s", argv[i]);
  }
  setvbuf(stdout, NULL, _IOLBF, 0);
  for (size_t group = 0; group < sizeof kAll / sizeof *kAll; ++group)
    for (const struct Row* row = kAll[group]; row->name; ++row) {
      if (!chosen(row->name)) continue;
      if (list)
        printf("%s %s\n", row->name, row->unit);
      else
        do_row(row);
    }
  return 0;
}
