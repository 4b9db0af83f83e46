#include "attempt.h"

#include "report.h"

static void* recovery[5];
static volatile bool under_way;

__attribute__((noinline)) bool comes_to_its_end(void (*action)(void*), void* argument) {
  if (__builtin_setjmp(recovery) != 0) return false;
  under_way = true;
  action(argument);
  under_way = false;
  return true;
}

void end_attempt(int vector, unsigned long ip) {
  if (!under_way) {
    check(false, "exception out of turn", (uint64_t)vector, ip);
    finish();
  }
  under_way = false;
  __builtin_longjmp(recovery, 1);
}
