#include "engine/lockstep/checker.h"

#include <nlohmann/json.hpp>

#include "engine/dbt/twins.h"
#include "isa/host_fault_guard.h"

namespace doppel::engine::test {
namespace {

namespace r = asmjit::x86;
using asmjit::Label;
using asmjit::x86::Assembler;
using dbt::BlockObserver;
using lockstep::Checker;

/// The checker with a translator of the test's own making, right or wrong.
class CheckerTest : public x86::test::CpuTest {
 protected:
  CheckerTest() {
    cpu.state = long_mode(memory);
    install_handlers(memory, cpu.state);
    cpu.state.gpr[x86::kRbx] = kDataAddress;
    block_.instructions = 2;
    place([](Assembler& a) {
      a.inc(r::rax);
      a.mov(r::qword_ptr(r::rbx), r::rax);
    });
  }

  std::unique_ptr<interp::Shared> shared_ = interp::Shared::create({memory, io, clock, cpuid, attention});
  Checker checker_{cpu, *shared_, {}};
  isa::HostFaultGuard guard_{shared_->thunks->executable()};
  dbt::Block block_;

  void place(const std::function<void(Assembler&)>& write) {
    const std::vector<std::byte> bytes = assemble(kCodeAddress, write);
    ASSERT_TRUE(memory.write(kCodeAddress, bytes));
    block_.physical = kCodeAddress;
    block_.bytes = static_cast<std::uint16_t>(bytes.size());
  }
  void execute(std::uint64_t value, std::uint64_t stored) {
    cpu.state.gpr[x86::kRax] = value;
    cpu.state.rflags_without_of &= ~x86::rflags::kStatus;
    cpu.state.rip = kCodeAddress + block_.bytes;
    ASSERT_TRUE(memory.write_value(kDataAddress, stored));
  }
};

TEST_F(CheckerTest, leaves_no_trace_before_the_translator_runs) {
  checker_.before(block_);
  EXPECT_EQ(cpu.state.gpr[x86::kRax], 0);
  EXPECT_EQ(peek_physical<std::uint64_t>(kDataAddress), 0);
}

TEST_F(CheckerTest, agrees_with_what_is_right) {
  checker_.before(block_);
  execute(1, 1);
  EXPECT_EQ(checker_.after(BlockObserver::Left::Branch, nullptr), BlockObserver::Next::GoOn);
  EXPECT_EQ(checker_.stats()["instructions_compared"], 2);
}

TEST_F(CheckerTest, stops_at_a_register_that_differs_twice) {
  checker_.before(block_);
  execute(2, 1);
  EXPECT_EQ(checker_.after(BlockObserver::Left::Branch, nullptr), BlockObserver::Next::Again);
  EXPECT_EQ(cpu.state.rip, kCodeAddress);
  checker_.before(block_);
  execute(2, 1);
  EXPECT_EQ(checker_.after(BlockObserver::Left::Branch, nullptr), BlockObserver::Next::Stop);
}

TEST_F(CheckerTest, forgives_a_difference_that_does_not_come_again) {
  checker_.before(block_);
  execute(1, 2);
  EXPECT_EQ(checker_.after(BlockObserver::Left::Branch, nullptr), BlockObserver::Next::Again);
  EXPECT_EQ(peek_physical<std::uint64_t>(kDataAddress), 0);
  checker_.before(block_);
  execute(1, 1);
  EXPECT_EQ(checker_.after(BlockObserver::Left::Branch, nullptr), BlockObserver::Next::GoOn);
  EXPECT_EQ(checker_.stats()["differences_that_did_not_repeat"], 1);
}

TEST_F(CheckerTest, sees_memory_that_differs) {
  checker_.before(block_);
  execute(1, 3);
  EXPECT_EQ(checker_.after(BlockObserver::Left::Branch, nullptr), BlockObserver::Next::Again);
}

TEST_F(CheckerTest, sees_an_exception_that_is_none) {
  checker_.before(block_);
  execute(1, 0);
  cpu.state.rip = kCodeAddress + 3;
  const x86::Fault fault{x86::vector::kPf, true, 2, kDataAddress};
  EXPECT_EQ(checker_.after(BlockObserver::Left::Before, &fault), BlockObserver::Next::Again);
}

TEST_F(CheckerTest, compares_the_part_that_was_executed) {
  checker_.before(block_);
  execute(1, 0);
  cpu.state.rip = kCodeAddress + 3;
  EXPECT_EQ(checker_.after(BlockObserver::Left::Before, nullptr), BlockObserver::Next::GoOn);
  EXPECT_EQ(checker_.stats()["instructions_compared"], 1);
}

TEST_F(CheckerTest, touches_no_device) {
  cpu.state.gpr[x86::kRbx] = 0x2000'0000;
  checker_.before(block_);
  EXPECT_TRUE(io.mmio_writes.empty());
  cpu.state.gpr[x86::kRax] = 1;
  cpu.state.rip = kCodeAddress + 3;
  EXPECT_EQ(checker_.after(BlockObserver::Left::Before, nullptr), BlockObserver::Next::GoOn);
}

TEST(LockstepEngine, runs_a_program_and_compares_it) {
  Twins twins(make_lockstep({}).value());
  twins.enter(TwinMode::Supervisor64);
  twins.place_code(kCodeAddress, [](Assembler& a) {
    const Label loop = a.newLabel(), function = a.newLabel(), past = a.newLabel();
    a.mov(r::ecx, 1000);
    a.xor_(r::eax, r::eax);
    a.jmp(past);
    a.bind(function);
    a.add(r::rax, r::rcx);
    a.push(r::rax);
    a.pop(r::qword_ptr(Twins::kData));
    a.ret();
    a.bind(past);
    a.bind(loop);
    a.call(function);
    a.movq(r::xmm1, r::rax);
    a.paddq(r::xmm0, r::xmm1);
    a.fld1();
    a.fstp(r::qword_ptr(Twins::kData + 8));
    a.dec(r::ecx);
    a.jnz(loop);
    a.mov(r::rax, r::qword_ptr(Twins::kAbsent));
  });
  twins.run_and_compare();
  EXPECT_EQ(twins.exception(), x86::vector::kPf);
  const nlohmann::json stats = twins.right.vcpu->stats()["lockstep"];
  EXPECT_GT(stats["blocks_compared"], 2000);
  EXPECT_EQ(stats["differences_that_did_not_repeat"], 0);
}

TEST(LockstepEngine, compares_repeated_strings_over_several_pages) {
  Twins twins(make_lockstep({}).value());
  twins.enter(TwinMode::Supervisor64);
  twins.place_code(kCodeAddress, [](Assembler& a) {
    const Label loop = a.newLabel();
    a.mov(r::ebx, 20);
    a.bind(loop);
    a.mov(r::ecx, 6000);
    a.mov(r::rsi, Twins::kData + 1);
    a.mov(r::rdi, Twins::kData + 2 * 4096 + 5);
    a.mov(r::eax, r::ebx);
    a.rep().movsb();
    a.mov(r::ecx, 700);
    a.mov(r::rdi, Twins::kData + 96);
    a.rep().stosq();
    a.dec(r::ebx);
    a.jnz(loop);
    a.mov(r::ecx, 100);
    a.mov(r::rdi, Twins::kAbsent - 8);
    a.rep().stosq();
  });
  twins.run_and_compare();
  EXPECT_EQ(twins.exception(), x86::vector::kPf);
  const nlohmann::json stats = twins.right.vcpu->stats()["lockstep"];
  EXPECT_GT(stats["instructions_compared"], 100);
  EXPECT_EQ(stats["differences_that_did_not_repeat"], 0);
}

TEST(LockstepEngine, compares_as_much_as_it_is_told) {
  Twins twins(make_lockstep({100, 10}).value());
  twins.enter(TwinMode::Supervisor64);
  twins.place_code(kCodeAddress, [](Assembler& a) {
    const Label loop = a.newLabel();
    a.mov(r::ecx, 1000);
    a.bind(loop);
    a.dec(r::ecx);
    a.jnz(loop);
    a.hlt();
  });
  twins.run_and_compare();
  const nlohmann::json stats = twins.right.vcpu->stats()["lockstep"];
  EXPECT_GE(stats["blocks_compared"], 90);
  EXPECT_LE(stats["blocks_compared"], 91);
}

}  // namespace
}  // namespace doppel::engine::test
