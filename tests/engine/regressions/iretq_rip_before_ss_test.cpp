#include "engine/guest_program.h"

/// IRETQ with both a RIP that is not canonical and a bad SS told of SS in its error code; RIP goes first where the
/// privilege stays the same.
namespace doppel::engine::test {
namespace {

class IretqRipBeforeSs : public OnEachEngine {
 protected:
  /// The error code of the #GP that the IRETQ raises.
  std::uint64_t error_code_of_return_to(std::uint64_t rip) {
    constexpr std::uint64_t kFrame = kStackTop - 5 * 8, kCode = 8, kBadStack = 0xD250, kFlags = 2;
    std::uint64_t at = kFrame;
    for (const std::uint64_t value : {rip, kCode, kFlags, kStackTop, kBadStack}) {
      EXPECT_TRUE(memory.write_value(at, value));
      at += 8;
    }
    state.gpr[x86::kRsp] = kFrame;
    place(kCodeAddress, {0x48, 0xCF});
    EXPECT_EQ(run(), ExitReason::Halted);
    EXPECT_EQ(exception(), unsigned{x86::vector::kGp});
    return peek_physical<std::uint64_t>(state.gpr[x86::kRsp]);
  }
};

TEST_P(IretqRipBeforeSs, RipIsNotCanonical) {
  EXPECT_EQ(error_code_of_return_to(0xFFF8'0000'0000'0000), 0U);
}

TEST_P(IretqRipBeforeSs, RipIsCanonical) {
  EXPECT_EQ(error_code_of_return_to(kCodeAddress), 0xD250U);
}

DOPPEL_TEST_ON_EACH_ENGINE(IretqRipBeforeSs);

}  // namespace
}  // namespace doppel::engine::test
