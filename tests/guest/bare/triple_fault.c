// An exception while #DF is delivered shuts the processor down, and the machine resets (SDM vol. 3, 6.15). Whoever
// comes behind it has failed; whoever started the machine sees how it ends.
#include "bare.h"

static void without_idt(void* a) {
  (void)a;
  static const struct {
    uint16_t limit;
    uint64_t base;
  } __attribute__((packed)) kNone = {0, 0};
  __asm__ volatile("lidt %0; ud2" : : "m"(kNone));
}

/// #PF, #DF for its absent gate, and a third for that of #DF.
static void without_gates(void* a) {
  (void)a;
  set_gate_present(14, false);
  set_gate_present(8, false);
  __asm__ volatile("mov (%0), %%al" : : "r"(kWindow + 0x1F0000) : "rax");
}

/// The same by stacks that are not there.
static void without_stacks(void* a) {
  (void)a;
  *(uint64_t*)(tss + 0x24) = kWindow + 0x1F0000;
  __asm__ volatile("mov %0, %%rsp; push %%rax" : : "r"(kWindow + 0x1F0000));
}

static void shut_down(void (*how)(void*)) {
  print("now the third fault\n");
  attempt(how, 0);
  check(false, "survived a triple fault", 0, 0);
}

void test_triple_fault_idt(void) {
  shut_down(without_idt);
}
void test_triple_fault_gates(void) {
  shut_down(without_gates);
}
void test_triple_fault_stacks(void) {
  shut_down(without_stacks);
}
