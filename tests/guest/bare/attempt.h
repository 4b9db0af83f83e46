#pragma once

#include <stdbool.h>
#include <stdint.h>

/// What an exception may end, in 32-bit mode as in 64-bit mode.

/// Runs `action`; whether it came to its end, and was not left by end_attempt(). One at a time, on one processor.
bool comes_to_its_end(void (*action)(void*), void* argument);
/// Leaves what is under way, out of the handler of an exception. If nothing is, that fails the guest, which ends.
_Noreturn void end_attempt(int vector, unsigned long ip);

/// Instructions under a name: CODE(name, "assembly").
#define CODE(name, text)       \
  extern const uint8_t name[]; \
  __asm__(".pushsection .text.code, \"ax\"\n" #name ":\n" text "\n.popsection")
