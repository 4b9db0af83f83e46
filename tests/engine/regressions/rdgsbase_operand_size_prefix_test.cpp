#include "engine/guest_program.h"

/// RDGSBASE with 66H wrote 16 bits.
namespace doppel::engine::test {
namespace {

class RdgsbaseOperandSizePrefix : public OnEachEngine {};

TEST_P(RdgsbaseOperandSizePrefix, WritesTheWholeRegister) {
  state.cr4 |= x86::cr4::kFsgsbase;
  state.seg(SegReg::Gs).base = 0x1234'5678'9ABC;
  place(kCodeAddress, {0x66, 0xF3, 0x48, 0x0F, 0xAE, 0xC8, 0x66, 0xF3, 0x0F, 0xAE, 0xC9, 0xF4});
  state.gpr[x86::kRcx] = ~std::uint64_t{0};
  ASSERT_EQ(run(), ExitReason::Halted);
  EXPECT_EQ(state.gpr[x86::kRax], 0x1234'5678'9ABCU);
  EXPECT_EQ(state.gpr[x86::kRcx], 0x5678'9ABCU);
}

DOPPEL_TEST_ON_EACH_ENGINE(RdgsbaseOperandSizePrefix);

}  // namespace
}  // namespace doppel::engine::test
