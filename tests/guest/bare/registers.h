#pragma once

#include <stdint.h>

/// Control and model-specific registers, in 32-bit mode as in 64-bit mode: a long is what the mode's registers hold.

static inline unsigned long read_cr0(void) {
  unsigned long v;
  __asm__ volatile("mov %%cr0, %0" : "=r"(v));
  return v;
}
static inline void write_cr0(unsigned long v) {
  __asm__ volatile("mov %0, %%cr0" : : "r"(v) : "memory");
}
static inline unsigned long read_cr2(void) {
  unsigned long v;
  __asm__ volatile("mov %%cr2, %0" : "=r"(v));
  return v;
}
static inline void write_cr3(unsigned long v) {
  __asm__ volatile("mov %0, %%cr3" : : "r"(v) : "memory");
}
static inline unsigned long read_cr4(void) {
  unsigned long v;
  __asm__ volatile("mov %%cr4, %0" : "=r"(v));
  return v;
}
static inline void write_cr4(unsigned long v) {
  __asm__ volatile("mov %0, %%cr4" : : "r"(v) : "memory");
}
static inline uint64_t read_msr(uint32_t msr) {
  uint32_t low, high;
  __asm__ volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
  return low | (uint64_t)high << 32;
}
static inline void write_msr(uint32_t msr, uint64_t v) {
  __asm__ volatile("wrmsr" : : "c"(msr), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
}
