#include "engine/guest_program.h"

/// A far call with a bad stack to an offset beyond the limit of its segment raised the limit's #GP; the push comes
/// first.
namespace doppel::engine::test {
namespace {

class FarCallPushesBeforeTheLimit : public OnEachEngine {
 protected:
  FarCallPushesBeforeTheLimit() {
    constexpr std::uint64_t kSmallCode32 = 0x0040'9B00'0000'0FFF;
    poke_physical<std::uint64_t>(kGdtAddress + kSelector, kSmallCode32);
    state.gdtr.limit = kSelector + 7;
    // The handlers need a stack of their own: IST 1 of a TSS.
    constexpr std::uint64_t kTss = 0x7000;
    poke_physical<std::uint64_t>(kTss + 36, kStackTop);
    state.tr = {kTss, 103, Segment::kP | 11, 0x20};
    for (const unsigned vector : {x86::vector::kPf, x86::vector::kGp})
      poke_physical<std::uint8_t>(kIdtAddress + 16 * vector + 4, 1);
  }

  static constexpr std::uint16_t kSelector = 0x18;
  std::optional<unsigned> exception_of_call(std::uint64_t stack) {
    poke_physical<std::uint32_t>(kDataAddress, 0x2000);
    poke_physical<std::uint16_t>(kDataAddress + 4, kSelector);
    place(kCodeAddress, {0xFF, 0x18});  // call far [rax]
    state.gpr[x86::kRax] = kDataAddress;
    state.gpr[x86::kRsp] = stack;
    EXPECT_EQ(run(), ExitReason::Halted);
    return exception();
  }
};

TEST_P(FarCallPushesBeforeTheLimit, BadStack) {
  EXPECT_EQ(exception_of_call(0x4000'1000), unsigned{x86::vector::kPf});
}

TEST_P(FarCallPushesBeforeTheLimit, GoodStack) {
  EXPECT_EQ(exception_of_call(kStackTop), unsigned{x86::vector::kGp});
}

DOPPEL_TEST_ON_EACH_ENGINE(FarCallPushesBeforeTheLimit);

}  // namespace
}  // namespace doppel::engine::test
