#include "engine/guest_program.h"

/// FXRSTOR from a misaligned image on the stack segment that reaches past the canonical addresses raised #SS; #GP for
/// the alignment goes first.
namespace doppel::engine::test {
namespace {

class MisalignedFxrstorPastTheEnd : public OnEachEngine {
 protected:
  std::optional<unsigned> exception_of_fxrstor(std::uint64_t address) {
    state.gpr[x86::kRbp] = address;
    place(kCodeAddress, {0x0F, 0xAE, 0x4D, 0x00});  // fxrstor [rbp]
    return exception_of(kCodeAddress);
  }
};

TEST_P(MisalignedFxrstorPastTheEnd, Misaligned) {
  EXPECT_EQ(exception_of_fxrstor(0x7FFF'FFFF'FFF1), unsigned{x86::vector::kGp});
}

TEST_P(MisalignedFxrstorPastTheEnd, InItsFirstBytes) {
  EXPECT_EQ(exception_of_fxrstor(0x7FFF'FFFF'FFFE), unsigned{x86::vector::kSs});
}

TEST_P(MisalignedFxrstorPastTheEnd, Aligned) {
  EXPECT_EQ(exception_of_fxrstor(0x7FFF'FFFF'FFF0), unsigned{x86::vector::kSs});
}

TEST_P(MisalignedFxrstorPastTheEnd, NotCanonicalAtAll) {
  EXPECT_EQ(exception_of_fxrstor(0x8000'0000'0001), unsigned{x86::vector::kSs});
}

DOPPEL_TEST_ON_EACH_ENGINE(MisalignedFxrstorPastTheEnd);

}  // namespace
}  // namespace doppel::engine::test
