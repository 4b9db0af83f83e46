// Repeated string instructions: where a fault stops them, and overlapping moves.
#include "bare.h"

static uint8_t page[8192] __attribute__((aligned(4096)));

static void fill(void* argument) {
  __asm__ volatile("rep stosb" : : "a"(0x55), "D"(argument), "c"(100) : "memory");
}

void test_strings(void) {
  window[4] = (uint64_t)page | kPresent | kWritable;
  window[5] = 0;
  flush(kWindow + 4 * 4096);
  flush(kWindow + 5 * 4096);
  const uint64_t end = kWindow + 5 * 4096;
  const struct Fault fault = attempt(fill, (void*)(end - 60));
  CHECK_EQUAL("strings: fault", fault.vector, 14);
  CHECK_EQUAL("strings: error code", fault.error_code, 2);
  CHECK_EQUAL("strings: CR2", fault.cr2, end);
  CHECK_EQUAL("strings: RDI", last_frame.rdi, end);
  CHECK_EQUAL("strings: RCX", last_frame.rcx, 40);
  CHECK_EQUAL("strings: last byte", page[4095], 0x55);

  for (unsigned i = 0; i < 64; ++i) page[i] = (uint8_t)i;
  const void* from = page;
  void* to = page + 1;
  uint64_t count = 32;
  __asm__ volatile("rep movsb" : "+S"(from), "+D"(to), "+c"(count) : : "memory");
  CHECK_EQUAL("strings: an overlapping move repeats", page[32], 0);
  CHECK_EQUAL("strings: and stops", page[33], 33);

  for (unsigned i = 0; i < 64; ++i) page[i] = (uint8_t)i;
  from = page + 31;
  to = page + 32;
  count = 32;
  __asm__ volatile("std; rep movsb; cld" : "+S"(from), "+D"(to), "+c"(count) : : "memory");
  CHECK_EQUAL("strings: backwards", page[32], 31);
  CHECK_EQUAL("strings: backwards, first", page[1], 0);

  from = page;
  count = 64;
  uint8_t equal;
  page[10] = 200;
  to = page;
  __asm__ volatile("repne scasb; sete %0" : "=q"(equal), "+D"(to), "+c"(count) : "a"(200));
  CHECK_EQUAL("strings: found", equal, 1);
  CHECK_EQUAL("strings: count left", count, 53);
}
