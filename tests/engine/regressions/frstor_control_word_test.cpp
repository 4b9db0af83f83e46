#include "engine/guest_program.h"

/// FLDENV and FRSTOR kept the reserved bits of the control word; bit 6 reads as one, the others as zero.
namespace doppel::engine::test {
namespace {

class FrstorControlWord : public OnEachEngine {};

TEST_P(FrstorControlWord, HasReservedBits) {
  poke_physical<std::uint32_t>(kDataAddress, 0xFFFF'FFFF);
  poke_physical<std::uint32_t>(kDataAddress + 4, 0);
  poke_physical<std::uint32_t>(kDataAddress + 8, 0xFFFF);
  place(kCodeAddress, {0xD9, 0x24, 0x25, 0x00, 0x00, 0x30, 0x00, 0xF4});  // fldenv
  ASSERT_EQ(run(), ExitReason::Halted);
  EXPECT_EQ(state.fpu.fcw, 0x1F7F);
}

DOPPEL_TEST_ON_EACH_ENGINE(FrstorControlWord);

}  // namespace
}  // namespace doppel::engine::test
