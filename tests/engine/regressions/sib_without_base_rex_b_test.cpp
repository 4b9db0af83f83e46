#include "engine/guest_program.h"

/// With 67H and REX.B, SIB base 101 under mod 00 was taken for R13 without a displacement.
namespace doppel::engine::test {
namespace {

class SibWithoutBaseRexB : public OnEachEngine {};

TEST_P(SibWithoutBaseRexB, HasADisplacementAndNoBase) {
  poke_physical<std::uint32_t>(kDataAddress + 8, 0x1234);
  // mov eax, [r8d + kDataAddress]; hlt
  place(kCodeAddress, {0x67, 0x43, 0x8B, 0x04, 0x05, 0x00, 0x00, 0x30, 0x00, 0xF4});
  state.gpr[x86::kR8] = 8;
  state.gpr[x86::kR13] = 0x7777;
  ASSERT_EQ(run(), ExitReason::Halted);
  EXPECT_EQ(state.gpr[x86::kRax], 0x1234U);
}

DOPPEL_TEST_ON_EACH_ENGINE(SibWithoutBaseRexB);

}  // namespace
}  // namespace doppel::engine::test
