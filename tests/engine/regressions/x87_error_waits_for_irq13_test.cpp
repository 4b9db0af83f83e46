#include "engine/posted_interrupts.h"

/// With CR0.NE clear, the instruction that found the error of an earlier one ran before IRQ 13 was delivered, and no
/// second error interrupted, for FERR# stayed high.
namespace doppel::engine::test {
namespace {

namespace r = asmjit::x86;

class FerrInterrupts : public PostedInterrupts {
 public:
  explicit FerrInterrupts(x86::Attention& attention) : attention_(attention) {}
  void set_ferr(bool high) override {
    if (high && !ferr) {
      ++waiting;
      attention_.set(x86::Attention::kInterrupt);
    }
    ferr = high;
  }

 private:
  x86::Attention& attention_;
};

class X87ErrorWaitsForIrq13 : public OnEachEngine {
 protected:
  FerrInterrupts interrupts{attention};

  X87ErrorWaitsForIrq13() {
    vcpu.reset();  // one processor at a time to an Attention
    vcpu = engine->create_vcpu({memory, interrupts, clock, cpuid, attention});
    constexpr std::uint64_t kHandler = kHandlers + PostedInterrupts::kVector * kHandlerSize;
    // INC RCX; POP RBX; PUSH RBX; FNCLEX; IRETQ
    place(kHandler, {0x48, 0xFF, 0xC1, 0x5B, 0x53, 0xDB, 0xE2, 0x48, 0xCF});
    state.cr0 &= ~x86::cr0::kNe;
    state.gpr[x86::kRcx] = 0;
    state.fpu.fcw = 0x37B;  // division by zero is not masked
  }

  static void divide_by_zero(r::Assembler& a) {
    a.fld1();
    a.fldz();
    a.fdivp(r::st(1));
  }
};

TEST_P(X87ErrorWaitsForIrq13, EveryTime) {
  state.set_rflags(x86::rflags::kIf);
  std::uint64_t waiting = 0;
  ASSERT_EQ(run([&waiting](r::Assembler& a) {
              for (int i = 0; i < 2; ++i) {
                divide_by_zero(a);
                waiting = kCodeAddress + a.offset();
                a.fldpi();
                a.mov(r::rax, r::rbx);
              }
            }),
            ExitReason::Halted);
  EXPECT_EQ(interrupts.taken, 2U);
  EXPECT_EQ(state.gpr[x86::kRcx], 2U);
  EXPECT_EQ(state.gpr[x86::kRax], waiting);
  EXPECT_FALSE(interrupts.ferr);
}

TEST_P(X87ErrorWaitsForIrq13, GoesOnWhileInterruptsAreMasked) {
  state.set_rflags(0);
  ASSERT_EQ(run([](r::Assembler& a) {
              divide_by_zero(a);
              a.fldpi();
              a.fldpi();
            }),
            ExitReason::Halted);
  EXPECT_EQ(interrupts.waiting, 1U);
  EXPECT_TRUE(interrupts.ferr);
  EXPECT_EQ(state.fpu.fsw >> 11 & 7, 4U);
  ASSERT_EQ(run([](r::Assembler& a) { a.fninit(); }), ExitReason::Halted);
  EXPECT_FALSE(interrupts.ferr);
}

DOPPEL_TEST_ON_EACH_ENGINE(X87ErrorWaitsForIrq13);

}  // namespace
}  // namespace doppel::engine::test
