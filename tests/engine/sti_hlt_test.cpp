#include <thread>

#include "engine/posted_interrupts.h"

/// STI;HLT, the idle loop of every operating system: an interrupt is taken behind the HLT, whenever it comes, or the
/// system sleeps through it.
namespace doppel::engine::test {
namespace {

namespace r = asmjit::x86;
using asmjit::Label;
using asmjit::x86::Assembler;
using x86::Attention;

class StiHlt : public OnEachEngine {
 protected:
  StiHlt() {
    vcpu.reset();  // one processor at a time to an Attention
    vcpu = engine->create_vcpu({memory, interrupts_, clock, cpuid, attention});
  }

  static constexpr std::uint64_t kCount = kDataAddress, kAstray = kDataAddress + 8;
  PostedInterrupts interrupts_;

  void post() {
    ++interrupts_.waiting;
    attention.set(Attention::kInterrupt);
  }

  /// Runs a loop of STI, HLT and CLI, which is at `after_hlt`, while another thread posts interrupts at any time.
  void idle(std::uint64_t loop, std::initializer_list<unsigned> code, std::uint64_t after_hlt) {
    constexpr std::uint64_t kHandler = kHandlers + PostedInterrupts::kVector * kHandlerSize;
    constexpr std::uint64_t kInterrupts = 20'000;
    place(loop, code);
    place(kHandler, assemble(kHandler, [](Assembler& a) {
            const Label expected = a.newLabel();
            a.inc(r::qword_ptr(kCount));
            a.cmp(r::qword_ptr(r::rsp), r::rbx);
            a.je(expected);
            a.inc(r::qword_ptr(kAstray));
            a.bind(expected);
            a.iretq();
          }));
    state.rip = loop;
    state.gpr[x86::kRbx] = after_hlt;
    vcpu->load(state);

    std::atomic<bool> done = false;
    std::thread poster([this, &done] {
      for (unsigned pause = 0; !done; pause = (pause + 7) % 101) {
        const unsigned before = interrupts_.taken;
        post();
        while (!done && interrupts_.taken == before) std::this_thread::yield();
        for (unsigned i = 0; i < pause; ++i) std::atomic_signal_fence(std::memory_order_seq_cst);
      }
    });
    // Whatever the processor sleeps for arrives here, so that it is hardly ever asleep when the other thread posts.
    ExitReason reason = ExitReason::Halted;
    while (reason == ExitReason::Halted && peek_physical<std::uint64_t>(kCount) < kInterrupts) {
      reason = vcpu->run().reason;
      post();
    }
    done = true;
    poster.join();
    EXPECT_EQ(reason, ExitReason::Halted);
    EXPECT_EQ(peek_physical<std::uint64_t>(kAstray), 0U);
  }
};

TEST_P(StiHlt, InOnePage) {
  idle(kCodeAddress, {0xFB, 0xF4, 0xFA, 0xEB, 0xFB}, kCodeAddress + 2);
}

TEST_P(StiHlt, HltOnTheNextPage) {
  idle(kCodeAddress + 0xFFF, {0xFB, 0xF4, 0xFA, 0xEB, 0xFB}, kCodeAddress + 0x1001);
}

TEST_P(StiHlt, HltAcrossPages) {
  idle(kCodeAddress + 0xFFE, {0xFB, 0x2E, 0xF4, 0xFA, 0xEB, 0xFA}, kCodeAddress + 0x1001);
}

DOPPEL_TEST_ON_EACH_ENGINE(StiHlt);

}  // namespace
}  // namespace doppel::engine::test
