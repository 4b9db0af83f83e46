// Code that the guest itself writes: a compiler's functions, made and run once each, and one whose constant changes
// each time.
#include <errno.h>
#include <string.h>
#include <sys/mman.h>

#include "suite.h"

enum { kPageSize = 4096, kFunctions = 16, kPatches = 100 };
static unsigned char* code;

static void prepare(void) {
  if (code) return;
  code = mmap(NULL, kPageSize, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (code == MAP_FAILED) fail("mmap: %s", strerror(errno));
}

static unsigned char* put(unsigned char* at, uint32_t value) {
  memcpy(at, &value, 4);
  return at + 4;
}

typedef uint32_t (*Function)(uint32_t);

/// A function that does `length` multiplications and additions with constants of its own.
static void emit(unsigned char* at, uint32_t seed, int length) {
  *at++ = 0x89, *at++ = 0xF8;  // mov eax, edi
  for (int i = 0; i < length; ++i) {
    *at++ = 0x69, *at++ = 0xC0, at = put(at, 2 * (seed + (uint32_t)i) + 1);  // imul eax, eax, constant
    *at++ = 0x05, at = put(at, seed ^ (uint32_t)i);                          // add eax, constant
  }
  *at = 0xC3;  // ret
}

static uint64_t run_functions(void) {
  uint64_t sum = 0;
  for (uint32_t i = 0; i < kFunctions; ++i) {
    emit(code, i, 20);
    Function function;
    memcpy(&function, &code, sizeof function);
    uint32_t value = i, expected = i;
    for (int times = 0; times < 20; ++times) value = function(value);
    for (int times = 0; times < 20; ++times)
      for (uint32_t k = 0; k < 20; ++k) expected = expected * (2 * (i + k) + 1) + (i ^ k);
    if (value != expected) fail("jit: %u instead of %u", value, expected);
    sum = mix(sum, value);
  }
  return sum;
}

static uint64_t run_patches(void) {
  uint64_t sum = 0;
  code[0] = 0x8D, code[1] = 0x87;  // lea eax, [rdi + constant]
  code[6] = 0xC3;
  for (uint32_t i = 0; i < kPatches; ++i) {
    put(code + 2, i);
    Function function;
    memcpy(&function, &code, sizeof function);
    const uint32_t value = function(7);
    if (value != i + 7) fail("jit: the old code ran: %u instead of %u", value, i + 7);
    sum = mix(sum, value);
  }
  return sum;
}

const struct Row kJitRows[] = {
    {"system.jit-functions", "ns/function", kFunctions, prepare, run_functions},
    {"system.jit-patches", "ns/patch", kPatches, prepare, run_patches},
    {0},
};
