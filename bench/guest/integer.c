// Integer code as compilers make it: sorting, tables, lists, trees, bytes, a switch, hashing, calls, text, compression.
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "suite.h"

// Quicksort

enum { kSortSize = 8192 };
static int32_t unsorted[kSortSize], sorted[kSortSize];

static void prepare_quicksort(void) {
  uint64_t random = 1;
  for (int i = 0; i < kSortSize; ++i) unsorted[i] = (int32_t)next_random(&random);
}

static void quicksort(int32_t* low, int32_t* high) {
  while (low < high) {
    const int32_t pivot = low[(high - low) / 2];
    int32_t *left = low, *right = high;
    while (left <= right) {
      while (*left < pivot) ++left;
      while (*right > pivot) --right;
      if (left <= right) {
        const int32_t swapped = *left;
        *left++ = *right;
        *right-- = swapped;
      }
    }
    quicksort(low, right);
    low = left;
  }
}

static uint64_t run_quicksort(void) {
  memcpy(sorted, unsorted, sizeof sorted);
  quicksort(sorted, sorted + kSortSize - 1);
  for (int i = 1; i < kSortSize; ++i)
    if (sorted[i - 1] > sorted[i]) fail("quicksort: not sorted at %d", i);
  return mix_bytes(sorted, sizeof sorted);
}

// Hash table, open addressing

enum { kSlots = 1 << 15, kKeys = kSlots / 2 };
static struct { uint64_t key, value; } slots[kSlots];

static uint64_t* find(uint64_t key) {
  uint32_t slot = (uint32_t)(key * 0x9E3779B97F4A7C15ULL >> 40) % kSlots;
  while (slots[slot].key != 0 && slots[slot].key != key) slot = (slot + 1) % kSlots;
  slots[slot].key = key;
  return &slots[slot].value;
}

static uint64_t run_hash(void) {
  uint64_t random = 2, sum = 0;
  memset(slots, 0, sizeof slots);
  for (int i = 0; i < kKeys; ++i) *find(next_random(&random) % kKeys + 1) += (uint64_t)i;
  for (uint64_t key = 1; key <= kKeys; ++key) sum = mix(sum, *find(key));
  return sum;
}

// Linked list in a random order

struct Node {
  struct Node* next;
  uint64_t value, padding[6];
};
enum { kNodes = 16384 };
static struct Node nodes[kNodes];

static void prepare_list(void) {
  static uint32_t order[kNodes];
  uint64_t random = 3;
  for (uint32_t i = 0; i < kNodes; ++i) order[i] = i;
  for (uint32_t i = kNodes - 1; i > 0; --i) {
    const uint32_t other = (uint32_t)(next_random(&random) % (i + 1)), swapped = order[i];
    order[i] = order[other];
    order[other] = swapped;
  }
  for (uint32_t i = 0; i < kNodes; ++i) {
    nodes[order[i]].next = &nodes[order[(i + 1) % kNodes]];
    nodes[order[i]].value = next_random(&random);
  }
}

static uint64_t run_list(void) {
  uint64_t sum = 0;
  const struct Node* node = nodes;
  for (int i = 0; i < kNodes; ++i) {
    sum = sum * 3 + node->value;
    node = node->next;
  }
  return sum;
}

// Binary search tree

struct Branch {
  uint32_t key;
  struct Branch* child[2];
};
enum { kBranches = 8192 };
static struct Branch branches[kBranches];

static void prepare_tree(void) {
  uint64_t random = 4;
  memset(branches, 0, sizeof branches);
  for (int i = 0; i < kBranches; ++i) {
    branches[i].key = (uint32_t)next_random(&random);
    struct Branch* at = branches;
    while (i > 0) {
      struct Branch** next = &at->child[branches[i].key > at->key];
      if (!*next) {
        *next = &branches[i];
        break;
      }
      at = *next;
    }
  }
}

static uint64_t walk(const struct Branch* at, uint64_t sum) {
  if (!at) return sum;
  sum = walk(at->child[0], sum);
  return walk(at->child[1], mix(sum, at->key));
}

static uint64_t run_tree(void) {
  uint64_t found = 0, random = 5;
  for (int i = 0; i < kBranches; ++i) {
    const uint32_t key = (uint32_t)next_random(&random);
    const struct Branch* at = branches;
    while (at && at->key != key) {
      at = at->child[key > at->key];
      ++found;
    }
  }
  return walk(branches, found);
}

// Bytes, one at a time

enum { kText = 65536 };
static unsigned char text[kText + 1], upper[kText + 1];

static void prepare_text(void) {
  static const char* const kWords[] = {"page",   "table", "entry", "the",     "of",
                                       "vector", "fault", "a",     "machine", "segment"};
  uint64_t random = 6;
  size_t at = 0;
  while (at + 10 < kText) {
    const char* word = kWords[next_random(&random) % 10];
    memcpy(text + at, word, strlen(word));
    at += strlen(word);
    text[at++] = next_random(&random) % 12 ? ' ' : '\n';
  }
  memset(text + at, '.', kText - at);
  text[kText] = 0;
}

static uint64_t run_bytes(void) {
  uint32_t counts[256] = {0};
  for (const unsigned char* in = text; *in; ++in) {
    unsigned char c = *in;
    if (c >= 'a' && c <= 'z') c = (unsigned char)(c - 32);
    upper[in - text] = c;
    ++counts[c];
  }
  return mix_bytes(counts, sizeof counts);
}

// A bytecode interpreter: the lengths of Collatz chains, on a stack machine

struct Code {
  enum { kPush, kLoad, kStore, kAdd, kMul, kHalve, kOdd, kLess, kJump, kJumpUnless, kHalt } operation;
  int32_t operand;
};

enum { kStart, kChain, kLength };               // the locals of the program
enum { kChains = 100, kCollatzLength = 3117 };  // chains from 1 to 99
static const struct Code kCollatz[] = {
    {kPush, 1},        {kStore, kStart},                                       //  0 start = 1
    {kLoad, kStart},   {kPush, kChains}, {kLess, 0},                           //  2 while (start < kChains)
    {kJumpUnless, 34},                                                         //  5
    {kLoad, kStart},   {kStore, kChain},                                       //  6   chain = start
    {kPush, 1},        {kLoad, kChain},  {kLess, 0},                           //  8   while (1 < chain)
    {kJumpUnless, 29},                                                         // 11
    {kLoad, kChain},   {kOdd, 0},        {kJumpUnless, 21},                    // 12     if (chain & 1)
    {kLoad, kChain},   {kPush, 3},       {kMul, 0},                            // 15       3 * chain + 1
    {kPush, 1},        {kAdd, 0},        {kJump, 23},                          // 18
    {kLoad, kChain},   {kHalve, 0},                                            // 21     else chain / 2
    {kStore, kChain},                                                          // 23     chain = it
    {kLoad, kLength},  {kPush, 1},       {kAdd, 0},                            // 24     ++length
    {kStore, kLength}, {kJump, 8},                                             // 27
    {kLoad, kStart},   {kPush, 1},       {kAdd, 0},         {kStore, kStart},  // 29   ++start
    {kJump, 2},                                                                // 33
    {kHalt, 0},                                                                // 34
};

static uint64_t interpret(const struct Code* program, uint64_t* locals) {
  uint64_t stack[16], *top = stack, steps = 0;
  for (const struct Code* at = program;; ++steps) {
    const int32_t operand = at->operand;
    switch (at++->operation) {
      case kPush:
        *top++ = (uint64_t)operand;
        break;
      case kLoad:
        *top++ = locals[operand];
        break;
      case kStore:
        locals[operand] = *--top;
        break;
      case kAdd:
        --top;
        top[-1] += *top;
        break;
      case kMul:
        --top;
        top[-1] *= *top;
        break;
      case kHalve:
        top[-1] /= 2;
        break;
      case kOdd:
        top[-1] &= 1;
        break;
      case kLess:
        --top;
        top[-1] = top[-1] < *top;
        break;
      case kJump:
        at = program + operand;
        break;
      case kJumpUnless:
        if (!*--top) at = program + operand;
        break;
      case kHalt:
        return steps;
    }
  }
}

static uint64_t run_bytecode(void) {
  uint64_t locals[3] = {0};
  const uint64_t steps = interpret(kCollatz, locals);
  if (locals[kLength] != kCollatzLength) fail("bytecode: %d", (int)locals[kLength]);
  return steps;
}

// SHA-256 (FIPS 180-4)

static const uint32_t kRound[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static inline uint32_t rotate(uint32_t x, int n) {
  return x >> n | x << (32 - n);
}

static void sha256_block(uint32_t* hash, const unsigned char* block) {
  uint32_t w[64];
  for (int i = 0; i < 16; ++i)
    w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16 | (uint32_t)block[4 * i + 2] << 8 |
           block[4 * i + 3];
  for (int i = 16; i < 64; ++i)
    w[i] = w[i - 16] + (rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3) + w[i - 7] +
           (rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10);
  uint32_t a = hash[0], b = hash[1], c = hash[2], d = hash[3], e = hash[4], f = hash[5], g = hash[6], h = hash[7];
  for (int i = 0; i < 64; ++i) {
    const uint32_t t1 = h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g)) + kRound[i] + w[i];
    const uint32_t t2 = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
    h = g, g = f, f = e, e = d + t1, d = c, c = b, b = a, a = t1 + t2;
  }
  hash[0] += a, hash[1] += b, hash[2] += c, hash[3] += d, hash[4] += e, hash[5] += f, hash[6] += g, hash[7] += h;
}

static uint64_t run_sha256(void) {
  uint32_t hash[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  for (int i = 0; i < kText / 64; ++i) sha256_block(hash, text + 64 * i);
  return mix_bytes(hash, sizeof hash);
}

// Recursion

static __attribute__((noinline, noclone, optimize("no-optimize-sibling-calls"))) uint32_t fibonacci(uint32_t n) {
  return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

enum { kFibonacci = 20, kFibonacciCalls = 21891 };
static uint64_t run_recursion(void) {
  const uint32_t result = fibonacci(kFibonacci);
  if (result != 6765) fail("recursion: %u", result);
  return result;
}

// Text search (Horspool), and the C library's

static size_t horspool(const unsigned char* needle, size_t length) {
  size_t skip[256], found = 0;
  for (int i = 0; i < 256; ++i) skip[i] = length;
  for (size_t i = 0; i + 1 < length; ++i) skip[needle[i]] = length - 1 - i;
  for (size_t at = 0; at + length <= kText; at += skip[text[at + length - 1]]) {
    size_t i = length;
    while (i > 0 && text[at + i - 1] == needle[i - 1]) --i;
    found += i == 0;
  }
  return found;
}

static uint64_t run_search(void) {
  static const char* const kNeedles[] = {"fault", "segment entry", "machine", "nowhere"};
  uint64_t sum = 0;
  for (int i = 0; i < 4; ++i) sum = mix(sum, horspool((const unsigned char*)kNeedles[i], strlen(kNeedles[i])));
  return sum;
}

static uint64_t run_strstr(void) {
  uint64_t lines = 0;
  for (const char* at = (const char*)text; (at = strchr(at, '\n')); ++at) ++lines;
  const char* missing = strstr((const char*)text, "segment nowhere");
  return mix(lines + strlen((const char*)text), missing != NULL);
}

// Compression

static unsigned char packed[kText], unpacked[kText];

static uint64_t run_compress(void) {
  uLongf size = sizeof packed, back = sizeof unpacked;
  if (compress2(packed, &size, text, kText, 6) != Z_OK) fail("compress: no room");
  if (uncompress(unpacked, &back, packed, size) != Z_OK || memcmp(text, unpacked, kText) != 0)
    fail("compress: what comes back is not what went in");
  return mix_bytes(packed, size);
}

// Random reads over more memory than any TLB covers

enum { kSpread = 64 << 20, kReads = 100000 };
static uint64_t* spread;

static void prepare_random(void) {
  spread = malloc(kSpread);
  if (!spread) fail("random: no memory");
  for (size_t i = 0; i < kSpread / 8; ++i) spread[i] = i * 0x9E3779B97F4A7C15ULL;
}

static uint64_t run_random(void) {
  uint64_t at = 0, random = 13;
  for (int i = 0; i < kReads; ++i) at = spread[(at ^ next_random(&random)) % (kSpread / 8)];
  return at;
}

const struct Row kIntegerRows[] = {
    {"integer.quicksort", "ns/element", kSortSize, prepare_quicksort, run_quicksort},
    {"integer.hash", "ns/key", 2 * kKeys, NULL, run_hash},
    {"integer.list", "ns/node", kNodes, prepare_list, run_list},
    {"integer.tree", "ns/key", 2 * kBranches, prepare_tree, run_tree},
    {"integer.bytes", "ns/byte", kText, prepare_text, run_bytes},
    {"integer.bytecode", "ns/chain", kChains - 1, NULL, run_bytecode},
    {"integer.sha256", "ns/byte", kText, prepare_text, run_sha256},
    {"integer.recursion", "ns/call", kFibonacciCalls, NULL, run_recursion},
    {"integer.search", "ns/byte", 4.0 * kText, prepare_text, run_search},
    {"integer.strstr", "ns/byte", 2.0 * kText, prepare_text, run_strstr},
    {"integer.compress", "ns/byte", kText, prepare_text, run_compress},
    {"integer.random-reads", "ns/read", kReads, prepare_random, run_random},
    {0},
};
