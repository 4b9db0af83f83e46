// 32-bit and PAE paging (SDM vol. 3, 4.3 and 4.4).
#include "protected.h"

enum { kPresent = 1, kWritable = 2, kUser = 4, kAccessed = 32, kDirty = 64, kLarge = 128 };
enum { kPse = 16, kPae = 32, kSmep = 1 << 20, kWp = 1 << 16, kDone = 0x80, kPf = 14, kGp = 13 };
#define kPg 0x80000000U
#define kWindow 0x40000000U
#define kFrame 0x4000000U
#define kNoExecute (1ULL << 63)

CODE(user_read, "mov (%edi), %al; int $0x80");
CODE(user_write, "movb $0xCD, (%edi); int $0x80");
CODE(user_fetch, "jmp *%edi");
static const uint8_t* const kCodes[3] = {user_read, user_write, user_fetch};

static uint32_t directory[1024] __attribute__((aligned(4096))), table[1024] __attribute__((aligned(4096)));
static uint64_t pae_directory[4][512] __attribute__((aligned(4096))), pae_table[512] __attribute__((aligned(4096)));
static uint64_t pointers[8] __attribute__((aligned(64)));

static void flush(uint32_t address) {
  __asm__ volatile("invlpg (%0)" : : "r"(address) : "memory");
}

static bool has_extended_edx(unsigned bit) {
  uint32_t a = 0x80000001, b, c, d;
  __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
  return d >> bit & 1;
}

/// An access to kWindow, where INT 80H is.
static struct Fault access(bool user, unsigned kind) {
  struct Frame frame = user ? user_frame(kCodes[kind]) : supervisor_frame(kCodes[kind]);
  frame.edi = kWindow;
  return run(&frame);
}

/// `bits`: rights that the two levels give.
static void one(bool pae, bool large, unsigned bits, bool user, bool wp, unsigned kind) {
  enum { kAll = kPresent | kWritable | kUser };
  static const uint8_t kRights[4] = {kPresent, kPresent | kWritable, kPresent | kUser, kAll};
  const unsigned upper = kRights[bits & 3], lower = large ? upper : kRights[bits >> 2 & 3];
  const bool nx_upper = pae && (bits & 16), nx_lower = pae && !large && (bits & 32);
  if (pae) {
    pae_directory[1][0] = (large ? kFrame | kLarge : (uint32_t)pae_table) | upper | (nx_upper ? kNoExecute : 0);
    pae_table[0] = kFrame | lower | (nx_lower ? kNoExecute : 0);
  } else {
    directory[kWindow >> 22] = (large ? kFrame | kLarge : (uint32_t)table) | upper;
    table[0] = kFrame | lower;
  }
  flush(kWindow);
  const uint32_t cr0 = read_cr0();
  write_cr0(wp ? cr0 | kWp : cr0 & ~kWp);
  const struct Fault fault = access(user, kind);
  write_cr0(cr0);
  const bool user_page = upper & lower & kUser, writable = upper & lower & kWritable, nx = nx_upper || nx_lower;
  bool allowed = true;
  if (user && !user_page) allowed = false;
  if (kind == 1 && !writable && (user || wp)) allowed = false;
  if (kind == 2 && nx) allowed = false;
  const uint32_t code = 1 | (kind == 1 ? 2 : 0) | (user ? 4 : 0) | (kind == 2 && pae ? 16 : 0);
  const uint64_t id =
      (uint64_t)pae << 60 | (uint64_t)large << 56 | (uint64_t)bits << 40 | user << 20 | wp << 16 | kind << 8;
  const uint64_t expected = id | (allowed ? kDone : code << 12 | kPf);
  check((id | fault.error_code << 12 | (uint8_t)fault.vector) == expected, "paging: rights",
        id | fault.error_code << 12 | (uint8_t)fault.vector, expected);
  if (!allowed) {
    CHECK_EQUAL("paging: CR2", fault.cr2, kWindow);
    return;
  }
  const uint64_t top = pae ? pae_directory[1][0] : directory[kWindow >> 22], leaf = large ? top
                                                                                    : pae ? pae_table[0]
                                                                                          : table[0];
  CHECK_EQUAL("paging: A of the directory", top & kAccessed, kAccessed);
  CHECK_EQUAL("paging: A and D", leaf & (kAccessed | kDirty), kAccessed | (kind == 1 ? kDirty : 0));
  if (!large) CHECK_EQUAL("paging: no D in the directory", top & kDirty, 0);
}

static void all_rights(bool pae) {
  for (unsigned large = 0; large < 2; ++large)
    for (unsigned bits = 0; bits < (pae ? 64U : 16U); ++bits)
      for (unsigned more = 0; more < 12; ++more) one(pae, large, bits, more & 1, more & 2, more / 4);
}

static void bits32(void) {
  for (unsigned i = 0; i < 32; ++i) directory[i] = i << 22 | kPresent | kWritable | kUser | kLarge;
  write_cr4(read_cr4() | kPse);
  write_cr3((uint32_t)directory);
  write_cr0(read_cr0() | kPg | kWp);
  all_rights(false);
  // Without PSE, bit 7 of a directory entry means nothing.
  static uint32_t low[1024] __attribute__((aligned(4096)));
  uint32_t saved[32];
  for (unsigned i = 0; i < 1024; ++i) low[i] = i << 12 | 7;
  for (unsigned i = 0; i < 32; ++i) saved[i] = directory[i];
  directory[0] = (uint32_t)low | 7;
  table[0] = kFrame | 7;
  directory[kWindow >> 22] = (uint32_t)table | 7 | kLarge;
  write_cr3((uint32_t)directory);
  write_cr4(read_cr4() & ~kPse);
  *(volatile uint8_t*)kWindow;
  CHECK_EQUAL("PSE: off", access(true, 0).vector, kDone);
  write_cr4(read_cr4() | kPse);
  // Now that it means something, the table's address has reserved bits of a page of 4 MiB.
  directory[kWindow >> 22] = kFrame | 1 << 21 | 7 | kLarge;
  flush(kWindow);
  struct Fault fault = access(true, 0);
  CHECK_EQUAL("PSE: reserved bit", fault.vector, kPf);
  if (!under_tcg()) CHECK_EQUAL("PSE: reserved bit, error code", fault.error_code, 13);
  // Across a page of 4 MiB's end.
  directory[kWindow >> 22] = kFrame | 7 | kLarge;
  directory[(kWindow >> 22) + 1] = 0;
  flush(kWindow);
  flush(kWindow + 0x400000);
  CODE(read_across, "mov -2(%edi), %eax; int $0x80");
  struct Frame frame = user_frame(read_across);
  frame.edi = kWindow + 0x400000;
  fault = run(&frame);
  CHECK_EQUAL("PSE: into the next", fault.vector, kPf);
  CHECK_EQUAL("PSE: into the next, CR2", fault.cr2, kWindow + 0x400000);
  for (unsigned i = 0; i < 32; ++i) directory[i] = saved[i];
  write_cr0(read_cr0() & ~kPg);
}

static void set_cr3(void* a) {
  write_cr3((uint32_t)a);
}

static void pae(void) {
  for (unsigned i = 0; i < 64; ++i) pae_directory[0][i] = (uint64_t)i << 21 | 0x87;
  // The table of pointers may lie on any 32 bytes: here not at the start of a page.
  uint64_t* const pdpt = pointers + 4;
  for (unsigned i = 0; i < 4; ++i) pdpt[i] = (uint32_t)pae_directory[i] | kPresent;
  write_cr4((read_cr4() & ~kPse) | kPae);
  const bool nx = has_extended_edx(20);
  if (nx) write_msr(0xC0000080, 0x800);
  write_cr3((uint32_t)pdpt);
  write_cr0(read_cr0() | kPg | kWp);
  if (nx) all_rights(true);

  // Pointers are read with CR3, and not again before.
  pae_directory[1][0] = kFrame | 0x87;
  flush(kWindow);
  CHECK_EQUAL("PAE: before", access(true, 0).vector, kDone);
  pdpt[1] = 0;
  flush(kWindow);
  if (!under_tcg()) CHECK_EQUAL("PAE: the pointers are the registers'", access(true, 0).vector, kDone);
  write_cr3((uint32_t)pdpt);
  struct Fault fault = access(true, 0);
  CHECK_EQUAL("PAE: no pointer", fault.vector, kPf);
  CHECK_EQUAL("PAE: no pointer, error code", fault.error_code, 4);
  // Reserved bits of pointers are for MOV CR3 to find, present or not at all.
  static const uint64_t kReserved[] = {2, 4, 0x20, 0x80, 0x100, 1ULL << 51, kNoExecute};
  for (unsigned i = 0; i < sizeof kReserved / sizeof *kReserved; ++i) {
    if (under_tcg()) break;
    pdpt[1] = (uint32_t)pae_directory[1] | kPresent | kReserved[i];
    check(attempt(set_cr3, pdpt).vector == kGp, "PAE: reserved bit of a pointer", i, kGp);
    pdpt[1] &= ~(uint64_t)kPresent;
    check(attempt(set_cr3, pdpt).vector == -1, "PAE: reserved bit of an absent one", i, 0);
  }
  pdpt[1] = (uint32_t)pae_directory[1] | kPresent | 0x18 | 0xE00;  // PWT, PCD, ignored
  CHECK_EQUAL("PAE: other bits", attempt(set_cr3, pdpt).vector, -1);
  CHECK_EQUAL("PAE: again", access(true, 0).vector, kDone);
  // Reserved bits further down.
  static const uint64_t kEntry[] = {1ULL << 52, 1ULL << 62, 1ULL << 51, 1 << 13, 1 << 20};
  for (unsigned i = 0; i < sizeof kEntry / sizeof *kEntry; ++i) {
    pae_directory[1][0] = kFrame | 0x87 | kEntry[i];
    flush(kWindow);
    fault = access(true, 0);
    if (under_tcg() && i < 2) continue;
    check(fault.vector == kPf, "PAE: reserved bit", i, kPf);
    if (!under_tcg()) check(fault.error_code == 13, "PAE: reserved bit, error code", fault.error_code, 13);
  }
  // All four gigabytes: the topmost page.
  pae_directory[3][511] = kFrame | 0x87;
  flush(0xFFFFF000);
  *(volatile uint32_t*)(kFrame + 0x1FFFFC) = 0x1234;
  CHECK_EQUAL("PAE: the last page", *(volatile uint32_t*)0xFFFFFFFC, 0x1234);
  write_cr0(read_cr0() & ~kPg);
  write_cr4(read_cr4() & ~kPae);
  if (nx) write_msr(0xC0000080, 0);
}

void test_paging(void) {
  *(volatile uint16_t*)kFrame = 0x80CD;
  bits32();
  pae();
}
