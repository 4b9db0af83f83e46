// Every combination of a page's rights, the processor's settings and an access (SDM vol. 3, 4.6 and 4.7).
#include "bare.h"

enum Access { kRead, kWrite, kFetch };
enum { kSmepBit = 1 << 20, kSmapBit = 1 << 21, kWpBit = 1 << 16 };

static uint8_t target_page[4096] __attribute__((aligned(4096))), user_code[4096] __attribute__((aligned(4096)));
static uint8_t* const target = (uint8_t*)(kWindow + 4096);

// Each ends with INT 80H: mov al, [rdi] / mov [rdi], al / jmp rdi
static const uint8_t kUserCode[3][4] = {{0x8A, 0x07, 0xCD, 0x80}, {0x88, 0x07, 0xCD, 0x80}, {0xFF, 0xE7}};

static void as_user(void* argument) {
  const uint64_t rip = kWindow + 16 * (uint64_t)argument;
  __asm__ volatile("pushq $0x1B; pushq $0; pushq $2; pushq $0x23; pushq %0; mov %1, %%rdi; iretq"
                   :
                   : "r"(rip), "r"(target)
                   : "rdi", "memory");
}

static void as_supervisor(void* argument) {
  switch ((enum Access)(uint64_t)argument) {
    case kRead:
      __asm__ volatile("mov (%0), %%al" : : "r"(target) : "rax", "memory");
      break;
    case kWrite:
      __asm__ volatile("mov %%al, (%0)" : : "r"(target) : "memory");
      break;
    case kFetch:
      __asm__ volatile("call *%0" : : "r"(target) : "memory");
      break;
  }
}

static void as_supervisor_with_ac(void* argument) {
  __asm__ volatile("stac");
  as_supervisor(argument);
  __asm__ volatile("clac");
}

static bool allowed(uint64_t entry, uint64_t cr0, uint64_t cr4, bool user, bool ac, enum Access access) {
  if ((entry & kPresent) == 0) return false;
  const bool user_page = (entry & kUser) != 0;
  if (user && !user_page) return false;
  if (access == kFetch) return (entry & kNoExecute) == 0 && (user || !user_page || (cr4 & kSmepBit) == 0);
  if (!user && user_page && (cr4 & kSmapBit) != 0 && !ac) return false;
  return access == kRead || (entry & kWritable) != 0 || (!user && (cr0 & kWpBit) == 0);
}

static void one(uint64_t rights, uint64_t cr0, uint64_t cr4, bool user, bool ac, enum Access access) {
  target_page[0] = user ? 0xCD : 0xC3;
  target_page[1] = 0x80;
  window[1] = (uint64_t)target_page | rights;
  flush((uint64_t)target);
  write_cr0(cr0);
  write_cr4(cr4);
  const struct Fault fault = attempt(user ? as_user
                                     : ac ? as_supervisor_with_ac
                                          : as_supervisor,
                                     (void*)(uint64_t)access);
  write_cr0(read_cr0() | kWpBit);
  write_cr4(read_cr4() & ~(uint64_t)(kSmepBit | kSmapBit));
  const uint64_t flags = window[1] & (kAccessed | kDirty);
  const uint64_t id = rights >> 63 << 32 | (rights & 7) << 8 | (uint64_t)user << 16 | (uint64_t)ac << 17 |
                      (cr0 >> 16 & 1) << 18 | (cr4 >> 20 & 3) << 20 | (uint64_t)access;
  if (allowed(rights, cr0, cr4, user, ac, access)) {
    check(fault.vector == (user ? 0x80 : -1), "paging: allowed access",
          (uint64_t)fault.vector << 48 | fault.error_code << 40 | id, id);
    CHECK_EQUAL("paging: A and D", flags, kAccessed | (access == kWrite ? kDirty : 0));
    return;
  }
  const uint64_t code = (rights & kPresent) | (access == kWrite ? 2 : 0) | (user ? 4 : 0) | (access == kFetch ? 16 : 0);
  check(fault.vector == 14 && fault.error_code == code, "paging: error code", fault.error_code << 40 | id,
        code << 40 | id);
  CHECK_EQUAL("paging: CR2", fault.cr2, (uint64_t)target);
  CHECK_EQUAL("paging: A and D after a fault", flags, 0);
}

static void reserved_bits(void) {
  window[1] = (uint64_t)target_page | kPresent | kWritable | 1ULL << 51;
  flush((uint64_t)target);
  const struct Fault fault = attempt(as_supervisor, (void*)kRead);
  CHECK_EQUAL("paging: reserved bit", fault.vector, 14);
  if (!under_tcg()) CHECK_EQUAL("paging: reserved bit's error code", fault.error_code, 9);
}

/// A stale translation may be used until INVLPG, and must not be after it.
static void invalidation(void) {
  static uint8_t other[4096] __attribute__((aligned(4096)));
  target_page[8] = 1;
  other[8] = 2;
  window[1] = (uint64_t)target_page | kPresent | kWritable;
  flush((uint64_t)target);
  CHECK_EQUAL("paging: first page", ((volatile uint8_t*)target)[8], 1);
  window[1] = (uint64_t)other | kPresent | kWritable;
  flush((uint64_t)target);
  CHECK_EQUAL("paging: second page", ((volatile uint8_t*)target)[8], 2);
  window[1] = (uint64_t)target_page | kPresent | kWritable;
  uint64_t cr3;
  __asm__ volatile("mov %%cr3, %0; mov %0, %%cr3" : "=r"(cr3) : : "memory");
  CHECK_EQUAL("paging: first page again", ((volatile uint8_t*)target)[8], 1);
  // More rights need no invalidation: a fault looks again.
  window[1] = 0;
  flush((uint64_t)target);
  CHECK_EQUAL("paging: absent", attempt(as_supervisor, (void*)kRead).vector, 14);
  window[1] = (uint64_t)target_page | kPresent;
  CHECK_EQUAL("paging: present without INVLPG", attempt(as_supervisor, (void*)kRead).vector, -1);
}

void test_paging(void) {
  for (int access = 0; access < 3; ++access)
    for (int i = 0; i < 4; ++i) user_code[16 * access + i] = kUserCode[access][i];
  window[0] = (uint64_t)user_code | kPresent | kUser;
  uint32_t features, a = 7, c = 0, d;
  __asm__ volatile("cpuid" : "+a"(a), "=b"(features), "+c"(c), "=d"(d));
  const bool smep = (features >> 7 & 1) != 0, smap = (features >> 20 & 1) != 0;
  for (unsigned bits = 0; bits < 1024; ++bits) {
    const uint64_t rights = (bits & 7) | (bits >> 3 & 1 ? kNoExecute : 0);
    const uint64_t cr0 = bits >> 4 & 1 ? read_cr0() | kWpBit : read_cr0() & ~(uint64_t)kWpBit;
    const uint64_t cr4 = read_cr4() | (bits >> 5 & 1 ? kSmepBit : 0) | (bits >> 6 & 1 ? kSmapBit : 0);
    const bool user = bits >> 7 & 1, ac = bits >> 8 & 1;
    if ((bits >> 9 & 1) || ((cr4 & kSmepBit) && !smep) || ((cr4 & kSmapBit) && !smap) || (ac && (user || !smap)))
      continue;
    for (int access = 0; access < 3; ++access) one(rights, cr0, cr4, user, ac, (enum Access)access);
  }
  reserved_bits();
  invalidation();
}
