#include "engine/guest_program.h"

/// FCOMI, FUCOMI, FCOMIP and FUCOMIP raised #UD: Zydis counts them to the Pentium Pro's integer instructions.
namespace doppel::engine::test {
namespace {

class FcomiUndefined : public OnEachEngine {};

TEST_P(FcomiUndefined, ComparesAndPops) {
  // fldz; fld1; fcomi st0, st1; fucomip st0, st1; hlt
  place(kCodeAddress, {0xD9, 0xEE, 0xD9, 0xE8, 0xDB, 0xF1, 0xDF, 0xE9, 0xF4});
  state.set_rflags(x86::rflags::kStatus);
  ASSERT_EQ(run(), ExitReason::Halted);
  EXPECT_FALSE(exception());
  EXPECT_EQ(status_flags(), 0U);  // 1 > 0
  EXPECT_EQ(state.fpu.ftw, 0x80);
}

DOPPEL_TEST_ON_EACH_ENGINE(FcomiUndefined);

}  // namespace
}  // namespace doppel::engine::test
