// memcpy and memset of the C library, which chooses by what CPUID says, and the string instructions themselves.
#include <string.h>

#include "suite.h"

enum { kSmall = 64, kPage = 4096, kLarge = 1 << 20, kSmallTimes = 1024, kPageTimes = 64 };
static unsigned char from[kLarge], to[kLarge];

static void prepare(void) {
  uint64_t random = 12;
  for (size_t i = 0; i < kLarge; ++i) from[i] = (unsigned char)next_random(&random);
  memset(to, 0, sizeof to);
}

static uint64_t copy(size_t size, int times) {
  volatile size_t length = size;  // or the compiler copies by itself
  for (int i = 0; i < times; ++i) {
    const size_t at = (size_t)i * size % (kLarge - size + 1);
    memcpy(to + at, from + at, length);
  }
  return mix_bytes(to, 64);
}

static uint64_t fill(size_t size, int times) {
  volatile size_t length = size;
  for (int i = 0; i < times; ++i) memset(to + (size_t)i * size % (kLarge - size + 1), 0x5A, length);
  return mix_bytes(to + size - 64, 64);
}

static uint64_t run_copy_small(void) {
  return copy(kSmall, kSmallTimes);
}
static uint64_t run_copy_page(void) {
  return copy(kPage, kPageTimes);
}
static uint64_t run_copy_large(void) {
  return copy(kLarge, 1);
}
static uint64_t run_fill_small(void) {
  return fill(kSmall, kSmallTimes);
}
static uint64_t run_fill_page(void) {
  return fill(kPage, kPageTimes);
}
static uint64_t run_fill_large(void) {
  return fill(kLarge, 1);
}

static uint64_t run_rep_movsb(void) {
  void* target = to;
  const void* source = from;
  size_t count = kLarge;
  __asm__ volatile("rep movsb" : "+D"(target), "+S"(source), "+c"(count) : : "memory");
  return mix_bytes(to + kLarge - 64, 64);
}

static uint64_t run_rep_stosq(void) {
  void* target = to;
  size_t count = kLarge / 8;
  __asm__ volatile("rep stosq" : "+D"(target), "+c"(count) : "a"(0x1234567812345678) : "memory");
  return mix_bytes(to + kLarge - 64, 64);
}

const struct Row kMemoryRows[] = {
    {"floating.memcpy-64", "ns/call", kSmallTimes, prepare, run_copy_small},
    {"floating.memcpy-4K", "ns/call", kPageTimes, prepare, run_copy_page},
    {"floating.memcpy-1M", "ns/call", 1, prepare, run_copy_large},
    {"floating.memset-64", "ns/call", kSmallTimes, prepare, run_fill_small},
    {"floating.memset-4K", "ns/call", kPageTimes, prepare, run_fill_page},
    {"floating.memset-1M", "ns/call", 1, prepare, run_fill_large},
    {"floating.rep-movsb-1M", "ns/call", 1, prepare, run_rep_movsb},
    {"floating.rep-stosq-1M", "ns/call", 1, prepare, run_rep_stosq},
    {0},
};
