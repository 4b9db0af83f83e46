#include <nlohmann/json.hpp>
#include <vector>

#include "engine/guest_program.h"

/// Code whose page gives way to another one behind the engine's back, as far as an engine remembers where code is.
namespace doppel::engine::test {
namespace {

namespace r = asmjit::x86;
using asmjit::Label;
using asmjit::x86::Assembler;

class RemappedCode : public OnEachEngine {
 protected:
  RemappedCode() {
    poke_physical<std::uint64_t>(kPdpt + 8, kPd | kPresentWritable);
    poke_physical<std::uint64_t>(kPd, kPt | kPresentWritable);
    map(kFirst, kFirstFrame);
    map(kSecond, kSecondFrame);
    state.gpr[x86::kRbp] = kSecond + kFunction;
    state.gpr[x86::kR13] = kCrossing;
  }

  static constexpr std::uint64_t kPresentWritable = 3, kAccessed = 0x20, kGlobal = 0x100;
  static constexpr std::uint64_t kPdpt = 0x2000, kPd = 0x6000, kPt = 0x7000;
  /// Two neighbours among linear pages, and where they are.
  static constexpr std::uint64_t kFirst = 0x4000'0000, kSecond = 0x4000'1000;
  static constexpr std::uint64_t kFirstFrame = 0x50'0000, kSecondFrame = 0x60'0000, kOtherFrame = 0x70'0000;
  static constexpr std::uint64_t kSecondEntry = kPt + 8, kFunction = 0x123;
  /// Where an instruction starts that ends in the second page.
  static constexpr std::uint64_t kCrossing = kSecond - 3;

  void map(std::uint64_t linear, std::uint64_t frame) {
    poke_physical<std::uint64_t>(kPt + 8 * (linear >> 12 & 511), frame | kPresentWritable);
  }
  /// In both frames that are to be the second page: mov eax, imm; ret.
  void place_functions() {
    place(kSecondFrame + kFunction, {0xB8, 1, 0, 0, 0, 0xC3});
    place(kOtherFrame + kFunction, {0xB8, 2, 0, 0, 0, 0xC3});
  }
  /// mov eax, 1122h, of which the upper half is in the second page, where the other frame has 3344h; ret.
  void place_crossing() {
    place(kFirstFrame + 0xFFD, {0xB8, 0x22, 0x11});
    place(kSecondFrame, {0x00, 0x00, 0xC3});
    place(kOtherFrame, {0x44, 0x33, 0xC3});
  }
  /// Makes both pages global, and in the first one a function that calls the one in the second: returns its address.
  std::uint64_t place_global_caller() {
    place_functions();
    constexpr std::uint32_t kCaller = 0x200, kCallBytes = 5;
    constexpr std::uint32_t kDistance = kSecond + kFunction - (kFirst + kCaller + kCallBytes);
    place(kFirstFrame + kCaller, {0xE8, kDistance & 0xFF, kDistance >> 8 & 0xFF, 0, 0, 0xC3});
    state.cr4 |= x86::cr4::kPge;
    map(kFirst, kFirstFrame | kGlobal);
    map(kSecond, kSecondFrame | kGlobal);
    return kFirst + kCaller;
  }
  /// Calls `target` until whoever remembers has done so; the sum of what it returned is in rbx.
  static void call_often(Assembler& a, const r::Gp& target) {
    const Label loop = a.newLabel();
    a.xor_(r::ebx, r::ebx);
    a.mov(r::r12d, 5);
    a.bind(loop);
    a.call(target);
    a.add(r::rbx, r::rax);
    a.dec(r::r12d);
    a.jnz(loop);
  }
  static void remap_second(Assembler& a, std::uint64_t frame) {
    a.mov(r::rdi, kSecondEntry);
    a.mov(r::rsi, frame | kPresentWritable);
    a.mov(r::ptr(r::rdi), r::rsi);
  }
  static void flush(Assembler& a) {
    a.mov(r::rsi, r::cr3);
    a.mov(r::cr3, r::rsi);
  }
  /// Global pages too.
  static void flush_all(Assembler& a) {
    a.mov(r::rsi, r::cr4);
    for (int i = 0; i < 2; ++i) {
      a.xor_(r::rsi, x86::cr4::kPge);
      a.mov(r::cr4, r::rsi);
    }
  }
  static void flush_second(Assembler& a) {
    a.mov(r::rdi, kSecond);
    a.invlpg(r::ptr(r::rdi));
  }
  /// Before the remapping in r15, after it in rbx.
  void run_twice(const r::Gp& target, void (*make_known)(Assembler&)) {
    ASSERT_EQ(run([&](Assembler& a) {
                call_often(a, target);
                a.mov(r::r15, r::rbx);
                remap_second(a, kOtherFrame);
                make_known(a);
                call_often(a, target);
              }),
              ExitReason::Halted);
    ASSERT_EQ(exception(), std::nullopt);
  }
};

TEST_P(RemappedCode, AFunctionAfterAFlush) {
  place_functions();
  run_twice(r::rbp, flush);
  EXPECT_EQ(state.gpr[x86::kR15], 5 * 1U);
  EXPECT_EQ(state.gpr[x86::kRbx], 5 * 2U);
}

TEST_P(RemappedCode, AFunctionAfterInvlpg) {
  place_functions();
  run_twice(r::rbp, flush_second);
  EXPECT_EQ(state.gpr[x86::kR15], 5 * 1U);
  EXPECT_EQ(state.gpr[x86::kRbx], 5 * 2U);
}

/// Code in global pages may be linked from page to page.
TEST_P(RemappedCode, AGlobalFunctionAfterAFlushOfAll) {
  state.gpr[x86::kRbp] = place_global_caller();
  run_twice(r::rbp, flush_all);
  EXPECT_EQ(state.gpr[x86::kR15], 5 * 1U);
  EXPECT_EQ(state.gpr[x86::kRbx], 5 * 2U);
}

TEST_P(RemappedCode, AGlobalFunctionAfterInvlpg) {
  state.gpr[x86::kRbp] = place_global_caller();
  run_twice(r::rbp, flush_second);
  EXPECT_EQ(state.gpr[x86::kR15], 5 * 1U);
  EXPECT_EQ(state.gpr[x86::kRbx], 5 * 2U);
}

/// … and stays linked after a flush, if it is where it was.
TEST_P(RemappedCode, AGlobalFunctionThatHasNotMoved) {
  state.gpr[x86::kRbp] = place_global_caller();
  std::vector<std::uint64_t> exits;
  for (unsigned flushes : {1U, 21U}) {
    ASSERT_EQ(run([&](Assembler& a) {
                const Label loop = a.newLabel();
                a.mov(r::r14d, flushes);
                a.bind(loop);
                call_often(a, r::rbp);
                flush_all(a);
                a.dec(r::r14d);
                a.jnz(loop);
              }),
              ExitReason::Halted);
    EXPECT_EQ(state.gpr[x86::kRbx], 5 * 1U);
    const nlohmann::json stats = vcpu->stats();
    if (stats.contains("exits")) exits.push_back(stats["exits"]["chain"]);
  }
  if (exits.empty()) return;  // the interpreter links nothing
  EXPECT_LT(exits.back() - exits.front(), 20U);
}

TEST_P(RemappedCode, TheRestOfAnInstructionAfterAFlush) {
  place_crossing();
  run_twice(r::r13, flush);
  EXPECT_EQ(state.gpr[x86::kR15], 5 * 0x1122U);
  EXPECT_EQ(state.gpr[x86::kRbx], 5 * std::uint64_t{0x3344'1122});
}

TEST_P(RemappedCode, TheRestOfAnInstructionAfterInvlpg) {
  place_crossing();
  run_twice(r::r13, flush_second);
  EXPECT_EQ(state.gpr[x86::kR15], 5 * 0x1122U);
  EXPECT_EQ(state.gpr[x86::kRbx], 5 * std::uint64_t{0x3344'1122});
}

TEST_P(RemappedCode, TheRestOfAnInstructionIsStoredTo) {
  place_crossing();
  ASSERT_EQ(run([&](Assembler& a) {
              call_often(a, r::r13);
              a.mov(r::r15, r::rbx);
              a.mov(r::rdi, kSecond);
              a.mov(r::word_ptr(r::rdi), 0x5566);
              call_often(a, r::r13);
            }),
            ExitReason::Halted);
  EXPECT_EQ(state.gpr[x86::kR15], 5 * 0x1122U);
  EXPECT_EQ(state.gpr[x86::kRbx], 5 * std::uint64_t{0x5566'1122});
}

TEST_P(RemappedCode, TheRestOfAnInstructionIsThereNoMore) {
  place_crossing();
  ASSERT_EQ(run([&](Assembler& a) {
              call_often(a, r::r13);
              remap_second(a, 0);
              a.mov(r::qword_ptr(r::rdi), 0);
              flush(a);
              a.call(r::r13);
            }),
            ExitReason::Halted);
  ASSERT_EQ(exception(), unsigned{x86::vector::kPf});
  EXPECT_EQ(faulting_rip(true), kCrossing);
  EXPECT_EQ(state.cr2, kSecond);
}

/// What an engine remembers of a page must not set its accessed bit, nor keep the next fetch from doing so.
TEST_P(RemappedCode, AccessedBitsAreSetByFetchesAlone) {
  place_functions();
  ASSERT_EQ(run([&](Assembler& a) {
              const Label elsewhere = a.newLabel(), end = a.newLabel();
              call_often(a, r::rbp);
              remap_second(a, kSecondFrame);  // without the accessed bit
              flush(a);
              a.lea(r::r14, r::ptr(elsewhere));
              call_often(a, r::r14);
              a.mov(r::rdi, kSecondEntry);
              a.mov(r::r15, r::ptr(r::rdi));
              a.call(r::rbp);
              a.mov(r::r14, r::ptr(r::rdi));
              a.jmp(end);
              a.bind(elsewhere);
              a.ret();
              a.bind(end);
            }),
            ExitReason::Halted);
  EXPECT_EQ(state.gpr[x86::kR15] & kAccessed, 0U);
  EXPECT_EQ(state.gpr[x86::kR14] & kAccessed, kAccessed);
}

DOPPEL_TEST_ON_EACH_ENGINE(RemappedCode);

}  // namespace
}  // namespace doppel::engine::test
