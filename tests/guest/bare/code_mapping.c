// Code whose pages are mapped anew, lose their rights, or are written by every kind of store, after it has been
// executed often (SDM vol. 3, 4.10.4, 8.1.3, 11.6).
#include "bare.h"

enum { kRw = kPresent | kWritable, kOften = 300 };
#define kFirst (kWindow + 32 * 4096)
#define kSecond (kWindow + 33 * 4096)

static uint8_t frames[4][4096] __attribute__((aligned(4096)));

static void put(uint8_t* at, const uint8_t* code, unsigned size) {
  for (unsigned i = 0; i < size; ++i) ((volatile uint8_t*)at)[i] = code[i];
}
static void put_32(uint8_t* at, uint32_t value) {
  for (unsigned i = 0; i < 4; ++i) ((volatile uint8_t*)at)[i] = (uint8_t)(value >> 8 * i);
}
/// mov eax, value; ret
static void put_constant(uint8_t* at, uint32_t value) {
  at[0] = 0xB8;
  put_32(at + 1, value);
  at[5] = 0xC3;
}
static uint32_t call(uint64_t at) {
  return ((uint32_t(*)(void))at)();
}
static void reload(void) {
  uint64_t cr3;
  __asm__ volatile("mov %%cr3, %0; mov %0, %%cr3" : "=r"(cr3) : : "memory");
}
static void toggle_pge(void) {
  write_cr4(read_cr4() & ~0x80ULL);
  write_cr4(read_cr4() | 0x80);
}

static void map(unsigned page, unsigned frame, uint64_t rights) {
  window[page] = (uint64_t)frames[frame] | rights;
}

static void fetch(void* at) {
  call((uint64_t)at);
}

/// How the first page goes to the second, at its start, and comes back.
static const struct Way {
  const char* what;
  uint8_t code[24], size;
} kWays[] = {
    {"jump", {0xE9, 0xFB, 0x0F, 0, 0}, 5},
    {"conditional jump", {0x31, 0xC0, 0x0F, 0x84, 0xF8, 0x0F, 0, 0}, 8},
    {"call", {0xE8, 0xFB, 0x0F, 0, 0, 0xC3}, 6},
    {"indirect jump", {0x48, 0x8D, 0x05, 0xF9, 0x0F, 0, 0, 0xFF, 0xE0}, 9},
    {"indirect call", {0x48, 0x8D, 0x05, 0xF9, 0x0F, 0, 0, 0xFF, 0xD0, 0xC3}, 10},
    {"return", {0x48, 0x8D, 0x05, 0xF9, 0x0F, 0, 0, 0x50, 0xC3}, 9},
};

static void remapped(uint64_t global) {
  put_constant(frames[1], 1);
  put_constant(frames[2], 2);
  for (unsigned i = 0; i < sizeof kWays / sizeof *kWays; ++i) {
    put(frames[0], kWays[i].code, kWays[i].size);
    for (unsigned how = 0; how < 3; ++how) {
      if (global && how == 1) continue;  // MOV CR3 keeps global ones
      map(32, 0, kRw | global);
      map(33, 1, kRw | global);
      flush(kFirst);
      flush(kSecond);
      for (unsigned n = 0; n < kOften; ++n)
        if (call(kFirst) != 1) check(false, kWays[i].what, n, how);
      for (unsigned round = 0; round < 4; ++round) {
        map(33, round % 2 ? 1 : 2, kRw | global);
        if (how == 0) flush(kSecond);
        if (how == 1) reload();
        if (how == 2) toggle_pge();
        const uint32_t wanted = round % 2 ? 1 : 2;
        for (unsigned n = 0; n < 3; ++n) {
          const uint32_t value = call(kFirst);
          check(value == wanted, kWays[i].what, (uint64_t)how << 32 | value, wanted);
        }
      }
      // Without its rights it faults, at the address that it was to be fetched from, with the way there executed.
      static const struct {
        uint64_t rights, code;
        uint64_t cr4;
      } kLost[] = {{0, 0x10, 0}, {kRw | kNoExecute, 0x11, 0}, {kRw | kUser, 0x11, 1 << 20}};
      for (unsigned lost = 0; lost < 3; ++lost) {
        map(33, 1, kRw | global);
        flush(kSecond);
        call(kFirst);
        map(33, 1, kLost[lost].rights | (kLost[lost].rights ? global : 0));
        if (how == 0) flush(kSecond);
        if (how == 1) reload();
        if (how == 2) toggle_pge();
        write_cr4(read_cr4() | kLost[lost].cr4);
        const struct Fault fault = attempt(fetch, (void*)kFirst);
        write_cr4(read_cr4() & ~kLost[lost].cr4);
        check(fault.vector == 14 && fault.error_code == kLost[lost].code, kWays[i].what,
              (uint64_t)fault.vector << 32 | fault.error_code | lost << 16, kLost[lost].code);
        CHECK_EQUAL(kWays[i].what, fault.cr2, kSecond);
        CHECK_EQUAL(kWays[i].what, fault.rip, kSecond);
      }
    }
  }
}

/// An instruction that goes over into the next page.
static void across(void) {
  for (unsigned split = 1; split < 6; ++split) {
    const uint64_t at = kSecond - split;
    map(32, 0, kRw);
    map(33, 1, kRw);
    flush(kFirst);
    flush(kSecond);
    for (unsigned frame = 1; frame < 3; ++frame) {
      // The rest of it is in the second page's frame.
      uint8_t whole[6] = {0xB8, (uint8_t)frame, (uint8_t)frame, (uint8_t)frame, (uint8_t)frame, 0xC3};
      put(frames[frame], whole + split, 6 - split);
    }
    uint8_t start[6] = {0xB8, 9, 9, 9, 9, 0xC3};
    put(frames[0] + 4096 - split, start, split);
    for (unsigned n = 0; n < kOften; ++n) call(at);
    for (unsigned round = 0; round < 6; ++round) {
      const unsigned frame = round % 2 + 1;
      map(33, frame, kRw);
      if (round % 3) {
        flush(kSecond);
      } else {
        reload();
      }
      uint32_t wanted = 0;
      for (unsigned byte = 0; byte < 4; ++byte) wanted |= (byte + 1 < split ? 9U : frame) << 8 * byte;
      CHECK_EQUAL("across pages: remapped", call(at), wanted);
    }
    map(33, 1, 0);
    flush(kSecond);
    const struct Fault fault = attempt(fetch, (void*)at);
    CHECK_EQUAL("across pages: absent", fault.vector, 14);
    CHECK_EQUAL("across pages: absent, CR2", fault.cr2, kSecond);
    CHECK_EQUAL("across pages: absent, RIP", fault.rip, split == 5 ? kSecond : at);
  }
}

/// One physical page at two addresses: what RIP says is where it is.
static void aliases(void) {
  static const uint8_t kWhere[] = {0x48, 0x8D, 0x05, 0, 0, 0, 0, 0xC3};  // lea rax, [rip]; ret
  put(frames[3], kWhere, sizeof kWhere);
  map(34, 3, kRw);
  map(35, 3, kRw);
  flush(kWindow + 34 * 4096);
  flush(kWindow + 35 * 4096);
  for (unsigned n = 0; n < 100; ++n) {
    const uint64_t at = kWindow + (34 + n % 2) * 4096;
    const uint64_t value = ((uint64_t(*)(void))at)();
    if (value != at + 7) check(false, "aliases: RIP", value, at + 7);
  }
}

/// Two address spaces that differ in what is at kFirst.
static void address_spaces(void) {
  static uint64_t tables[3][512] __attribute__((aligned(4096)));
  static uint64_t other_window[512] __attribute__((aligned(4096)));
  for (unsigned i = 0; i < 512; ++i) {
    tables[0][i] = pml4[i];
    tables[1][i] = pdpt[i];
    tables[2][i] = ((uint64_t*)(pdpt[1] & ~0xFFFULL))[i];
    other_window[i] = window[i];
  }
  tables[0][0] = (uint64_t)tables[1] | 7;
  tables[1][1] = (uint64_t)tables[2] | 7;
  tables[2][0] = (uint64_t)other_window | 7;
  put_constant(frames[1], 1);
  put_constant(frames[2], 2);
  map(32, 1, kRw | kUser);
  other_window[32] = (uint64_t)frames[2] | kRw | kUser;
  uint64_t cr3;
  __asm__ volatile("mov %%cr3, %0" : "=r"(cr3));
  uint32_t a = 1, b, c, d;
  __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "=c"(c), "=d"(d));
  const bool pcids = c >> 17 & 1;
  for (unsigned with_pcids = 0; with_pcids <= (unsigned)pcids; ++with_pcids) {
    if (with_pcids) write_cr4(read_cr4() | 1 << 17);
    for (unsigned n = 0; n < 100; ++n) {
      uint64_t next = n % 2 ? (uint64_t)tables[0] : cr3;
      // Kept translations are each PCID's own; the first two times nothing is to be kept.
      if (with_pcids) next |= (n % 2 + 1) | (n >= 2 ? 1ULL << 63 : 0);
      __asm__ volatile("mov %0, %%cr3" : : "r"(next) : "memory");
      const uint32_t value = call(kFirst);
      if (value != n % 2 + 1) check(false, "address spaces", value, n % 2 + 1);
    }
    __asm__ volatile("mov %0, %%cr3" : : "r"(cr3) : "memory");
    if (with_pcids) write_cr4(read_cr4() & ~(1ULL << 17));
  }
  check(true, "address spaces", 0, 0);
}

// --- Stores of every kind -----------------------------------------------------------------------------------------

// The target is at RDI: mov eax, constant; ret, in 16 aligned bytes. What is stored is in XMM0, RBX:RCX or RAX.
CODE(s_mov, "mov %rax, (%rdi); ret");
CODE(s_mov_4, "movl %eax, (%rdi); ret");
CODE(s_byte, "movb $0x77, 1(%rdi); ret");
CODE(s_push, "mov %rsp, %rdx; lea 8(%rdi), %rsp; push %rax; mov %rdx, %rsp; ret");
CODE(s_xchg, "xchg %rax, (%rdi); ret");
CODE(s_lock, "mov (%rdi), %rdx; sub %rdx, %rax; lock add %rax, (%rdi); ret");
CODE(s_cmpxchg, "mov %rax, %rdx; mov (%rdi), %rax; lock cmpxchg %rdx, (%rdi); ret");
CODE(s_cmpxchg16b, "mov %rax, %rbx; mov $0xC3, %ecx; mov (%rdi), %rax; mov 8(%rdi), %rdx; lock cmpxchg16b (%rdi); ret");
CODE(s_stos, "stosq; ret");
CODE(s_rep_stos, "push %rcx; mov $1, %ecx; rep stosq; pop %rcx; ret");
CODE(s_movs, "push %rax; mov %rsp, %rsi; movsq; pop %rax; ret");
CODE(s_rep_movs, "push %rax; mov %rsp, %rsi; mov $8, %ecx; rep movsb; pop %rax; ret");
CODE(s_movaps, "movq %rax, %xmm0; movaps %xmm0, (%rdi); ret");
CODE(s_movq, "movq %rax, %xmm0; movq %xmm0, (%rdi); ret");
CODE(s_movnti, "movnti %rax, (%rdi); sfence; ret");
CODE(s_vmov, "vmovq %rax, %xmm0; vmovdqu %xmm0, (%rdi); ret");
CODE(s_maskmov, "movq %rax, %xmm0; pcmpeqd %xmm1, %xmm1; maskmovdqu %xmm1, %xmm0; ret");
CODE(s_fistp, "push %rax; fildll (%rsp); fistpll (%rdi); pop %rax; ret");
CODE(s_pop, "push %rax; popq (%rdi); ret");
CODE(s_add, "mov (%rdi), %rdx; sub %rdx, %rax; add %rax, (%rdi); ret");
CODE(s_call, "mov %rsp, %rdx; lea 8(%rdi), %rsp; mov %rax, 0(%rdi); mov %rdx, %rsp; ret");

static void stores(void) {
  static const uint8_t* const kStores[] = {s_mov,  s_mov_4,    s_push,  s_xchg,     s_lock,   s_cmpxchg, s_cmpxchg16b,
                                           s_stos, s_rep_stos, s_movs,  s_rep_movs, s_movaps, s_movq,    s_movnti,
                                           s_vmov, s_maskmov,  s_fistp, s_pop,      s_add,    s_call};
  const uint64_t cr4 = read_cr4();
  write_cr4(cr4 | 1 << 18);
  __asm__ volatile("xsetbv" : : "c"(0), "a"(7), "d"(0));
  // In a page of its own, beside the code that stores, and by another address.
  for (unsigned i = 0; i < sizeof kStores / sizeof *kStores; ++i) {
    for (unsigned place = 0; place < 3; ++place) {
      uint8_t* const target = frames[1] + 256;
      map(32, 1, kRw);
      flush(kFirst);
      uint64_t storer = (uint64_t)kStores[i];
      if (place == 1) {
        put(frames[1] + 512, kStores[i], 64);
        storer = (uint64_t)(frames[1] + 512);
      }
      const uint64_t at = place == 2 ? kFirst + 256 : (uint64_t)target;
      put_constant(target, 1);
      for (uint32_t n = 2; n < 40; ++n) {
        // mov eax, n; ret; two bytes of nothing. FISTP keeps all of 63 bits.
        const uint64_t code = 0xB8 | (uint64_t)n << 8 | 0xC3ULL << 40;
        __asm__ volatile("call *%1" : : "D"(at), "r"(storer), "a"(code) : "rbx", "rcx", "rdx", "rsi", "memory", "cc");
        const uint32_t value = call((uint64_t)target);
        if (value != n) check(false, "store to code", (uint64_t)i << 48 | (uint64_t)place << 40 | value, n);
      }
    }
  }
  // One byte of it.
  put_constant(frames[1] + 256, 1);
  call((uint64_t)(frames[1] + 256));
  __asm__ volatile("call *%1" : : "D"(frames[1] + 256), "r"(s_byte) : "memory");
  CHECK_EQUAL("store to code: a byte", call((uint64_t)(frames[1] + 256)), 0x77);
  write_cr4(cr4);
  __asm__ volatile("fninit");
}

/// A loop that overwrites its own tail, again and again.
static void own_tail(void) {
  // mov ecx, 50; 1: mov [rip + n], cl; mov eax, 0 (its byte is written); dec ecx; jnz 1b; ret
  static const uint8_t kCode[] = {0xB9, 50, 0, 0, 0,    0x88, 0x0D, 1,    0,    0,    0,   0xB8,
                                  0,    0,  0, 0, 0x01, 0xC2, 0xFF, 0xC9, 0x75, 0xEF, 0xC3};
  put(frames[1], kCode, sizeof kCode);
  for (unsigned n = 0; n < 20; ++n) {
    uint32_t sum = 0, last;
    __asm__ volatile("call *%2" : "+d"(sum), "=a"(last) : "r"(frames[1]) : "rcx", "memory", "cc");
    CHECK_EQUAL("own tail: sum", sum, 50 * 51 / 2);
    CHECK_EQUAL("own tail: last", last, 1);
  }
}

void test_code_mapping(void) {
  remapped(0);
  remapped(256);
  across();
  aliases();
  address_spaces();
  stores();
  own_tail();
}
