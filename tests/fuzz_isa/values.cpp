#include "fuzz_isa/values.h"

#include <cstring>

#include "base/bits.h"
#include "x86/fpu_words.h"

namespace doppel::fuzz_isa {

namespace {

constexpr std::array<std::uint64_t, 16> kIntegers{0,
                                                  1,
                                                  2,
                                                  0x7F,
                                                  0x80,
                                                  0xFF,
                                                  0x7FFF,
                                                  0x8000,
                                                  0xFFFF,
                                                  0x7FFF'FFFF,
                                                  0x8000'0000,
                                                  0xFFFF'FFFF,
                                                  0x7FFF'FFFF'FFFF'FFFF,
                                                  0x8000'0000'0000'0000,
                                                  0xFFFF'FFFF'FFFF'FFFF,
                                                  0xFFFF'FFFF'0000'0000};
// Zero, one, the greatest, infinity, quiet and signalling NaN, the least normal and denormal.
constexpr std::array<std::uint32_t, 10> kSingles{0,           0x3F80'0000, 0x7F7F'FFFF, 0x7F80'0000, 0x7FC0'0000,
                                                 0x7F80'0001, 0x0080'0000, 1,           0x4F00'0000, 0x4B00'0000};
constexpr std::array<std::uint64_t, 10> kDoubles{0,
                                                 0x3FF0'0000'0000'0000,
                                                 0x7FEF'FFFF'FFFF'FFFF,
                                                 0x7FF0'0000'0000'0000,
                                                 0x7FF8'0000'0000'0000,
                                                 0x7FF0'0000'0000'0001,
                                                 0x0010'0000'0000'0000,
                                                 1,
                                                 0x41E0'0000'0000'0000,
                                                 0x43E0'0000'0000'0000};

std::uint64_t vector_element(Random& random) {
  switch (random.below(6)) {
    case 0:
      return random.pick(kDoubles) | (random.next() & bit(63));
    case 1:
      return random.pick(kSingles) | std::uint64_t{random.pick(kSingles)} << 32 | (random.next() & (bit(31) | bit(63)));
    case 2:
      // Numbers of like size, whose sums and differences round.
      return (random.next() & (bit(63) | low_mask(52))) | std::uint64_t{0x3FF - 8 + random.below(16)} << 52;
    case 3:
      return (random.next() & 0x807F'FFFF'807F'FFFF) | (0x3F80'0000 + (random.below(16) << 23)) |
             (0x3F80'0000 + (random.below(16) << 23)) << 32;
    case 4:
      return integer(random);
    default:
      return random.next();
  }
}

x86::FpuState::St x87_register(Random& random) {
  x86::FpuState::St value;
  value.significand = random.percent(90) ? random.next() | bit(63) : random.pick(kIntegers);
  const std::uint64_t exponent = random.percent(70)
                                     ? 0x3FFF - 20 + random.below(80)
                                     : random.pick(std::array<std::uint64_t, 6>{0, 1, 0x7FFF, 0x7FFE, 0x3FFF, 0x403E});
  value.sign_exponent = static_cast<std::uint16_t>(exponent | (random.next() & 0x8000));
  return value;
}

constexpr std::uint64_t kHaltOffset = 64;  // in a page's first slot, which is nobody's but for its beginning
constexpr std::uint64_t kFramesAt = 0xC00, kFramesOfASize = 4, kFrameRoom = 48;

void put_frames(Random& random, Memory& contents) {
  auto* bytes = reinterpret_cast<std::uint8_t*>(contents.data());
  std::uint64_t at = kFramesAt;
  for (const unsigned size : {2, 4, 8})
    for (std::uint64_t i = 0; i < kFramesOfASize; ++i, at += kFrameRoom) {
      const FarTarget target = far_target(random, size);
      const std::uint64_t stack = kDataBase + 4096 + 8 * random.below(64);
      const std::array<std::uint64_t, 5> frame{target.offset, target.selector, flags(random), stack, kUserData};
      for (std::size_t word = 0; word < frame.size(); ++word) std::memcpy(bytes + at + word * size, &frame[word], size);
    }
}

}  // namespace

std::uint64_t integer(Random& random) {
  switch (random.below(6)) {
    case 0:
      return random.pick(kIntegers);
    case 1:
      return random.below(64);
    case 2:
      return ~random.below(64);
    case 3:
      return bit(static_cast<unsigned>(random.below(64))) - random.below(2);
    default:
      return random.next();
  }
}

std::uint64_t data_address(Random& random, std::size_t size) {
  const std::uint64_t reach = size > 1 ? random.between(1, size - 1) : 0;
  constexpr std::uint64_t kReadOnly = kDataBase + kWritableSize, kEnd = kDataBase + kDataSize,
                          kMiddle = kDataBase + 4096;
  const std::uint64_t choice = random.below(100);
  if (choice < 45) return kDataBase + 64 * random.below(kWritableSize / 64 - 1);
  if (choice < 75) return kDataBase + random.below(kWritableSize - 64);
  if (choice < 85) return kMiddle - reach;
  if (choice < 89) return kReadOnly + 64 * random.below(63);
  if (choice < 92) return kReadOnly - reach;
  if (choice < 94) return kEnd - reach;
  if (choice < 96) return kDataBase - reach;
  if (choice < 97) return kEnd + random.below(4096);
  if (choice < 98) return kCodeBase + random.below(kCodeSize);
  if (choice < 99) return 0x0000'8000'0000'0000 - random.below(16);
  return random.percent(50) ? 0xFFFF'FFFF - random.below(32) : random.next();
}

std::uint64_t flags(Random& random) {
  using namespace x86::rflags;
  std::uint64_t value = (random.next() & kStatus) | kReserved1 | kIf;
  if (random.percent(10)) value |= kDf;
  if (random.percent(3)) value |= kAc;
  if (random.percent(2)) value |= kTf;
  if (random.percent(1)) value |= kRf;
  return value;
}

std::uint16_t selector(Random& random) {
  constexpr std::array<std::uint16_t, 6> kGlobal{kUserCode32, kUserData, kUserCode64, 0, 3, 0x10};
  if (random.percent(30)) return random.pick(kGlobal);
  if (random.percent(5)) return static_cast<std::uint16_t>(random.next());
  const auto index = static_cast<std::size_t>(random.below(kLocalSegments.size() + 1));
  return static_cast<std::uint16_t>(local_selector(index) & ~random.below(random.percent(10) ? 4 : 1));
}

FarTarget far_target(Random& random, unsigned size) {
  constexpr std::array kSelectors{kUserCode64, kUserCode32, kUserCode16};
  const std::uint16_t selector = size == 2 ? kUserCode16 : random.pick(kSelectors);
  const std::uint64_t halts = kCodeBase + 4096 * random.below(kCodePages) + kHaltOffset;
  return {selector, halts - segment_base(selector)};
}

std::uint64_t return_frame(Random& random, unsigned size) {
  const std::uint64_t row = size == 2 ? 0 : size == 4 ? 1 : 2;
  return kDataBase + kFramesAt + (row * kFramesOfASize + random.below(kFramesOfASize)) * kFrameRoom;
}

x86::FpuState fpu(Random& random) {
  x86::FpuState state;
  state.mxcsr = 0x1F80;
  if (random.percent(50)) state.mxcsr |= static_cast<std::uint32_t>(random.next() & 0xE07F);
  if (random.percent(8)) state.mxcsr &= static_cast<std::uint32_t>(random.next() | ~0x1F80ULL);
  state.fcw = 0x37F;
  if (random.percent(40)) state.fcw = static_cast<std::uint16_t>(0x7F | (random.next() & 0xF00));
  if (random.percent(8)) state.fcw &= static_cast<std::uint16_t>(random.next() | 0xFFC0);
  state.fsw = static_cast<std::uint16_t>(random.next() & 0x7F00);
  if (random.percent(20)) state.fsw |= static_cast<std::uint16_t>(random.next() & 0x7F);
  if (random.percent(90)) state.fsw &= static_cast<std::uint16_t>(~(~state.fcw & 0x3F));
  x86::update_x87_summary(state);
  state.ftw = static_cast<std::uint8_t>(random.percent(60) ? 0xFF : random.next());
  for (auto& st : state.st) st = x87_register(random);
  return state;
}

x86::Ymm vector(Random& random) {
  x86::Ymm value;
  const bool empty_top = random.percent(20);
  for (std::size_t i = 0; i < value.qword.size(); ++i)
    value.qword[i] = i >= 2 && empty_top ? 0 : vector_element(random);
  return value;
}

Memory memory(Random& random) {
  Memory contents{};
  for (std::uint64_t& word : contents) {
    const std::uint64_t choice = random.below(20);
    // The end of a slot that is nobody's.
    const std::uint64_t code = kCodeBase + 4096 * random.below(kCodePages) + kHaltOffset;
    word = choice < 11   ? vector_element(random)
           : choice < 15 ? integer(random)
           : choice < 17 ? data_address(random, 8)
           : choice < 18 ? code
           : choice < 19 ? code | std::uint64_t{selector(random)} << 32
                         : selector(random) * 0x0001'0001'0001'0001;
  }
  put_frames(random, contents);
  return contents;
}

}  // namespace doppel::fuzz_isa
