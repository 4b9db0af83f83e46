#include "engine/guest_program.h"

/// An instruction that reached past the limit of its code segment into an absent page raised #PF; the limit goes first.
namespace doppel::engine::test {
namespace {

class CodeLimitBeforePageFault : public OnEachEngine {
 protected:
  /// Compatibility mode, and the last bytes of the memory that is mapped.
  std::optional<unsigned> exception_with_limit(std::uint32_t limit) {
    constexpr std::uint64_t kPd = 0x3000, kAbsent = 0x40'0000;
    EXPECT_TRUE(memory.write_value(kPd + 8 * (kAbsent >> 21), std::uint64_t{0}));
    Segment& cs = state.seg(SegReg::Cs);
    cs.attributes &= ~(Segment::kL | Segment::kG);
    cs.attributes |= Segment::kDb;
    cs.limit = limit;
    place(kAbsent - 2, {0x81, 0xC0});  // add eax, …
    return exception_of(kAbsent - 2);
  }
};

TEST_P(CodeLimitBeforePageFault, LimitAtPageEnd) {
  EXPECT_EQ(exception_with_limit(0x3F'FFFF), unsigned{x86::vector::kGp});
}

TEST_P(CodeLimitBeforePageFault, LimitInNextPage) {
  EXPECT_EQ(exception_with_limit(0x40'0FFF), unsigned{x86::vector::kPf});
}

DOPPEL_TEST_ON_EACH_ENGINE(CodeLimitBeforePageFault);

}  // namespace
}  // namespace doppel::engine::test
