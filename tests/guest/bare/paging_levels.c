// What each level of a walk contributes: rights, A and D, reserved bits, large pages; and what empties the TLB
// (SDM vol. 3, 4.5 to 4.10).
#include "bare.h"

enum { kLarge = 128, kGlobal = 256 };
enum { kSmep = 1 << 20, kSmap = 1 << 21, kPge = 1 << 7, kPcide = 1 << 17 };
#define kBase (1ULL << 39)
/// RAM for pages of 2 MiB, away from everything.
#define kFrame 0x4000000ULL

/// Levels 4 to 1; the first belongs to everybody.
static uint64_t l3[512] __attribute__((aligned(4096))), l2[512] __attribute__((aligned(4096))),
    l1[512] __attribute__((aligned(4096)));
static uint64_t* entries[4];
static unsigned levels;

static uint64_t address;
static uint8_t access_kind;
enum { kRead, kWrite, kFetch };

static void reload(void) {
  uint64_t cr3;
  __asm__ volatile("mov %%cr3, %0; mov %0, %%cr3" : "=r"(cr3) : : "memory");
}

/// Maps kBase by a page of level 1, 2 or 3, all rights.
static void map(unsigned leaf) {
  enum { kAll = kPresent | kWritable | kUser };
  pml4[1] = (uint64_t)l3 | kAll;
  l3[0] = leaf == 3 ? kAll | kLarge : (uint64_t)l2 | kAll;
  l2[0] = leaf == 2 ? kFrame | kAll | kLarge : (uint64_t)l1 | kAll;
  l1[0] = kFrame | kAll;
  entries[0] = &pml4[1];
  entries[1] = &l3[0];
  entries[2] = &l2[0];
  entries[3] = &l1[0];
  levels = 5 - leaf;
  address = kBase + (leaf == 3 ? kFrame : 0);
}

static void touch(void* a) {
  (void)a;
  if (access_kind == kRead) __asm__ volatile("mov (%0), %%al" : : "r"(address) : "rax", "memory");
  if (access_kind == kWrite) __asm__ volatile("movb $0xC3, (%0)" : : "r"(address) : "memory");
  if (access_kind == kFetch) __asm__ volatile("call *%0" : : "r"(address) : "memory");
}

/// INT 80H where user code would come from; reads and writes are by code at kUserAlias.
CODE(user_read, "mov (%rdi), %al; int $0x80");
CODE(user_write, "movb $0xCD, (%rdi); int $0x80");
CODE(user_fetch, "jmp *%rdi");

static struct Fault access(bool user, unsigned kind) {
  access_kind = (uint8_t)kind;
  *(volatile uint16_t*)kFrame = user ? 0x80CD : 0xC3C3;
  if (!user) return attempt(touch, 0);
  struct Frame frame = user_frame(kind == kRead ? user_read : kind == kWrite ? user_write : user_fetch);
  frame.rdi = address;
  return run(&frame);
}

static bool has(unsigned leaf, unsigned bit) {
  uint32_t a = leaf, b, c = 0, d;
  __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  return (leaf == 1 ? c >> bit : leaf == 7 ? b >> bit : d >> bit) & 1;
}

/// A right that one level withholds is withheld; SMEP and SMAP look at what all levels say.
static void rights(unsigned leaf) {
  static const uint64_t kRights[] = {0, kWritable, kUser, kNoExecute};
  for (unsigned level = 0; level < 4; ++level) {
    for (unsigned right = 0; right < 4; ++right) {
      for (unsigned bits = 0; bits < 48; ++bits) {
        const unsigned kind = bits % 3;
        const bool user = bits / 3 & 1, wp = bits / 6 & 1, smep = bits / 12 & 1, smap = bits / 24 & 1;
        map(leaf);
        if (level >= levels) continue;
        if (right != 3) *entries[level] &= ~kRights[right];
        if (right == 3) *entries[level] |= kNoExecute;
        reload();
        const uint64_t cr0 = read_cr0(), cr4 = read_cr4();
        write_cr0(wp ? cr0 : cr0 & ~(1ULL << 16));
        write_cr4(cr4 | (smep ? kSmep : 0));
        *(volatile uint16_t*)kFrame = 0;
        access_kind = 0;
        if (smap) write_cr4(read_cr4() | kSmap);
        // The instructions themselves are in supervisor pages, or run as user.
        const struct Fault fault = access(user, kind);
        write_cr4(cr4);
        write_cr0(cr0);
        const bool user_page = right != 2;
        bool allowed = true;
        if (user) allowed = user_page && !(kind == kWrite && right == 1) && !(kind == kFetch && right == 3);
        if (!user) {
          if (kind == kFetch) allowed = right != 3 && !(smep && user_page);
          if (kind != kFetch && smap && user_page) allowed = false;
          if (kind == kWrite && right == 1 && wp) allowed = false;
        }
        const uint64_t id = leaf << 24 | level << 20 | right << 16 | bits << 8;
        const uint64_t code = 1 | (kind == kWrite ? 2 : 0) | (user ? 4 : 0) | (kind == kFetch ? 16 : 0);
        const uint64_t expected = allowed ? id : id | 14ULL << 32 | code;
        const uint64_t actual = fault.vector == 14 ? id | 14ULL << 32 | fault.error_code : id;
        check(actual == expected, "levels: rights", actual, expected);
        if (allowed) check(fault.vector == (user ? 0x80 : -1), "levels: access", id | (uint8_t)fault.vector, id);
      }
    }
  }
}

static void accessed_and_dirty(unsigned leaf) {
  for (unsigned kind = 0; kind < 3; ++kind) {
    map(leaf);
    reload();
    access(false, kind);
    for (unsigned level = 0; level < levels; ++level) {
      const uint64_t expected = kAccessed | (level + 1 == levels && kind == kWrite ? kDirty : 0);
      check((*entries[level] & (kAccessed | kDirty)) == expected, "levels: A and D",
            leaf << 16 | level << 12 | kind << 8 | (*entries[level] & 0x60), expected);
    }
    if (kind == kWrite) continue;
    // The first write, long after the first read, sets D.
    access(false, kWrite);
    check((*entries[levels - 1] & kDirty) != 0, "levels: D of a later write", leaf << 8 | kind, 0);
    // A, when it has been cleared and the TLB emptied, is set once more.
    for (unsigned level = 0; level < levels; ++level) *entries[level] &= ~(uint64_t)(kAccessed | kDirty);
    flush(address);
    access(false, kRead);
    for (unsigned level = 0; level < levels; ++level)
      check((*entries[level] & kAccessed) != 0, "levels: A once more", leaf << 8 | level, 0);
    check((*entries[levels - 1] & kDirty) == 0, "levels: no D by a read", leaf, 0);
  }
}

static void reserved(unsigned leaf) {
  uint32_t a = 0x80000008, b, c, d;
  __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
  const unsigned width = a & 0xFF;
  for (unsigned level = 0; level < 4; ++level) {
    for (unsigned bit = 7; bit < 64; ++bit) {
      map(leaf);
      if (level >= levels || bit == 8) continue;
      const bool is_leaf = level + 1 == levels;
      const bool without_nxe = bit == 63;
      bool wrong = (bit >= width && bit < 52) || without_nxe;
      if (bit == 7) wrong = level == 0;
      if (is_leaf && leaf > 1) wrong = wrong || (bit >= 13 && bit < (leaf == 2 ? 21 : 30));
      // Other addresses are no error; nor is PS where it makes a large page of a table.
      if (!wrong && bit != 52 && bit != 62 && !(bit == 12 && is_leaf && leaf > 1)) continue;
      *entries[level] |= 1ULL << bit;
      if (without_nxe) write_msr(0xC0000080, read_msr(0xC0000080) & ~0x800ULL);
      reload();
      const struct Fault fault = attempt(touch, 0);
      access_kind = kRead;
      if (without_nxe) write_msr(0xC0000080, read_msr(0xC0000080) | 0x800);
      const uint64_t id = leaf << 24 | level << 16 | bit << 8;
      check(fault.vector == (wrong ? 14 : -1), "levels: reserved bit", id | (uint8_t)fault.vector, id | wrong);
      if (wrong && !under_tcg()) check(fault.error_code == 9, "levels: RSVD", id | fault.error_code, 9);
    }
  }
}

static volatile uint8_t* at(uint64_t offset) {
  return (volatile uint8_t*)(kBase + offset);
}

/// Marks each frame of 2 MiB from kFrame on with its number, at three places.
static const uint32_t kPlaces[] = {0, 0x101000, 0x1FF000};
static void mark(void) {
  for (unsigned frame = 0; frame < 4; ++frame)
    for (unsigned i = 0; i < 3; ++i)
      *(volatile uint8_t*)(kFrame + 0x200000ULL * frame + kPlaces[i]) = (uint8_t)(frame + 1);
}

static void invalidation(void) {
  enum { kRw = kPresent | kWritable };
  mark();
  // One INVLPG anywhere in a large page is for all of it.
  for (unsigned leaf = 2; leaf <= 3; ++leaf) {
    for (unsigned by = 0; by < 3; ++by) {
      for (unsigned global = 0; global < 2; ++global) {
        map(leaf);
        const uint64_t base = leaf == 3 ? kFrame : 0, flags = kRw | kLarge | (global ? kGlobal : 0);
        *entries[levels - 1] = (leaf == 3 ? 0 : kFrame) | flags;
        reload();
        flush(kBase + base);
        for (unsigned i = 0; i < 3; ++i) CHECK_EQUAL("INVLPG: large, before", *at(base + kPlaces[i]), 1);
        if (leaf == 2) *entries[levels - 1] = (kFrame + 0x200000) | flags;
        if (leaf == 3) l3[0] = (uint64_t)l2 | kRw;
        if (leaf == 3) l2[kFrame >> 21] = (kFrame + 0x200000) | kRw | kLarge;
        flush(kBase + base + kPlaces[by]);
        for (unsigned i = 0; i < 3; ++i) CHECK_EQUAL("INVLPG: large, behind", *at(base + kPlaces[i]), 2);
      }
    }
  }
  // A table that gives way to another, to a large page, and back.
  static uint64_t other[512] __attribute__((aligned(4096)));
  map(1);
  other[0] = (kFrame + 0x200000) | kRw;
  reload();
  CHECK_EQUAL("INVLPG: table", *at(0), 1);
  l2[0] = (uint64_t)other | kRw;
  flush(kBase);
  CHECK_EQUAL("INVLPG: another table", *at(0), 2);
  l2[0] = (kFrame + 0x400000) | kRw | kLarge;
  flush(kBase);
  CHECK_EQUAL("INVLPG: a large page", *at(0), 3);
  CHECK_EQUAL("INVLPG: a large page, further on", *at(0x101000), 3);
  l2[0] = (uint64_t)l1 | kRw;
  flush(kBase);
  CHECK_EQUAL("INVLPG: the table again", *at(0), 1);

  // MOV CR3 empties the TLB but for global pages: G counts in the leaf, and with CR4.PGE only.
  static const struct {
    const char* what;
    uint64_t directory, leaf;
    bool pge;
  } kRows[] = {{"CR3: not global", 0, 0, true},
               {"CR3: G of a directory", kGlobal, 0, true},
               {"CR3: G without PGE", 0, kGlobal, false}};
  for (unsigned i = 0; i < sizeof kRows / sizeof *kRows; ++i) {
    write_cr4(kRows[i].pge ? read_cr4() | kPge : read_cr4() & ~(uint64_t)kPge);
    l2[0] = (uint64_t)l1 | kRw | kRows[i].directory;
    l1[0] = kFrame | kRw | kRows[i].leaf;
    flush(kBase);
    CHECK_EQUAL(kRows[i].what, *at(0), 1);
    l1[0] = (kFrame + 0x200000) | kRw | kRows[i].leaf;
    reload();
    CHECK_EQUAL(kRows[i].what, *at(0), 2);
  }
  // CR4.PGE, PAE's neighbours and CR0.PG take global ones along; here PGE both ways.
  write_cr4(read_cr4() | kPge);
  for (unsigned i = 0; i < 2; ++i) {
    l1[0] = kFrame | kRw | kGlobal;
    flush(kBase);
    CHECK_EQUAL("PGE: before", *at(0), 1);
    l1[0] = (kFrame + 0x200000) | kRw | kGlobal;
    write_cr4(read_cr4() & ~(uint64_t)kPge);
    if (i == 1) write_cr4(read_cr4() | kPge);
    CHECK_EQUAL("PGE: behind", *at(0), 2);
    write_cr4(read_cr4() | kPge);
  }
  // Rights are taken away by INVLPG as well: from writing to reading.
  l1[0] = kFrame | kRw;
  flush(kBase);
  *at(0) = 1;
  l1[0] = kFrame | kPresent;
  flush(kBase);
  address = kBase;
  access_kind = kWrite;
  CHECK_EQUAL("INVLPG: no longer writable", attempt(touch, 0).vector, 14);
  // A write through a page that was read first, and is read-only.
  l1[0] = kFrame | kPresent;
  flush(kBase);
  CHECK_EQUAL("read-only", *at(0), 1);
  CHECK_EQUAL("read-only: written", attempt(touch, 0).vector, 14);
  __asm__ volatile("invlpg (%0)" : : "r"(1ULL << 60) : "memory");  // not canonical: nothing happens
}

static uint64_t wanted_cr3, wanted_cr4;
static struct { uint64_t pcid, linear; } descriptor;
static void set_cr3(void* a) {
  (void)a;
  __asm__ volatile("mov %0, %%cr3" : : "r"(wanted_cr3) : "memory");
}
static void set_cr4(void* a) {
  (void)a;
  write_cr4(wanted_cr4);
}
static void invpcid(void* type) {
  __asm__ volatile("invpcid %0, %1" : : "m"(descriptor), "r"(type) : "memory");
}
static int invalidate(uint64_t type, uint64_t pcid, uint64_t linear) {
  descriptor.pcid = pcid;
  descriptor.linear = linear;
  return attempt(invpcid, (void*)type).vector;
}

static void process_contexts(void) {
  enum { kRw = kPresent | kWritable };
  const uint64_t keep = 1ULL << 63, cr3 = (uint64_t)pml4;
  if (has(7, 10)) {
    CHECK_EQUAL("INVPCID: type 4", invalidate(4, 0, 0), 13);
    CHECK_EQUAL("INVPCID: reserved bits", invalidate(2, 1 << 12, 0), 13);
    CHECK_EQUAL("INVPCID: not canonical", invalidate(0, 0, 1ULL << 50), 13);
    CHECK_EQUAL("INVPCID: not canonical, but of no interest", invalidate(1, 0, 1ULL << 50), -1);
    CHECK_EQUAL("INVPCID: a PCID without PCIDE", invalidate(1, 1, 0), 13);
    CHECK_EQUAL("INVPCID: all, without PCIDE", invalidate(2, 1, 0), -1);
  }
  wanted_cr3 = cr3 | keep;
  if (!under_tcg()) CHECK_EQUAL("CR3: bit 63 without PCIDE", attempt(set_cr3, 0).vector, 13);
  wanted_cr4 = read_cr4() | kPcide;
  if (!has(1, 17)) {
    if (!under_tcg()) CHECK_EQUAL("PCIDE: not there", attempt(set_cr4, 0).vector, 13);
    return;
  }
  wanted_cr3 = cr3 | 8;  // PWT
  attempt(set_cr3, 0);
  CHECK_EQUAL("PCIDE: with low bits in CR3", attempt(set_cr4, 0).vector, 13);
  wanted_cr3 = cr3;
  attempt(set_cr3, 0);
  CHECK_EQUAL("PCIDE", attempt(set_cr4, 0).vector, -1);
  wanted_cr3 = cr3 | keep | 5;
  CHECK_EQUAL("CR3: bit 63", attempt(set_cr3, 0).vector, -1);
  uint64_t now;
  __asm__ volatile("mov %%cr3, %0" : "=r"(now));
  CHECK_EQUAL("CR3: bit 63 is not kept", now, cr3 | 5);

  // The translation of PCID 5 goes by whatever is to invalidate it, from there or from elsewhere.
  map(1);
  for (unsigned way = 0; way < 12; ++way) {
    const bool elsewhere = way & 1, global = way / 2 == 5;
    l1[0] = kFrame | kRw | (global ? kGlobal : 0);
    wanted_cr3 = cr3 | 5;
    attempt(set_cr3, 0);
    flush(kBase);
    CHECK_EQUAL("PCID: before", *at(0), 1);
    if (elsewhere) {
      wanted_cr3 = cr3 | 6 | keep;
      attempt(set_cr3, 0);
    }
    l1[0] = (kFrame + 0x200000) | kRw | (global ? kGlobal : 0);
    wanted_cr3 = cr3 | 5 | keep;
    switch (way / 2) {
      case 0:
        CHECK_EQUAL("INVPCID: address", invalidate(0, 5, kBase), -1);
        break;
      case 1:
        CHECK_EQUAL("INVPCID: context", invalidate(1, 5, 0), -1);
        break;
      case 2:
        CHECK_EQUAL("INVPCID: all", invalidate(2, 0, 0), -1);
        break;
      case 3:
        CHECK_EQUAL("INVPCID: all but global", invalidate(3, 0, 0), -1);
        break;
      case 4:
        wanted_cr3 = cr3 | 5;
        break;
      default:
        CHECK_EQUAL("INVPCID: all, global too", invalidate(2, 0, 0), -1);
        break;
    }
    attempt(set_cr3, 0);
    CHECK_EQUAL("PCID: behind", *at(0), 2);
  }
  // PCIDs see the same tables, if it is the same tables that they see.
  l1[0] = kFrame | kRw;
  CHECK_EQUAL("INVPCID: all", invalidate(2, 0, 0), -1);
  for (unsigned pcid = 0; pcid < 8; ++pcid) {
    wanted_cr3 = cr3 | pcid | keep;
    attempt(set_cr3, 0);
    CHECK_EQUAL("PCID: each", *at(0), 1);
  }
  wanted_cr3 = cr3;
  attempt(set_cr3, 0);
  write_cr4(read_cr4() & ~(uint64_t)kPcide);
}

void test_paging_levels(void) {
  for (unsigned leaf = 1; leaf <= 3; ++leaf) {
    if (leaf == 3 && !has(0x80000001, 26)) continue;
    rights(leaf);
    accessed_and_dirty(leaf);
    reserved(leaf);
  }
  invalidation();
  process_contexts();
  pml4[1] = 0;
  reload();
}
