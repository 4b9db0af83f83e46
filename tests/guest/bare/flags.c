// Results and flags of integer instructions, against a model that knows bits and nothing of any processor (SDM vol. 1,
// 3.4.3; vol. 2, each instruction). The engines let the host compute; here it is not the judge.
#include "bare.h"

enum { kCf = 1, kPf = 4, kAf = 16, kZf = 64, kSf = 128, kOf = 2048, kAll = kCf | kPf | kAf | kZf | kSf | kOf };

struct Outcome {
  uint64_t result;
  uint32_t flags, defined;  ///< undefined ones are not compared
};

/// NAME_SIZE(a, b, flags in, flags out): two operands, the second one in CL for those that shift.
typedef uint64_t (*Operation)(uint64_t a, uint64_t b, uint64_t in, uint64_t* out);
#define OPERATION(name, suffix, type, operands)                                         \
  static uint64_t name##_##suffix(uint64_t a, uint64_t b, uint64_t in, uint64_t* out) { \
    type x = (type)a;                                                                   \
    uint64_t after;                                                                     \
    __asm__ volatile("pushq %3; popfq; " #name #suffix " " operands "; pushfq; popq %1" \
                     : "+r"(x), "=r"(after)                                             \
                     : "c"((type)b), "r"(in)                                            \
                     : "cc", "memory");                                                 \
    *out = after;                                                                       \
    return x;                                                                           \
  }
#define SIZES(name, operands)            \
  OPERATION(name, b, uint8_t, operands)  \
  OPERATION(name, w, uint16_t, operands) \
  OPERATION(name, l, uint32_t, operands) \
  OPERATION(name, q, uint64_t, operands)
SIZES(add, "%2, %0")
SIZES(adc, "%2, %0")
SIZES(sub, "%2, %0")
SIZES(sbb, "%2, %0")
SIZES(cmp, "%2, %0")
SIZES(and, "%2, %0")
SIZES(or, "%2, %0")
SIZES(xor, "%2, %0")
SIZES(test, "%2, %0")
SIZES(inc, "%0")
SIZES(dec, "%0")
SIZES(neg, "%0")
SIZES(not, "%0")
SIZES(shl, "%%cl, %0")
SIZES(shr, "%%cl, %0")
SIZES(sar, "%%cl, %0")
SIZES(rol, "%%cl, %0")
SIZES(ror, "%%cl, %0")
SIZES(rcl, "%%cl, %0")
SIZES(rcr, "%%cl, %0")
#define FORMS(name) \
  { name##_b, name##_w, name##_l, name##_q }

static uint64_t mask_of(unsigned bits) {
  return bits == 64 ? ~0ULL : (1ULL << bits) - 1;
}
static bool top(uint64_t value, unsigned bits) {
  return value >> (bits - 1) & 1;
}
/// SF, ZF and PF.
static uint32_t of_result(uint64_t value, unsigned bits) {
  unsigned ones = 0;
  for (unsigned i = 0; i < 8; ++i) ones += value >> i & 1;
  return (ones % 2 == 0 ? kPf : 0) | (value == 0 ? kZf : 0) | (top(value, bits) ? kSf : 0);
}

static struct Outcome sum(uint64_t a, uint64_t b, unsigned carry, unsigned bits) {
  const uint64_t result = (a + b + carry) & mask_of(bits);
  const bool out = result < a || (carry && result == a);
  const bool overflow = top(a, bits) == top(b, bits) && top(result, bits) != top(a, bits);
  return (struct Outcome){
      result,
      of_result(result, bits) | (out ? kCf : 0) | (overflow ? kOf : 0) | ((a & 15) + (b & 15) + carry > 15 ? kAf : 0),
      kAll};
}
static struct Outcome difference(uint64_t a, uint64_t b, unsigned borrow, unsigned bits) {
  const uint64_t result = (a - b - borrow) & mask_of(bits);
  const bool out = a < b || (borrow && a == b);
  const bool overflow = top(a, bits) != top(b, bits) && top(result, bits) != top(a, bits);
  return (struct Outcome){
      result,
      of_result(result, bits) | (out ? kCf : 0) | (overflow ? kOf : 0) | ((a & 15) < (b & 15) + borrow ? kAf : 0),
      kAll};
}
static struct Outcome logical(uint64_t result, unsigned bits) {
  return (struct Outcome){result & mask_of(bits), of_result(result & mask_of(bits), bits), kAll & ~kAf};
}

enum Kind { kAdd, kAdc, kSub, kSbb, kCmp, kAnd, kOr, kXor, kTest, kInc, kDec, kNeg, kNot };

static struct Outcome arithmetic(enum Kind kind, uint64_t a, uint64_t b, uint32_t in, unsigned bits) {
  struct Outcome outcome;
  switch (kind) {
    case kAdd:
      return sum(a, b, 0, bits);
    case kAdc:
      return sum(a, b, in & kCf, bits);
    case kSub:
      return difference(a, b, 0, bits);
    case kSbb:
      return difference(a, b, in & kCf, bits);
    case kCmp:
      outcome = difference(a, b, 0, bits);
      outcome.result = a;
      return outcome;
    case kAnd:
      return logical(a & b, bits);
    case kOr:
      return logical(a | b, bits);
    case kXor:
      return logical(a ^ b, bits);
    case kTest:
      outcome = logical(a & b, bits);
      outcome.result = a;
      return outcome;
    case kInc:
    case kDec:
      outcome = kind == kInc ? sum(a, 1, 0, bits) : difference(a, 1, 0, bits);
      outcome.flags = (outcome.flags & ~(uint32_t)kCf) | (in & kCf);
      return outcome;
    case kNeg:
      return difference(0, a, 0, bits);
    default:
      return (struct Outcome){~a & mask_of(bits), in, kAll};
  }
}

enum Shift { kShl, kShr, kSar, kRol, kRor, kRcl, kRcr };

/// Bit by bit. OF is defined for counts of 1; CF of SHL and SHR for counts up to the size.
static struct Outcome shifted(enum Shift kind, uint64_t a, uint64_t b, uint32_t in, unsigned bits) {
  const unsigned masked = b & (bits == 64 ? 63 : 31);
  if (masked == 0) return (struct Outcome){a, in, kAll};
  unsigned count = masked;
  if (kind == kRcl || kind == kRcr) count %= bits + 1;
  uint64_t value = a;
  bool carry = in & kCf;
  for (unsigned i = 0; i < count; ++i) {
    const bool high = top(value, bits), low = value & 1;
    switch (kind) {
      case kShl:
        value = value << 1;
        carry = high;
        break;
      case kShr:
        value = value >> 1;
        carry = low;
        break;
      case kSar:
        value = value >> 1 | (uint64_t)high << (bits - 1);
        carry = low;
        break;
      case kRol:
        value = value << 1 | high;
        carry = high;
        break;
      case kRor:
        value = value >> 1 | (uint64_t)low << (bits - 1);
        carry = low;
        break;
      case kRcl:
        value = value << 1 | carry;
        carry = high;
        break;
      default:
        value = value >> 1 | (uint64_t)carry << (bits - 1);
        carry = low;
        break;
    }
    value &= mask_of(bits);
  }
  const bool rotates = kind >= kRol;
  struct Outcome outcome = {value, rotates ? in & ~(uint32_t)(kCf | kOf) : of_result(value, bits), 0};
  outcome.flags |= carry ? kCf : 0;
  outcome.defined = rotates ? kAll : kAll & ~(uint32_t)kAf;
  if (kind == kShr && top(a, bits)) outcome.flags |= kOf;
  if ((kind == kShl || kind == kRol || kind == kRcl) && top(value, bits) != carry) outcome.flags |= kOf;
  if ((kind == kRor || kind == kRcr) && top(value, bits) != (value >> (bits - 2) & 1)) outcome.flags |= kOf;
  if (masked != 1) outcome.defined &= ~(uint32_t)kOf;
  if ((kind == kShl || kind == kShr) && masked > bits) outcome.defined &= ~(uint32_t)kCf;
  return outcome;
}

static const unsigned kBits[4] = {8, 16, 32, 64};

static void compare(const char* what, Operation operation, struct Outcome expected, uint64_t a, uint64_t b, uint32_t in,
                    unsigned bits) {
  uint64_t out = 0;
  const uint64_t result = operation(a, b, in | 2, &out) & mask_of(bits);
  check(result == expected.result, what, result, expected.result);
  const uint64_t wrong = (out ^ expected.flags) & expected.defined;
  check(wrong == 0, what, (out & kAll) | (uint64_t)bits << 56 | (b & 0xFF) << 48 | (a & 0xFFFF) << 32, expected.flags);
}

/// All that only moves them or asks for them: LAHF, SAHF, SETcc, CMC, CLC, STC, CLD, STD.
static void moved(void) {
  for (unsigned i = 0; i < 64; ++i) {
    const uint64_t in = (i & 1 ? kCf : 0) | (i & 2 ? kPf : 0) | (i & 4 ? kAf : 0) | (i & 8 ? kZf : 0) |
                        (i & 16 ? kSf : 0) | (i & 32 ? kOf : 0);
    uint64_t ah, after, rax = ~in << 8;
    __asm__ volatile("pushq %2; popfq; lahf; pushfq; popq %1" : "=a"(ah), "=r"(after) : "r"(in) : "cc", "memory");
    CHECK_EQUAL("LAHF", ah >> 8 & 0xFF, (in & 0xFF) | 2);
    CHECK_EQUAL("LAHF: flags", after & kAll, in);
    __asm__ volatile("pushq %2; popfq; sahf; pushfq; popq %1" : "+a"(rax), "=r"(after) : "r"(in) : "cc", "memory");
    CHECK_EQUAL("SAHF", after & kAll, (~in & kAll & 0xFF) | (in & kOf));
    const bool cf = in & kCf, pf = in & kPf, zf = in & kZf, sf = in & kSf, of = in & kOf;
    const bool conditions[] = {of, cf, zf, cf || zf, sf, pf, sf != of, zf || sf != of};
#define CONDITION(n, yes, no)                                                                                    \
  {                                                                                                              \
    uint8_t is, is_not;                                                                                          \
    uint64_t chosen = 0;                                                                                         \
    __asm__ volatile("pushq %3; popfq; set" yes " %0; set" no " %1; cmov" yes " %3, %2; j" no " 1f; incq %2; 1:" \
                     : "=q"(is), "=q"(is_not), "+r"(chosen)                                                      \
                     : "r"(in)                                                                                   \
                     : "cc", "memory");                                                                          \
    check(is == conditions[n] && is_not == !conditions[n], "SETcc", i << 8 | (n), is);                           \
    check(chosen == (conditions[n] ? in + 1 : 0), "CMOVcc, Jcc", i << 8 | (n), chosen);                          \
  }
    CONDITION(0, "o", "no")
    CONDITION(1, "b", "ae")
    CONDITION(2, "e", "ne")
    CONDITION(3, "be", "a")
    CONDITION(4, "s", "ns")
    CONDITION(5, "p", "np")
    CONDITION(6, "l", "ge")
    CONDITION(7, "le", "g")
    uint64_t cleared, set, complement;
    __asm__ volatile("pushq %1; popfq; clc; pushfq; popq %0" : "=r"(cleared) : "r"(in) : "cc", "memory");
    __asm__ volatile("pushq %1; popfq; stc; pushfq; popq %0" : "=r"(set) : "r"(in) : "cc", "memory");
    __asm__ volatile("pushq %1; popfq; cmc; pushfq; popq %0" : "=r"(complement) : "r"(in) : "cc", "memory");
    CHECK_EQUAL("CLC", cleared & kAll, in & ~(uint64_t)kCf);
    CHECK_EQUAL("STC", set & kAll, in | kCf);
    CHECK_EQUAL("CMC", complement & kAll, in ^ kCf);
    __asm__ volatile("pushq %1; popfq; std; cld; pushfq; popq %0" : "=r"(after) : "r"(in) : "cc", "memory");
    CHECK_EQUAL("STD; CLD", after & (kAll | 0x400), in);
  }
}

void test_flags(void) {
  moved();
  static const Operation kArithmetic[][4] = {FORMS(add), FORMS(adc), FORMS(sub), FORMS(sbb),  FORMS(cmp),
                                             FORMS(and), FORMS(or),  FORMS(xor), FORMS(test), FORMS(inc),
                                             FORMS(dec), FORMS(neg), FORMS(not )};
  static const char* const kNames[] = {"ADD", "ADC",  "SUB", "SBB", "CMP", "AND", "OR",
                                       "XOR", "TEST", "INC", "DEC", "NEG", "NOT"};
  static const Operation kShifts[][4] = {FORMS(shl), FORMS(shr), FORMS(sar), FORMS(rol),
                                         FORMS(ror), FORMS(rcl), FORMS(rcr)};
  static const char* const kShiftNames[] = {"SHL", "SHR", "SAR", "ROL", "ROR", "RCL", "RCR"};
  static const uint64_t kValues[] = {0, 1, 2, 7, 8, 0xF, 0x10, 0x7F, 0x80, 0xA5, 0xFF, 0x1234567890ABCDEF};
  enum { kCount = sizeof kValues / sizeof *kValues };
  for (unsigned size = 0; size < 4; ++size) {
    const unsigned bits = kBits[size];
    // The small values, the ones around the sign and at the end.
    uint64_t values[kCount + 4];
    for (unsigned i = 0; i < kCount; ++i) values[i] = kValues[i] & mask_of(bits);
    values[kCount] = mask_of(bits) >> 1;
    values[kCount + 1] = (mask_of(bits) >> 1) + 1;
    values[kCount + 2] = mask_of(bits);
    values[kCount + 3] = mask_of(bits) - 1;
    for (unsigned i = 0; i < kCount + 4; ++i) {
      const uint64_t a = values[i];
      for (unsigned flags = 0; flags < 2; ++flags) {
        const uint32_t in = flags ? kAll : 0;
        for (unsigned j = 0; j < kCount + 4; ++j) {
          for (unsigned kind = 0; kind < sizeof kArithmetic / sizeof *kArithmetic; ++kind)
            compare(kNames[kind], kArithmetic[kind][size], arithmetic((enum Kind)kind, a, values[j], in, bits), a,
                    values[j], in, bits);
        }
        for (unsigned count = 0; count < 70; ++count) {
          for (unsigned kind = 0; kind < sizeof kShifts / sizeof *kShifts; ++kind)
            compare(kShiftNames[kind], kShifts[kind][size], shifted((enum Shift)kind, a, count, in, bits), a, count, in,
                    bits);
        }
      }
    }
  }
}
