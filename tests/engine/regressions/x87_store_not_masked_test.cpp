#include "engine/guest_program.h"

/// FIST across two pages with an unmasked error stored zeros where the processor stores nothing.
namespace doppel::engine::test {
namespace {

class X87StoreNotMasked : public OnEachEngine {};

TEST_P(X87StoreNotMasked, StoresNothing) {
  constexpr std::uint64_t kAcross = kDataAddress + 0xFFE;
  poke_physical<std::uint32_t>(kAcross, 0x1122'3344);
  // fist dword ptr [kAcross], of an infinity, invalid operations not masked
  place(kCodeAddress, {0xDB, 0x14, 0x25, 0xFE, 0x0F, 0x30, 0x00, 0xF4});
  state.fpu.fcw = 0x37E;
  state.fpu.ftw = 0x01;
  state.fpu.st[0].significand = std::uint64_t{1} << 63;
  state.fpu.st[0].sign_exponent = 0x7FFF;
  ASSERT_EQ(run(), ExitReason::Halted);
  EXPECT_EQ(peek_physical<std::uint32_t>(kAcross), 0x1122'3344U);
  EXPECT_NE(state.fpu.fsw & 0x80, 0);
}

DOPPEL_TEST_ON_EACH_ENGINE(X87StoreNotMasked);

}  // namespace
}  // namespace doppel::engine::test
