#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "attempt.h"
#include "registers.h"
#include "report.h"

/// What freestanding guests need: faults as values, frames to enter, and memory to map.

/// The exception or interrupt that ended an attempt; vector -1 when none did.
struct Fault {
  int vector;
  uint64_t error_code, cr2, rip, rflags, rsp;
};

/// What the processor and start.S have pushed.
struct Frame {
  uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
  uint64_t vector, error_code, rip, cs, rflags, rsp, ss;
};

/// Runs `action`; what it raises ends it.
struct Fault attempt(void (*action)(void*), void* argument);
/// Registers of the last fault.
extern struct Frame last_frame;
/// Called for interrupts of vectors from 32 on, which return; attempts see the others.
extern void (*on_interrupt)(int vector);
/// Asked first about every vector: true makes it return, false leaves it to the above.
extern bool (*on_event)(struct Frame* frame);

/// Goes to where a frame says, at any privilege and in any mode, with its registers; what it raises ends it.
struct Fault run(const struct Frame* frame);
/// A frame for supervisor code, or for user code, whose addresses are those of kUserAlias. Each has a stack of its own.
struct Frame supervisor_frame(const void* code);
struct Frame user_frame(const void* code);
/// Memory from 0 on as user code sees it; supervisor code may look as well.
#define kUserAlias 0x80000000ULL

/// A window of 512 pages at kWindow, whose page table is the caller's to write.
enum { kPresent = 1, kWritable = 2, kUser = 4, kAccessed = 32, kDirty = 64 };
#define kNoExecute (1ULL << 63)
#define kWindow 0x40000000ULL
extern uint64_t window[512];
static inline void flush(uint64_t linear) {
  __asm__ volatile("invlpg (%0)" : : "r"(linear) : "memory");
}

static inline volatile uint32_t* apic(unsigned reg) {
  return (volatile uint32_t*)(0xFEE00000ULL + reg);
}

enum { kCode64 = 8, kData = 0x10, kUserData = 0x1B, kUserCode64 = 0x23, kTss = 0x28, kFreeSelectors = 0x38 };
extern uint64_t gdt[64], pml4[512], pdpt[512], page_directory[512];
extern uint8_t tss[104];
/// 16 bytes for each vector.
struct Gate {
  uint64_t low, high;
};
extern struct Gate idt[256];

/// IDT entries are present unless a test says otherwise.
void set_gate_present(int vector, bool present);

void test_paging(void);
void test_exceptions(void);
void test_code_writing(void);
void test_code_reading(void);
void test_strings(void);
void test_strings_interrupted(void);
void test_interrupts(void);
void test_selectors(void);
void test_gates(void);
void test_debug(void);
void test_syscalls(void);
void test_double_faults(void);
void test_priorities(void);
void test_shadows(void);
void test_paging_levels(void);
void test_fpu(void);
void test_xstate(void);
void test_ipis(void);
void test_shared_memory(void);
void test_apic(void);
void test_io_apic(void);
void test_pic(void);
void test_pit(void);
void test_rtc(void);
void test_triple_fault_idt(void);
void test_triple_fault_gates(void);
void test_triple_fault_stacks(void);
void test_flags(void);
void test_code_mapping(void);
void test_toggles(void);
void test_interrupted(void);
