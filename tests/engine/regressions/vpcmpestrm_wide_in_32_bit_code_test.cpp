#include "engine/guest_program.h"

/// VPCMPESTRM with VEX.W took RAX and RDX for lengths in translated 32-bit code, where W means nothing: EAX of -1 was
/// 4294967295.
namespace doppel::engine::test {
namespace {

class VpcmpestrmWideIn32BitCode : public OnEachEngine {};

TEST_P(VpcmpestrmWideIn32BitCode, TakesEax) {
  constexpr unsigned kEqualEachWithoutMask = 8;  // bytes, one by one; the result is a mask of bits
  place(kCodeAddress, {0xC4, 0xE3, 0xF9, 0x60, 0xCA, kEqualEachWithoutMask, 0xF4});  // vpcmpestrm xmm1, xmm2
  state.seg(SegReg::Cs) = flat_segment(0x08, true, false);
  state.gpr[x86::kRax] = state.gpr[x86::kRdx] = 0xFFFF'FFFF;  // one element each
  state.ymm[1].qword = {0x0201, 0};
  state.ymm[2].qword = {0x0301, 0};
  ASSERT_EQ(run(), ExitReason::Halted);
  // The first is equal; beyond both lengths all are.
  EXPECT_EQ(state.ymm[0].qword[0], 0xFFFFU);
}

DOPPEL_TEST_ON_EACH_ENGINE(VpcmpestrmWideIn32BitCode);

}  // namespace
}  // namespace doppel::engine::test
