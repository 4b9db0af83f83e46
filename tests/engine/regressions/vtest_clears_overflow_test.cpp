#include "engine/guest_program.h"

/// VPTEST, VTESTPS and VTESTPD left OF, SF, PF and AF to the next instruction as they were before; they clear them.
namespace doppel::engine::test {
namespace {

class VtestClearsOverflow : public OnEachEngine {
 protected:
  void expect_no_overflow_after(std::initializer_list<unsigned> test) {
    place(kCodeAddress, test);
    place(kCodeAddress + test.size(), {0x0F, 0x40, 0xC1,  // cmovo eax, ecx
                                       0x0F, 0x4A, 0xC1,  // cmovp eax, ecx
                                       0x0F, 0x48, 0xC1,  // cmovs eax, ecx
                                       0x83, 0xC2, 0x01,  // add edx, 1: flags before it are dead
                                       0xF4});
    state.set_rflags(x86::rflags::kOf | x86::rflags::kPf | x86::rflags::kSf);
    state.gpr[x86::kRax] = 1;
    state.gpr[x86::kRcx] = 2;
    ASSERT_EQ(run(), ExitReason::Halted);
    EXPECT_EQ(state.gpr[x86::kRax], 1U);
  }
};

TEST_P(VtestClearsOverflow, Vptest) {
  expect_no_overflow_after({0xC4, 0xE2, 0x79, 0x17, 0xCE});
}
TEST_P(VtestClearsOverflow, Vtestps) {
  expect_no_overflow_after({0xC4, 0xE2, 0x79, 0x0E, 0xCE});
}
TEST_P(VtestClearsOverflow, Vtestpd) {
  expect_no_overflow_after({0xC4, 0xE2, 0x7D, 0x0F, 0xCE});
}

DOPPEL_TEST_ON_EACH_ENGINE(VtestClearsOverflow);

}  // namespace
}  // namespace doppel::engine::test
