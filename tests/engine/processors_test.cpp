#include <thread>
#include <vector>

#include "engine/guest_program.h"

/// Several processors on one memory: locked instructions are atomic, and code changed by one is changed for all.
namespace doppel::engine::test {
namespace {

namespace r = asmjit::x86;
using Assembler = asmjit::x86::Assembler;

class ProcessorsTest : public OnEachEngine {
 protected:
  static constexpr unsigned kProcessors = 3;

  struct Processor {
    x86::test::FakeIo io;
    x86::Attention attention;
    std::unique_ptr<VcpuRunner> vcpu;
  };
  std::vector<std::unique_ptr<Processor>> processors;

  void SetUp() override {
    for (unsigned i = 0; i < kProcessors; ++i) {
      auto made = std::make_unique<Processor>();
      made->vcpu = engine->create_vcpu({memory, made->io, clock, cpuid, made->attention});
      CpuState own = state;
      own.gpr[x86::kRsp] -= 0x1000 * i;
      own.gpr[x86::kRdi] = i;
      made->vcpu->load(own);
      processors.push_back(std::move(made));
    }
  }
  void run_all() {
    std::vector<std::thread> threads;
    for (auto& processor : processors) {
      threads.emplace_back([&processor] { EXPECT_EQ(processor->vcpu->run().reason, ExitReason::Halted); });
    }
    for (std::thread& thread : threads) thread.join();
  }
};

TEST_P(ProcessorsTest, locked_instructions_are_atomic) {
  static constexpr std::uint32_t kRounds = 20'000;
  place(kCodeAddress, assemble(kCodeAddress, [](Assembler& a) {
          const asmjit::Label loop = a.newLabel(), retry = a.newLabel();
          a.mov(r::rbx, kDataAddress);
          a.mov(r::ecx, kRounds);
          a.bind(loop);
          a.lock().inc(r::dword_ptr(r::rbx));
          a.mov(r::edx, 1);
          a.lock().xadd(r::dword_ptr(r::rbx, 64), r::edx);
          a.mov(r::eax, r::dword_ptr(r::rbx, 128));
          a.bind(retry);
          a.lea(r::edx, r::ptr(r::rax, 1));
          a.lock().cmpxchg(r::dword_ptr(r::rbx, 128), r::edx);
          a.jne(retry);
          a.lock().add(r::qword_ptr(r::rbx, 0xFFC), 1);  // across pages
          a.dec(r::ecx);
          a.jnz(loop);
          a.hlt();
        }));
  run_all();
  for (const std::uint64_t offset : {0, 64, 128, 0xFFC})
    EXPECT_EQ(peek_physical<std::uint32_t>(kDataAddress + offset), kProcessors * kRounds) << offset;
}

TEST_P(ProcessorsTest, code_changed_by_one_is_seen_by_the_others) {
  // Processor 0 turns the others' endless loop into HLT.
  const std::uint64_t loop = kCodeAddress + 0x800;
  place(loop, {0xEB, 0xFE});
  place(kCodeAddress, assemble(kCodeAddress, [loop](Assembler& a) {
          const asmjit::Label others = a.newLabel(), wait = a.newLabel();
          a.mov(r::rbx, kDataAddress);
          a.mov(r::rsi, loop);
          a.test(r::edi, r::edi);
          a.jnz(others);
          a.bind(wait);
          a.pause();
          a.cmp(r::dword_ptr(r::rbx), kProcessors - 1);
          a.jne(wait);
          a.mov(r::word_ptr(r::rsi), 0xF4F4);
          a.hlt();
          a.bind(others);
          a.lock().inc(r::dword_ptr(r::rbx));
          a.jmp(r::rsi);
        }));
  run_all();
}

DOPPEL_TEST_ON_EACH_ENGINE(ProcessorsTest);

}  // namespace
}  // namespace doppel::engine::test
