#include "engine/guest_program.h"

/// A data breakpoint that MOV SS met was held back over INT1, and raised at the first instruction of its handler; with
/// a stack of #DB's own in the IST, as Linux has it, that went on for ever.
namespace doppel::engine::test {
namespace {

class Int1AfterMovSs : public OnEachEngine {};

TEST_P(Int1AfterMovSs, TrapsOnce) {
  constexpr std::uint64_t kEnabled = 2, kReadsAndWrites = 3 << 16, kTwoBytes = 1 << 18;
  state.dr[0] = kDataAddress;
  state.dr7 |= kEnabled | kReadsAndWrites | kTwoBytes;
  ASSERT_EQ(run([](asmjit::x86::Assembler& a) {
              a.mov(asmjit::x86::ss, asmjit::x86::word_ptr(kDataAddress));
              a.db(0xF1);
            }),
            ExitReason::Halted);
  EXPECT_EQ(exception(), x86::vector::kDb);
  EXPECT_LT(faulting_rip(), kCodeAddress + 16);
  EXPECT_GT(faulting_rip(), kCodeAddress);
  EXPECT_EQ(state.dr6 & 0xF, 1U);
  EXPECT_EQ(state.pending_debug, 0U);
}

DOPPEL_TEST_ON_EACH_ENGINE(Int1AfterMovSs);

}  // namespace
}  // namespace doppel::engine::test
