#include "engine/guest_program.h"

/// Several accesses off one register, of which an engine may look up the page once.
namespace doppel::engine::test {
namespace {

namespace r = asmjit::x86;
using asmjit::Label;
using asmjit::x86::Assembler;

class NeighbouringAccesses : public OnEachEngine {
 protected:
  NeighbouringAccesses() {
    poke_physical<std::uint64_t>(kPdpt + 8, kPd | kPresentWritable);
    poke_physical<std::uint64_t>(kPd, kPt | kPresentWritable);
    map(kFirst, kFirstFrame | kPresentWritable);
    map(kSecond, kSecondFrame | kPresentWritable);
    for (unsigned i = 0; i < 16; ++i) {
      if (i != x86::kRsp) state.gpr[i] = std::uint64_t{0x1111'1111'1111'1111} * i;
    }
  }

  static constexpr std::uint64_t kPresent = 1, kPresentWritable = 3, kDirty = 0x40;
  static constexpr std::uint64_t kPdpt = 0x2000, kPd = 0x6000, kPt = 0x7000;
  /// Two neighbours among linear pages, and where they are.
  static constexpr std::uint64_t kFirst = 0x4000'0000, kSecond = 0x4000'1000;
  static constexpr std::uint64_t kFirstFrame = 0x60'0000, kSecondFrame = 0x50'0000;

  static std::uint64_t entry_of(std::uint64_t linear) { return kPt + 8 * (linear >> 12 & 511); }
  void map(std::uint64_t linear, std::uint64_t entry) { poke_physical<std::uint64_t>(entry_of(linear), entry); }
  std::uint64_t first(std::uint64_t offset) { return peek_physical<std::uint64_t>(kFirstFrame + offset); }
  std::uint64_t second(std::uint64_t offset) { return peek_physical<std::uint64_t>(kSecondFrame + offset); }
};

TEST_P(NeighbouringAccesses, InTwoPages) {
  ASSERT_EQ(run([](Assembler& a) {
              a.mov(r::rbx, kSecond - 8);
              a.mov(r::ptr(r::rbx), r::rdi);
              a.mov(r::ptr(r::rbx, 8), r::rsi);
              a.mov(r::rax, r::ptr(r::rbx));
              a.mov(r::rcx, r::ptr(r::rbx, 8));
              a.add(r::rbx, 12);
              a.mov(r::r8d, r::dword_ptr(r::rbx, -4));
            }),
            ExitReason::Halted);
  EXPECT_EQ(first(0xFF8), 0x7777'7777'7777'7777);
  EXPECT_EQ(second(0), 0x6666'6666'6666'6666);
  EXPECT_EQ(state.gpr[x86::kRax], 0x7777'7777'7777'7777);
  EXPECT_EQ(state.gpr[x86::kRcx], 0x6666'6666'6666'6666);
  EXPECT_EQ(state.gpr[x86::kR8], 0x6666'6666U);
}

TEST_P(NeighbouringAccesses, TheSecondPageIsNotThere) {
  map(kSecond, 0);
  std::uint64_t faulting = 0;
  ASSERT_EQ(run([&](Assembler& a) {
              a.mov(r::rbx, kSecond - 8);
              a.cmp(r::rsi, r::rdi);
              a.mov(r::ptr(r::rbx), r::rdi);
              faulting = kCodeAddress + a.offset();
              a.mov(r::ptr(r::rbx, 8), r::rsi);
              a.mov(r::ptr(r::rbx, -8), r::rsi);
            }),
            ExitReason::Halted);
  ASSERT_EQ(exception(), unsigned{x86::vector::kPf});
  EXPECT_EQ(faulting_rip(true), faulting);
  EXPECT_EQ(state.cr2, kSecond);
  EXPECT_EQ(first(0xFF8), 0x7777'7777'7777'7777);
  EXPECT_EQ(first(0xFF0), 0U);
  EXPECT_NE(status_flags() & x86::rflags::kCf, 0U);
}

TEST_P(NeighbouringAccesses, AReadBeforeAWriteThatIsNotAllowed) {
  map(kFirst, kFirstFrame | kPresent);
  poke_physical<std::uint64_t>(kFirstFrame + 0x10, 42);
  std::uint64_t faulting = 0;
  ASSERT_EQ(run([&](Assembler& a) {
              a.mov(r::rbx, kFirst);
              a.mov(r::rax, r::ptr(r::rbx, 0x10));
              faulting = kCodeAddress + a.offset();
              a.mov(r::ptr(r::rbx, 0x18), r::rax);
            }),
            ExitReason::Halted);
  ASSERT_EQ(exception(), unsigned{x86::vector::kPf});
  EXPECT_EQ(faulting_rip(true), faulting);
  EXPECT_EQ(state.cr2, kFirst + 0x18);
  EXPECT_EQ(state.gpr[x86::kRax], 42U);
}

/// What would be written later makes no page dirty before.
TEST_P(NeighbouringAccesses, AReadBeforeAWriteThatIsSkipped) {
  ASSERT_EQ(run([](Assembler& a) {
              const Label end = a.newLabel();
              a.mov(r::rbx, kFirst);
              a.mov(r::rax, r::ptr(r::rbx));
              a.test(r::rax, r::rax);
              a.jz(end);
              a.mov(r::ptr(r::rbx, 8), r::rax);
              a.bind(end);
            }),
            ExitReason::Halted);
  ASSERT_EQ(exception(), std::nullopt);
  EXPECT_EQ(peek_physical<std::uint64_t>(entry_of(kFirst)) & kDirty, 0U);
}

TEST_P(NeighbouringAccesses, TheStackInTwoPages) {
  state.gpr[x86::kRsp] = kSecond + 16;
  ASSERT_EQ(run([](Assembler& a) {
              const Label function = a.newLabel(), end = a.newLabel();
              a.call(function);
              a.jmp(end);
              a.bind(function);
              a.push(r::rbp);
              a.mov(r::rbp, r::rsp);
              for (const r::Gp& reg : {r::rsi, r::r9, r::r12}) a.push(reg);
              a.push(r::qword_ptr(r::rsp, 8));
              a.mov(r::rax, r::ptr(r::rbp, -8));
              a.pop(r::r10);
              a.pop(r::r13);
              a.leave();
              a.ret();
              a.bind(end);
            }),
            ExitReason::Halted);
  ASSERT_EQ(exception(), std::nullopt);
  EXPECT_EQ(state.gpr[x86::kRsp], kSecond + 16);
  EXPECT_EQ(state.gpr[x86::kRbp], 0x5555'5555'5555'5555);
  EXPECT_EQ(state.gpr[x86::kRax], 0x6666'6666'6666'6666);
  EXPECT_EQ(state.gpr[x86::kR10], 0x9999'9999'9999'9999);
  EXPECT_EQ(state.gpr[x86::kR13], 0xCCCC'CCCC'CCCC'CCCC);
  EXPECT_EQ(second(0), 0x5555'5555'5555'5555);
  EXPECT_EQ(first(0xFF8), 0x6666'6666'6666'6666);
}

TEST_P(NeighbouringAccesses, RegistersThatChangeBetween) {
  ASSERT_EQ(run([](Assembler& a) {
              a.mov(r::rbx, kFirst);
              a.mov(r::ptr(r::rbx), r::rsi);
              a.mov(r::r10, r::rbx);
              a.inc(r::r10);
              a.lea(r::r9, r::ptr(r::r10, 7));
              a.mov(r::ptr(r::r9), r::rdi);  // kFirst + 8
              a.mov(r::dl, r::ptr(r::r10));  // kFirst + 1
              a.mov(r::bx, 0x100);           // another value: kFirst + 100h
              a.mov(r::ptr(r::rbx), r::r12);
              a.mov(r::eax, 3);
              a.mul(r::rbx);  // rax = 3 * rbx
              a.sub(r::rax, r::rbx);
              a.sub(r::rax, r::rbx);
              a.mov(r::r14, r::ptr(r::rax));  // kFirst + 100h
              a.xchg(r::rbx, r::r9);
              a.mov(r::ptr(r::rbx, 0x10), r::r15);  // kFirst + 18h
              a.mov(r::ah, r::ptr(r::rbx, 1));
            }),
            ExitReason::Halted);
  ASSERT_EQ(exception(), std::nullopt);
  EXPECT_EQ(first(0), 0x6666'6666'6666'6666);
  EXPECT_EQ(first(8), 0x7777'7777'7777'7777);
  EXPECT_EQ(first(0x100), 0xCCCC'CCCC'CCCC'CCCC);
  EXPECT_EQ(first(0x18), 0xFFFF'FFFF'FFFF'FFFF);
  EXPECT_EQ(state.gpr[x86::kR14], 0xCCCC'CCCC'CCCC'CCCC);
  EXPECT_EQ(state.gpr[x86::kRax] >> 8 & 0xFF, 0x77U);
}

/// Stores next to each other into the block that they are part of.
TEST_P(NeighbouringAccesses, IntoTheirOwnCode) {
  ASSERT_EQ(run([](Assembler& a) {
              const Label target = a.newLabel();
              a.lea(r::rbx, r::ptr(target));
              a.mov(r::rax, r::ptr(r::rbx));
              a.mov(r::dword_ptr(r::rbx, 1), 7);
              a.mov(r::byte_ptr(r::rbx, 5), 0x90);
              a.bind(target);
              a.mov(r::ecx, 5);
              a.hlt();
              a.inc(r::ecx);
            }),
            ExitReason::Halted);
  EXPECT_EQ(state.gpr[x86::kRcx], 8U);
}

DOPPEL_TEST_ON_EACH_ENGINE(NeighbouringAccesses);

}  // namespace
}  // namespace doppel::engine::test
