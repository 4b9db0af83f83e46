// Self-modifying code (SDM vol. 3, 8.1.3): seen after the next branch at the latest, and on real processors at once.
#include "bare.h"

static uint8_t pages[8192] __attribute__((aligned(4096)));
typedef uint32_t (*Function)(void);

static void put(uint8_t* at, uint32_t value) {
  for (int i = 0; i < 4; ++i) ((volatile uint8_t*)at)[i] = (uint8_t)(value >> 8 * i);
}

static uint32_t call(uint8_t* at) {
  return ((Function)(uint64_t)at)();
}

static void constant_at(uint8_t* at, const char* what) {
  at[0] = 0xB8;  // mov eax, constant; ret
  at[5] = 0xC3;
  for (uint32_t i = 0; i < 50; ++i) {
    put(at + 1, i);
    CHECK_EQUAL(what, call(at), i);
  }
}

/// A store to the next instruction but one, in the same block.
static void next_instruction(void) {
  uint8_t* at = pages + 256;
  const uint8_t code[] = {0xC6, 0x05, 0x01, 0x00, 0x00, 0x00, 0x07, 0xB8, 0x01, 0x00, 0x00, 0x00, 0xC3};
  for (unsigned i = 0; i < sizeof code; ++i) at[i] = code[i];  // mov byte [rip + 1], 7; mov eax, 1; ret
  CHECK_EQUAL("code: the next instruction", call(at), 7);
}

/// The same physical page at two addresses.
static void alias(void) {
  window[2] = (uint64_t)pages | kPresent | kWritable;
  flush(kWindow + 2 * 4096);
  pages[512] = 0xB8;
  pages[517] = 0xC3;
  for (uint32_t i = 0; i < 20; ++i) {
    put((uint8_t*)(kWindow + 2 * 4096 + 513), i);
    CHECK_EQUAL("code: written through another address", call(pages + 512), i);
    put(pages + 513, i + 100);
    CHECK_EQUAL("code: executed at another address", call((uint8_t*)(kWindow + 2 * 4096 + 512)), i + 100);
  }
}

/// Other code at the same address.
static void remapped(void) {
  for (unsigned page = 0; page < 2; ++page) {
    pages[4096 * page + 768] = 0xB8;
    put(pages + 4096 * page + 769, page + 1);
    pages[4096 * page + 773] = 0xC3;
  }
  for (unsigned i = 0; i < 20; ++i) {
    window[3] = (uint64_t)(pages + 4096 * (i % 2)) | kPresent;
    flush(kWindow + 3 * 4096);
    CHECK_EQUAL("code: mapped anew", call((uint8_t*)(kWindow + 3 * 4096 + 768)), i % 2 + 1);
  }
}

void test_code_writing(void) {
  constant_at(pages, "code: written between calls");
  constant_at(pages + 4093, "code: across two pages");
  next_instruction();
  alias();
  remapped();
}
