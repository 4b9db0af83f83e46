#pragma once

#include "../attempt.h"
#include "../registers.h"
#include "../report.h"

/// 32-bit protected mode, without paging unless a suite turns it on: faults as values, frames to enter.

struct Fault {
  int vector;
  uint32_t error_code, cr2, eip;
};

/// What the processor and start.S have pushed. At level 0, ESP and SS are not pushed, but esp is what it was.
struct Frame {
  uint32_t gs, fs, es, ds, edi, esi, ebp, unused, ebx, edx, ecx, eax;
  uint32_t vector, error_code, eip, cs, eflags, esp, ss;
  uint32_t v86_es, v86_ds, v86_fs, v86_gs;
};

struct Tss {
  uint32_t link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags, eax, ecx, edx, ebx, esp, ebp, esi, edi;
  uint32_t es, cs, ss, ds, fs, gs, ldt;
  uint16_t trap, map;
};

enum { kCode = 8, kData = 0x10, kUserCode = 0x1B, kUserData = 0x23, kTss = 0x28, kFreeSelectors = 0x30 };
extern uint64_t gdt[64], idt[256];
extern struct Tss tss;

struct Fault attempt(void (*action)(void*), void* argument);
/// Goes to where a frame says; what it raises ends it. Registers of that are in last_frame.
struct Fault run(const struct Frame* frame);
extern struct Frame last_frame;
struct Frame supervisor_frame(const void* code);
struct Frame user_frame(const void* code);
/// Asked first about every vector: true makes it return.
extern bool (*on_event)(struct Frame* frame);

static inline uint64_t segment(uint32_t base, uint32_t limit, uint64_t access, uint64_t flags) {
  return (limit & 0xFFFF) | (uint64_t)(base & 0xFFFFFF) << 16 | access << 40 | (uint64_t)(limit >> 16 & 15) << 48 |
         flags << 52 | (uint64_t)(base >> 24) << 56;
}
static inline uint64_t gate(uint16_t selector, const void* offset, uint64_t type, unsigned parameters) {
  const uint32_t at = (uint32_t)offset;
  return (at & 0xFFFF) | (uint64_t)selector << 16 | (uint64_t)parameters << 32 | type << 40 |
         (uint64_t)(at >> 16) << 48;
}

/// Runs a frame and checks the exception that ends it.
void expect(const char* what, const struct Frame* frame, int vector, uint32_t code);

void test_segments(void);
void test_gates(void);
void test_tasks(void);
void test_paging(void);
void test_virtual_8086(void);
void test_hot_segments(void);
void test_real_exceptions(void);
void test_real_limits(void);
void test_real_stacks(void);
void test_real_strings(void);
void test_mode_switches(void);
void test_real_interrupts(void);
