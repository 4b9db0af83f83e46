#include "engine/guest_program.h"

/// FISTTP raised #UD: Zydis counts it to SSE3.
namespace doppel::engine::test {
namespace {

class FisttpUndefined : public OnEachEngine {};

TEST_P(FisttpUndefined, Truncates) {
  // fldpi; fisttp dword ptr [kDataAddress]; hlt
  place(kCodeAddress, {0xD9, 0xEB, 0xDB, 0x0C, 0x25, 0x00, 0x00, 0x30, 0x00, 0xF4});
  ASSERT_EQ(run(), ExitReason::Halted);
  EXPECT_FALSE(exception());
  EXPECT_EQ(peek_physical<std::uint32_t>(kDataAddress), 3U);
}

DOPPEL_TEST_ON_EACH_ENGINE(FisttpUndefined);

}  // namespace
}  // namespace doppel::engine::test
