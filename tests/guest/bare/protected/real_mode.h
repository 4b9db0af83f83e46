#pragma once

#include "protected.h"

/// Code in real mode, until the exception or interrupt that ends it.

enum {
  kRealCode = 0x1000,   ///< segment of the code under test
  kRealData = 0x4000,   ///< … of 64 KiB of data
  kRealStack = 0x5000,  ///< … of its stack
  kStart = 0x100,       ///< where in its segment code begins, unless a test says otherwise
  kThrough = 0x80       ///< the vector that says: it ran through
};

/// What code in real mode begins with and what it has left. real_mode.S knows the layout.
struct Real {
  uint32_t eax, ecx, edx, ebx, esp, ebp, esi, edi;
  uint16_t ds, es, fs, gs, ss;
  uint16_t flags;   ///< afterwards: those that the handler began with
  uint16_t ip, cs;  ///< where it begins
  /// Selectors that the registers are loaded with in protected mode first, for their limits.
  uint16_t ds_descriptor, es_descriptor, fs_descriptor, gs_descriptor, ss_descriptor;
  uint16_t idt_limit;
  uint32_t idt_base;
  uint32_t vector, cr0;  ///< afterwards
} __attribute__((packed));

/// What the processor has pushed.
struct RealFrame {
  uint16_t ip, cs, flags;
};

/// Makes the interrupt vector table and the descriptors for it.
void set_up_real_mode(void);
/// Segments as above with limits of 64 KiB, SP 8000H, no flags, all other registers 0.
struct Real real_registers_at_first(void);
/// Copies code to `at` of its segment and runs it from there; in real mode, `registers` are what it began with.
struct RealFrame run_real(struct Real* registers, const uint8_t* code, const uint8_t* end, uint16_t at);

/// Physical memory below 1 MiB.
static inline volatile uint8_t* low_memory(uint32_t address) {
  __asm__("" : "+r"(address));
  return (volatile uint8_t*)address;
}
static inline volatile uint8_t* real_memory(uint16_t segment, uint16_t offset) {
  return low_memory(segment * 16U + offset);
}
static inline uint16_t real_word(uint16_t segment, uint16_t offset) {
  return (uint16_t)(*real_memory(segment, offset) | *real_memory(segment, (uint16_t)(offset + 1)) << 8);
}

/// 16-bit instructions under a name.
#define CODE_16(name, text)                  \
  extern const uint8_t name[], name##_end[]; \
  __asm__(".pushsection .text.code, \"ax\"\n.code16\n" #name ":\n" text "\n" #name "_end:\n.code32\n.popsection")
