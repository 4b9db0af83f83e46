#include <thread>

#include "engine/posted_interrupts.h"

/// What another thread has to say to a processor that is busy in a loop of whatever shape.
namespace doppel::engine::test {
namespace {

namespace r = asmjit::x86;
using asmjit::Label;
using asmjit::x86::Assembler;
using x86::Attention;

class AttentionTest : public OnEachEngine {
 protected:
  static constexpr unsigned kInterrupts = 20;
  PostedInterrupts interrupts_;

  void SetUp() override {
    vcpu.reset();  // one processor at a time to an Attention
    vcpu = engine->create_vcpu({memory, interrupts_, clock, cpuid, attention});
    // The handler counts, and halts for good after the last.
    place(kHandlers + PostedInterrupts::kVector * kHandlerSize, {0xE9, 0xFB, 0x0F, 0, 0});  // to 1000h further
    const std::uint64_t handler = kHandlers + PostedInterrupts::kVector * kHandlerSize + 0x1000;
    place(handler, assemble(handler, [](Assembler& a) {
            const Label last = a.newLabel();
            a.inc(r::qword_ptr(kDataAddress));
            a.cmp(r::qword_ptr(kDataAddress), kInterrupts);
            a.je(last);
            a.iretq();
            a.bind(last);
            a.hlt();
          }));
    state.set_rflags(x86::rflags::kIf);
    state.gpr[x86::kRbx] = kDataAddress + 0x1000;
  }

  /// An endless loop, out of which each interrupt is posted once the last one has been taken.
  void interrupt(const std::function<void(Assembler&)>& loop) {
    std::thread poster([this] {
      for (unsigned i = 0; i < kInterrupts; ++i) {
        ++interrupts_.waiting;
        attention.set(Attention::kInterrupt);
        while (interrupts_.taken <= i) std::this_thread::yield();
      }
    });
    EXPECT_EQ(run(loop), ExitReason::Halted);
    poster.join();
    EXPECT_EQ(peek_physical<std::uint64_t>(kDataAddress), kInterrupts);
    EXPECT_EQ(interrupts_.waiting, 0);
  }
};

TEST_P(AttentionTest, a_jump_to_itself) {
  interrupt([](Assembler& a) {
    const Label loop = a.newLabel();
    a.bind(loop);
    a.jmp(loop);
  });
}

TEST_P(AttentionTest, a_conditional_branch_backwards) {
  interrupt([](Assembler& a) {
    const Label loop = a.newLabel();
    a.bind(loop);
    a.inc(r::rax);
    a.or_(r::rcx, 1);
    a.jnz(loop);
  });
}

TEST_P(AttentionTest, calls_and_returns) {
  interrupt([](Assembler& a) {
    const Label loop = a.newLabel(), function = a.newLabel();
    a.bind(loop);
    a.call(function);
    a.call(function);
    a.jmp(loop);
    a.bind(function);
    a.push(r::rax);
    a.pop(r::rax);
    a.ret();
  });
}

TEST_P(AttentionTest, indirect_jumps_forwards_and_backwards) {
  interrupt([](Assembler& a) {
    const Label first = a.newLabel(), second = a.newLabel();
    a.lea(r::rsi, r::ptr(first));
    a.lea(r::rdi, r::ptr(second));
    a.bind(first);
    a.jmp(r::rdi);
    a.nop();
    a.bind(second);
    a.jmp(r::rsi);
  });
}

TEST_P(AttentionTest, a_loop_across_pages) {
  interrupt([](Assembler& a) {
    const Label loop = a.newLabel(), far = a.newLabel();
    a.bind(loop);
    a.jmp(far);
    while (a.offset() < 0x1100) a.nop();
    a.bind(far);
    a.jmp(loop);
  });
}

TEST_P(AttentionTest, a_returning_stack_of_return_addresses) {
  // RET without CALL.
  interrupt([](Assembler& a) {
    const Label loop = a.newLabel();
    a.lea(r::rsi, r::ptr(loop));
    a.bind(loop);
    a.push(r::rsi);
    a.ret();
  });
}

TEST_P(AttentionTest, a_loop_of_string_instructions) {
  interrupt([](Assembler& a) {
    const Label loop = a.newLabel();
    a.bind(loop);
    a.mov(r::rdi, r::rbx);
    a.mov(r::ecx, 1000);
    a.rep().stosb();
    a.jmp(loop);
  });
}

TEST_P(AttentionTest, a_loop_with_interrupts_off_but_for_a_moment) {
  interrupt([](Assembler& a) {
    const Label loop = a.newLabel();
    a.bind(loop);
    a.cli();
    a.inc(r::rax);
    a.sti();
    a.inc(r::rax);
    a.jmp(loop);
  });
}

TEST_P(AttentionTest, a_loop_that_lets_them_in_by_popf) {
  interrupt([](Assembler& a) {
    const Label loop = a.newLabel();
    a.bind(loop);
    a.pushfq();
    a.cli();
    a.inc(r::rax);
    a.popfq();
    a.jmp(loop);
  });
}

TEST_P(AttentionTest, the_instruction_after_sti) {
  interrupt([](Assembler& a) {
    const Label loop = a.newLabel();
    a.bind(loop);
    a.cli();
    a.sti();
    a.nop();
    a.jmp(loop);
  });
}

TEST_P(AttentionTest, stop_leaves_a_loop_and_it_goes_on_later) {
  for (unsigned i = 0; i < 5; ++i) {
    std::thread stopper([this] { attention.set(Attention::kStop); });
    if (i == 0) {
      EXPECT_EQ(run([](Assembler& a) {
                  const Label loop = a.newLabel();
                  a.bind(loop);
                  a.inc(r::rax);
                  a.jmp(loop);
                }),
                ExitReason::Stopped);
    } else {
      EXPECT_EQ(run(), ExitReason::Stopped);
    }
    stopper.join();
    EXPECT_GE(state.rip, kCodeAddress);
    EXPECT_LT(state.rip, kCodeAddress + 16);
  }
}

DOPPEL_TEST_ON_EACH_ENGINE(AttentionTest);

}  // namespace
}  // namespace doppel::engine::test
