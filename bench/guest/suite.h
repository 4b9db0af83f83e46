#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// One line of the benchmark's table. A run does a fixed amount of work on data that `prepare` made, and returns a
/// checksum of what came out, the same each time and on every machine: no libm, whose results may differ with the
/// processor.
struct Row {
  const char* name;   ///< class.what
  const char* unit;   ///< what `operations` counts
  double operations;  ///< in one run
  void (*prepare)(void);
  uint64_t (*run)(void);
  double expected_ns;       ///< of one run, not counted: the time that a sleep asks for
  bool (*available)(void);  ///< NULL: everywhere
  bool once;                ///< takes seconds: one run, not repeated
};

/// Each ends with a row without a name.
extern const struct Row kIntegerRows[], kObjectRows[], kScriptRows[], kFloatingRows[], kMemoryRows[], kSystemRows[],
    kProcessRows[], kJitRows[];

/// Where the system rows find things; set by main().
struct Surroundings {
  const char* self;       ///< this program
  const char* busybox;    ///< for the shell's row
  const char* directory;  ///< on a tmpfs, writable
};
extern struct Surroundings surroundings;

/// Says what went wrong, and ends the program with status 1.
void fail(const char* format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/// xorshift64: the same numbers everywhere.
static inline uint64_t next_random(uint64_t* state) {
  *state ^= *state << 13;
  *state ^= *state >> 7;
  *state ^= *state << 17;
  return *state;
}

/// FNV-1a over 64-bit words.
static inline uint64_t mix(uint64_t sum, uint64_t value) {
  return (sum ^ value) * 0x100000001B3ULL;
}
uint64_t mix_bytes(const void* bytes, size_t size);

#ifdef __cplusplus
}
#endif
