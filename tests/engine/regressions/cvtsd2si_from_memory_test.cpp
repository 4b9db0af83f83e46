#include "engine/guest_program.h"

/// CVTSD2SI and its kin raised #UD with a source in memory: no operand shows that they are SSE's.
namespace doppel::engine::test {
namespace {

class Cvtsd2siFromMemory : public OnEachEngine {};

TEST_P(Cvtsd2siFromMemory, Converts) {
  poke_physical<std::uint64_t>(kDataAddress, 0x4045'0000'0000'0000);  // 42.0
  // cvtsd2si rax, [kDataAddress]; cvttss2si ecx, [kDataAddress + 4]; hlt
  place(kCodeAddress, {0xF2, 0x48, 0x0F, 0x2D, 0x04, 0x25, 0x00, 0x00, 0x30, 0x00,  //
                       0xF3, 0x0F, 0x2C, 0x0C, 0x25, 0x04, 0x00, 0x30, 0x00, 0xF4});
  ASSERT_EQ(run(), ExitReason::Halted);
  EXPECT_FALSE(exception());
  EXPECT_EQ(state.gpr[x86::kRax], 42U);
  EXPECT_EQ(state.gpr[x86::kRcx], 3U);  // 40450000h as a single: 3.07…
}

DOPPEL_TEST_ON_EACH_ENGINE(Cvtsd2siFromMemory);

}  // namespace
}  // namespace doppel::engine::test
