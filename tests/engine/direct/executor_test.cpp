#include <unistd.h>

#include <atomic>
#include <csignal>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <thread>

#include "engine/dbt/twins.h"

/// Programs that run directly, against the interpreter. (Random ones are in ../dbt/random_programs_test.cpp.)
namespace doppel::engine::test {
namespace {

namespace r = asmjit::x86;
using asmjit::x86::Assembler;

class DirectExecutionTest : public ::testing::Test {
 protected:
  Twins twins{translator_for(TwinMode::Direct64)};

  void SetUp() override {
    twins.enter(TwinMode::Direct64);
    for (unsigned i = 0; i < 8; ++i) twins.state.gpr[i == x86::kRsp ? 8 : i] = 0x0101'0101'0101'0101 * i;
  }
  /// Ends by an exception, whose handler halts.
  void place(const std::function<void(Assembler&)>& write, std::uint64_t address = kCodeAddress) {
    twins.place_code(address, [&write](Assembler& a) {
      write(a);
      a.ud2();
    });
  }
  std::uint64_t stat(const char* name) const { return twins.right.vcpu->stats()["direct"][name]; }
};

/// Calls, returns, indirect jumps, addresses relative to RIP, the stack, x87, SSE and AVX, flags across iterations.
void busy_loop(Assembler& a, std::uint32_t iterations) {
  const auto loop = a.newLabel(), function = a.newLabel(), on = a.newLabel(), data = a.newLabel();
  a.mov(r::ebx, iterations);
  a.mov(r::rdi, Twins::kData);
  a.fninit();
  a.fld1();
  a.xor_(r::esi, r::esi);
  a.bind(loop);
  a.adc(r::rsi, r::rbx);
  a.mov(r::ptr(r::rdi, 8), r::rsi);
  a.call(function);
  a.lea(r::rax, r::ptr(on));
  a.jmp(r::rax);
  a.ud2();
  a.bind(on);
  a.add(r::r11, r::qword_ptr(data));
  a.mov(r::r10, r::qword_ptr(data));
  a.paddq(r::xmm3, r::xmmword_ptr(data));
  a.vaddpd(r::ymm5, r::ymm5, r::ymm3);
  a.fadd(r::dword_ptr(data));
  a.push(r::r11);
  a.pop(r::rcx);
  a.dec(r::ebx);
  a.jnz(loop);
  a.ud2();
  a.bind(function);
  a.rcl(r::rdx, 3);
  a.lock().xadd(r::qword_ptr(r::rdi), r::rdx);
  a.ret();
  a.align(asmjit::AlignMode::kCode, 16);
  a.bind(data);
  a.embedUInt64(0x3F80'0000'0000'1234);
  a.embedUInt64(0x1234'5678'9ABC'DEF0);
}

TEST_F(DirectExecutionTest, AProgramThatIsInterruptedAnywhereComesToTheSame) {
  constexpr std::uint32_t kIterations = 400'000;
  place([](Assembler& a) { busy_loop(a, kIterations); });
  Side& left = twins.left;
  left.state = twins.state;
  left.run();

  Side& right = twins.right;
  std::atomic<bool> done{false};
  std::thread interrupter([&] {
    while (!done) {
      right.attention.set(x86::Attention::kStop);
      std::this_thread::yield();
    }
  });
  right.state = twins.state;
  right.vcpu->load(right.state);
  std::uint64_t stops = 0;
  while ((right.exit = right.vcpu->run()).reason == ExitReason::Stopped) ++stops;
  done = true;
  interrupter.join();
  right.vcpu->store(right.state);
  EXPECT_EQ(twins.difference(), "");
  EXPECT_GT(stops, 0U);
  EXPECT_GT(stat("hand_overs"), 0U);
}

TEST_F(DirectExecutionTest, AProgramMayWriteItsOwnCode) {
  place([](Assembler& a) {
    const auto patched = a.newLabel(), loop = a.newLabel();
    a.mov(r::ecx, 20);
    a.bind(loop);
    a.lea(r::rdx, r::ptr(patched));
    a.mov(r::byte_ptr(r::rdx, 1), r::cl);
    a.bind(patched);
    a.mov(r::al, 0);
    a.add(r::rbx, r::rax);
    a.dec(r::ecx);
    a.jnz(loop);
  });
  twins.run_and_compare();
}

TEST_F(DirectExecutionTest, AnInstructionMayCrossIntoAnotherPage) {
  // Twice, with a store to its second half in between.
  place(
      [](Assembler& a) {
        const auto loop = a.newLabel();
        a.mov(r::ecx, 2);
        a.jmp(kCodeAddress + 0x1000 - 5);
        a.bind(loop);
        a.nop();
      },
      kCodeAddress);
  place(
      [](Assembler& a) {
        a.mov(r::rax, 0x1122'3344'5566'7788);
        a.add(r::rbx, r::rax);
        a.mov(r::byte_ptr(kCodeAddress + 0x1000), 0x55);
        a.dec(r::ecx);
        a.jnz(kCodeAddress + 0x1000 - 5);
      },
      kCodeAddress + 0x1000 - 5);
  twins.run_and_compare();
}

TEST_F(DirectExecutionTest, ExceptionsHaveTheGuestsRegisters) {
  const auto raise = [this](unsigned vector, const std::function<void(Assembler&)>& write) {
    SetUp();
    place([&write](Assembler& a) {
      for (unsigned i = 0; i < 3; ++i) a.add(r::rbx, r::rcx);
      write(a);
    });
    twins.run_and_compare(fmt::format("vector {}", vector));
    EXPECT_EQ(twins.exception(), vector);
  };
  raise(x86::vector::kPf, [](Assembler& a) { a.mov(r::rax, r::qword_ptr(Twins::kAbsent)); });
  raise(x86::vector::kPf, [](Assembler& a) { a.inc(r::qword_ptr(Twins::kReadOnly)); });
  raise(x86::vector::kPf, [](Assembler& a) { a.call(r::qword_ptr(Twins::kSupervisor)); });
  raise(x86::vector::kPf, [](Assembler& a) {
    a.mov(r::rsp, Twins::kAbsent + 8);
    a.call(kCodeAddress + 0x800);
  });
  raise(x86::vector::kPf, [](Assembler& a) {
    a.mov(r::rsp, Twins::kAbsent);
    a.ret();
  });
  raise(x86::vector::kGp, [](Assembler& a) {
    a.mov(r::rax, std::uint64_t{1} << 60);
    a.mov(r::byte_ptr(r::rax), 1);
  });
  raise(x86::vector::kGp, [](Assembler& a) { a.hlt(); });
  raise(x86::vector::kGp, [](Assembler& a) { a.movaps(r::xmm0, r::ptr(Twins::kData + 1)); });
  raise(x86::vector::kDe, [](Assembler& a) {
    a.xor_(r::ecx, r::ecx);
    a.div(r::ecx);
  });
}

TEST_F(DirectExecutionTest, AddressesOfTheHostsOwnAreAbsentToo) {
  // Below what Linux lets be mapped, where the guest has RAM; and beyond the low half.
  for (const std::uint64_t address : {std::uint64_t{0x9000}, std::uint64_t{0x7FFF'FFFF'F000}}) {
    SetUp();
    place([address](Assembler& a) {
      a.mov(r::rdi, address);
      a.mov(r::rax, r::qword_ptr(r::rdi));
      a.mov(r::qword_ptr(r::rdi), r::rbx);
    });
    twins.run_and_compare(fmt::format("{:#x}", address));
  }
}

TEST_F(DirectExecutionTest, MappedPagesFollowThePageTables) {
  place([](Assembler& a) {
    a.mov(r::rax, r::qword_ptr(Twins::kData));
    a.mov(r::qword_ptr(Twins::kData + 8), r::rax);
  });
  twins.poke<std::uint64_t>(Twins::kData, 1);
  twins.poke<std::uint64_t>(Twins::kData + 0x1000, 2);
  twins.run_and_compare("as it was");
  twins.poke(Twins::entry_of(Twins::kData), (Twins::kData + 0x1000) | 7);
  twins.run_and_compare("another page");
  EXPECT_EQ(twins.right.state.gpr[x86::kRax], 2U);
  twins.poke(Twins::entry_of(Twins::kData), Twins::kData | 5);
  twins.run_and_compare("without the right to write");
  EXPECT_EQ(twins.exception(), x86::vector::kPf);
}

/// Page tables by which other pages are where the program's were, and its pages elsewhere.
class MovedCodeTest : public DirectExecutionTest {
 protected:
  static constexpr std::uint64_t kPage = 0x1000, kThere = kCodeAddress + 16 * kPage,
                                 kBeyond = kCodeAddress + 32 * kPage;
  static constexpr std::uint64_t kAll = 7;  ///< present, writable, for users

  void map(std::uint64_t linear, std::uint64_t physical) { twins.poke(Twins::entry_of(linear), physical | kAll); }
  void run_at(std::uint64_t linear, const std::string& what) {
    twins.state.rip = linear;
    twins.run_and_compare(what);
  }
  /// What tells by rbx which page was called.
  void place_two_to_call() {
    for (const auto& [at, sum] : {std::pair{kCodeAddress + kPage, 1}, std::pair{kBeyond, 100}}) {
      place(
          [sum = sum](Assembler& a) {
            a.add(r::rbx, sum);
            a.ret();
          },
          at);
    }
  }
};

TEST_F(MovedCodeTest, APageIsTranslatedOnceWhereverItIs) {
  place([](Assembler& a) { busy_loop(a, 3); });
  run_at(kCodeAddress, "where it was assembled for");
  const std::uint64_t translated = stat("blocks_translated");
  map(kThere, kCodeAddress);
  run_at(kThere, "elsewhere");
  run_at(kCodeAddress, "back");
  map(kCodeAddress, kBeyond);
  run_at(kThere, "elsewhere alone");
  EXPECT_EQ(stat("blocks_translated"), translated);
}

TEST_F(MovedCodeTest, JumpsIntoAnotherPageLeadToWhatIsThereNow) {
  place([](Assembler& a) {
    a.call(kCodeAddress + kPage);
    a.call(kCodeAddress + kPage);
  });
  place_two_to_call();
  run_at(kCodeAddress, "as it was");
  map(kCodeAddress + kPage, kBeyond);
  run_at(kCodeAddress, "another page");
  map(kCodeAddress + kPage, kCodeAddress + kPage);
  run_at(kCodeAddress, "the first again");
  twins.poke(Twins::entry_of(kCodeAddress + kPage), std::uint64_t{0});
  run_at(kCodeAddress, "none");
  EXPECT_EQ(twins.exception(), x86::vector::kPf);
}

TEST_F(MovedCodeTest, PagesThatMoveApartAreNoLongerLinked) {
  place([](Assembler& a) { a.call(kCodeAddress + kPage); });
  place_two_to_call();
  run_at(kCodeAddress, "as it was");
  map(kThere, kCodeAddress);
  map(kThere + kPage, kCodeAddress + kPage);
  run_at(kThere, "together");
  map(kThere + kPage, kBeyond);
  map(kThere + 2 * kPage, kCodeAddress + kPage);
  run_at(kThere + 2 * kPage, "the second, farther away");
  run_at(kThere, "the first, in front of another");
}

TEST_F(MovedCodeTest, AnInstructionAcrossPagesEndsInTheOneThatIsThereNow) {
  place([](Assembler& a) { a.jmp(kCodeAddress + kPage - 3); });
  place(
      [](Assembler& a) {
        a.mov(r::rax, 0x1122'3344'5566'7788);
        a.add(r::rbx, r::rax);
      },
      kCodeAddress + kPage - 3);
  place(
      [](Assembler& a) {
        for (int i = 0; i < 16; ++i) a.nop();
      },
      kBeyond);
  run_at(kCodeAddress, "as it was");
  map(kCodeAddress + kPage, kBeyond);
  run_at(kCodeAddress, "another end");
  map(kCodeAddress + kPage, kCodeAddress + kPage);
  run_at(kCodeAddress, "the first again");
  map(kThere, kCodeAddress);
  map(kThere + kPage, kBeyond);
  run_at(kThere, "elsewhere, with the other end");
}

TEST_F(DirectExecutionTest, AProgramGoesOnInTheMiddleOfWhatIsTranslated) {
  place([](Assembler& a) {
    for (unsigned i = 0; i < 4; ++i) a.add(r::rbx, r::rcx);
    a.mov(r::rax, r::qword_ptr(Twins::kAbsent));
    a.add(r::rbx, r::rax);
  });
  twins.run_and_compare("#PF");
  const std::uint64_t translated = stat("blocks_translated");
  twins.poke(Twins::entry_of(Twins::kAbsent), Twins::kAbsent | 7);
  constexpr std::uint64_t kAdditions = 4 * 3;
  twins.state.rip = kCodeAddress + kAdditions;
  twins.run_and_compare("once the page is there");
  EXPECT_EQ(stat("blocks_translated"), translated);
}

/// The processes that this one has begun and that are still there.
std::vector<pid_t> children() {
  std::ifstream file(fmt::format("/proc/self/task/{}/children", ::getpid()));
  return {std::istream_iterator<pid_t>(file), {}};
}

TEST_F(DirectExecutionTest, AProcessThatIsKilledTakesTheProgramWithItButNotTheMachine) {
  ::signal(SIGPIPE, SIG_IGN);  // as the program does
  const std::vector<pid_t> processes = children();
  if (processes.empty()) GTEST_SKIP() << "the host does not tell of processes";
  place([](Assembler& a) { a.mov(r::rax, r::qword_ptr(Twins::kData)); });
  for (const pid_t process : processes) ASSERT_EQ(::kill(process, SIGKILL), 0);
  twins.run();
  EXPECT_EQ(twins.right.exit.reason, ExitReason::Halted);
  EXPECT_EQ(twins.right.state.rip, kHandlers + x86::vector::kGp * kHandlerSize + 1);
  twins.run_and_compare("translated from now on");
}

TEST_F(DirectExecutionTest, TheProcessEndsWithItsEngine) {
  const std::vector<pid_t> before = children();
  { const Side other(translator_for(TwinMode::Direct64)); }
  EXPECT_EQ(children(), before);
}

}  // namespace
}  // namespace doppel::engine::test
