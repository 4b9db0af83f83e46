// What becomes of an exception while another is delivered (SDM vol. 3, table 6-5), and what it pushes.
#include "bare.h"

enum { kDe = 0, kBp = 3, kUd = 6, kDf = 8, kNp = 11, kGp = 13, kPf = 14, kSoft = 0x61 };
#define kNowhere (kWindow + 0x1F0000)

CODE(raise_de, "xor %ecx, %ecx; xor %edx, %edx; fault_de: div %ecx");
CODE(raise_ud, "ud2");
CODE(raise_gp, "mov %eax, %ds");
CODE(raise_pf, "mov (%rdi), %al");
CODE(raise_soft, "int $0x61");
CODE(raise_bp, "int3");

static const struct First {
  const uint8_t* code;
  uint8_t vector;
  enum { kBenign, kContributory, kPageFault, kSoftware } kind;
  uint8_t offset;  // of the instruction in the code
} kFirst[] = {
    {raise_de, kDe, kContributory, 4}, {raise_gp, kGp, kContributory, 0}, {raise_gp, kNp, kContributory, 0},
    {raise_ud, kUd, kBenign, 0},       {raise_pf, kPf, kPageFault, 0},    {raise_soft, kSoft, kSoftware, 0},
    {raise_bp, kBp, kSoftware, 0},
};

enum Second { kAbsentGate, kNullCode, kBadStack };

static void one(const struct First* first, enum Second second) {
  const struct Gate saved = idt[first->vector];
  struct Gate* gate = &idt[first->vector];
  if (second == kAbsentGate) gate->low &= ~(1ULL << 47);
  if (second == kNullCode) gate->low &= ~0xFFFF0000ULL;
  if (second == kBadStack) gate->low |= 5ULL << 32;
  *(uint64_t*)(tss + 0x24 + 8 * 4) = kNowhere + 0x800;
  gdt[kFreeSelectors / 8] = 0x00CF12000000FFFF;  // absent data

  struct Frame frame = supervisor_frame(first->code);
  frame.rax = first->vector == kNp ? kFreeSelectors : 0x1000;
  frame.rdi = kNowhere;
  const struct Fault fault = run(&frame);
  *gate = saved;

  static const uint8_t kVectors[] = {[kAbsentGate] = kNp, [kNullCode] = kGp, [kBadStack] = kPf};
  const bool ext = first->kind != kSoftware;
  const bool contributory = second != kBadStack;
  int vector = kVectors[second];
  uint64_t code = second == kAbsentGate ? first->vector * 8 + 2 + ext : second == kNullCode ? ext : 2;
  if ((first->kind == kContributory && contributory) || first->kind == kPageFault) {
    vector = kDf;
    code = 0;
  }
  // TCG knows no EXT, and takes an absent gate's number for a selector.
  if (under_tcg() && contributory) code = fault.error_code;
  const uint64_t id = (uint64_t)first->vector << 8 | second;
  check(fault.vector == vector && fault.error_code == code, "double fault",
        (uint64_t)fault.vector << 48 | fault.error_code << 32 | id, (uint64_t)vector << 48 | code << 32 | id);
  CHECK_EQUAL("double fault: RIP", fault.rip, frame.rip + first->offset);
  if (second == kBadStack) CHECK_EQUAL("double fault: CR2", fault.cr2, kNowhere + 0x800 - 8);
}

void test_double_faults(void) {
  for (unsigned i = 0; i < sizeof kFirst / sizeof *kFirst; ++i) {
    for (int second = kAbsentGate; second <= kBadStack; ++second) one(&kFirst[i], (enum Second)second);
  }
}
