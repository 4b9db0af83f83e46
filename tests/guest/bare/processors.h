#pragma once

#include "bare.h"

/// Work for all processors of a machine. Numbers are those of their local APICs, from 0 on.

enum { kMostCpus = 16 };

/// Starts the others, unless they have been; how many there are with the caller.
unsigned start_processors(void);
/// Sends the others to sleep by INIT.
void stop_processors(void);
/// Runs `job` on all processors at once, and returns when all are through. The others' interrupts are off but for what
/// the job does.
void on_all(void (*job)(unsigned cpu));
/// Waits for all processors, inside a job.
void meet(void);

static inline void pause_once(void) {
  __asm__ volatile("pause" : : : "memory");
}

enum {
  kPhysical = 0,
  kLogical = 0x800,
  kFixed = 0,
  kLowest = 0x100,
  kNmiMode = 0x400,
  kInit = 0x500,
  kStartUp = 0x600
};
enum { kAssert = 0x4000, kSelf = 0x40000, kAll = 0x80000, kOthers = 0xC0000 };
/// Sends what the interrupt command register says.
static inline void send_ipi(unsigned destination, unsigned command) {
  *apic(0x310) = destination << 24;
  *apic(0x300) = command | kAssert;
  while (*apic(0x300) & 0x1000) pause_once();
}
