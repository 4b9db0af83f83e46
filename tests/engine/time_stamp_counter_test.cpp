#include "engine/guest_program.h"

/// RDTSC is a function of the machine's clock, whoever executes it.
namespace doppel::engine::test {
namespace {

namespace r = asmjit::x86;
using asmjit::x86::Assembler;

class TimeStampCounter : public OnEachEngine {
 protected:
  TimeStampCounter() {
    clock.resume();
    while (time::host_tsc_is_clock() && !clock.line().now()) clock.now();
  }
  static constexpr std::uint64_t kUpper = 0xFFFF'FFFF'0000'0000;
  std::uint64_t result() const { return state.gpr[x86::kRdx] << 32 | state.gpr[x86::kRax]; }
  std::uint64_t now() const { return static_cast<std::uint64_t>(clock.now()); }
  static void all_flags(Assembler& a) {
    a.mov(r::eax, 0x7FFF'FFFF);
    a.add(r::eax, 0x7FFF'FFFF);
    a.stc();
  }
};

TEST_P(TimeStampCounter, is_the_clock_plus_the_offset) {
  constexpr std::uint64_t kOffset = 0x1234'5678'9ABC;
  for (int i = 0; i < 100; ++i) {
    state.tsc_offset = kOffset;
    const std::uint64_t before = now();
    run([](Assembler& a) {
      a.mov(r::rax, -1);
      a.mov(r::rdx, -1);
      a.rdtsc();
    });
    const std::uint64_t after = now();
    EXPECT_EQ(state.gpr[x86::kRax] & kUpper, 0U);
    EXPECT_EQ(state.gpr[x86::kRdx] & kUpper, 0U);
    EXPECT_GE(result(), before + kOffset);
    EXPECT_LE(result(), after + kOffset);
  }
}

TEST_P(TimeStampCounter, changes_no_flag) {
  run(all_flags);
  const std::uint64_t expected = status_flags();
  run([](Assembler& a) {
    all_flags(a);
    a.rdtsc();
    a.lfence();
    a.rdtscp();
  });
  EXPECT_EQ(status_flags(), expected);
}

TEST_P(TimeStampCounter, never_goes_back) {
  clock.pause();
  clock.resume();
  run([](Assembler& a) {
    const asmjit::Label again = a.newLabel(), fine = a.newLabel();
    a.mov(r::ebx, 2'000'000);
    a.xor_(r::esi, r::esi);
    a.xor_(r::edi, r::edi);
    a.bind(again);
    a.rdtscp();
    a.shl(r::rdx, 32);
    a.or_(r::rax, r::rdx);
    a.cmp(r::rax, r::rsi);
    a.jae(fine);
    a.inc(r::edi);
    a.bind(fine);
    a.mov(r::rsi, r::rax);
    a.dec(r::ebx);
    a.jnz(again);
  });
  EXPECT_EQ(state.gpr[x86::kRdi], 0U);
  EXPECT_LE(state.gpr[x86::kRsi], now());
}

TEST_P(TimeStampCounter, stands_still_while_the_machine_is_paused) {
  clock.pause();
  run([](Assembler& a) { a.rdtsc(); });
  EXPECT_EQ(result(), now());
  run([](Assembler& a) { a.rdtsc(); });
  EXPECT_EQ(result(), now());
}

TEST_P(TimeStampCounter, rdtscp_gives_the_processors_number) {
  state.tsc_aux = 0x8765'4321;
  run([](Assembler& a) {
    a.mov(r::rcx, -1);
    a.rdtscp();
  });
  EXPECT_EQ(state.gpr[x86::kRcx], 0x8765'4321U);
  EXPECT_LE(result(), now());
}

DOPPEL_TEST_ON_EACH_ENGINE(TimeStampCounter);

}  // namespace
}  // namespace doppel::engine::test
