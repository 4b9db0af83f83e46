#include "engine/dbt/twins.h"

/// SYSCALL and SYSRET, many times over: by the interpreter at first, then by translated code itself.
namespace doppel::engine::test {
namespace {

namespace r = asmjit::x86;
namespace rflags = x86::rflags;
using asmjit::Label;
using asmjit::x86::Assembler;
using Code = std::function<void(Assembler&)>;

class SystemCalls : public ::testing::Test {
 protected:
  Twins twins;
  static constexpr std::uint64_t kKernel = 0x19'0000;
  static constexpr int kCalls = 20;

  void SetUp() override {
    twins.enter(TwinMode::User64);
    twins.state.star = std::uint64_t{0x08} << 32 | std::uint64_t{0x13} << 48;
    twins.state.lstar = kKernel;
    twins.state.sfmask = rflags::kStatus | rflags::kIf | rflags::kTf | rflags::kDf | rflags::kAc | rflags::kNt;
    twins.state.gpr[x86::kRbx] = kCalls;
  }

  using Register = asmjit::x86::Gp;
  /// Adds values up such that their order counts.
  static void mix(Assembler& a, const Register& sum, std::initializer_list<Register> values) {
    for (const Register& value : values) {
      a.imul(sum, sum, 31);
      a.add(sum, value);
    }
  }
  static void mix_selectors(Assembler& a, const Register& sum) {
    a.mov(r::eax, r::cs);
    mix(a, sum, {r::rax});
    a.mov(r::eax, r::ss);
    mix(a, sum, {r::rax});
  }

  /// User code that calls RBX times, with flags of all kinds, and adds up what it gets; then UD2. `each` comes after
  /// each call. `kernel` may change all but RBX, RSI, RDI, RSP and the upper registers; R12 counts for it.
  void run(
      const Code& kernel, const Code& each = [](Assembler&) {}) {
    twins.place_code(kCodeAddress, [&](Assembler& a) {
      const Label again = a.newLabel();
      a.bind(again);
      a.imul(r::eax, r::ebx, 0x7654321);
      a.add(r::eax, 0x7000'0000);
      a.adc(r::rax, 0x55);
      a.mov(r::rdx, r::rbx);
      a.syscall();
      a.lea(r::rdi, r::ptr(r::rdi, r::rax));
      a.pushfq();
      a.pop(r::rax);
      mix(a, r::rdi, {r::rax, r::rcx, r::r11});
      mix_selectors(a, r::rdi);
      each(a);
      a.dec(r::rbx);
      a.jnz(again);
      a.ud2();
    });
    twins.place_code(kKernel, [&](Assembler& a) {
      a.pushfq();
      a.pop(r::r8);
      mix(a, r::rsi, {r::r8, r::rax, r::rcx, r::r11, r::rdx});
      mix_selectors(a, r::rsi);
      kernel(a);
      a.embed("\x48\x0F\x07", 3);  // SYSRET
    });
    twins.state.rip = kCodeAddress;
    twins.run_and_compare();
  }
  void expect_all_calls() {
    EXPECT_EQ(twins.exception(), x86::vector::kUd);
    EXPECT_EQ(twins.right.state.gpr[x86::kRbx], 0U);
  }
  /// Only in the last call but one, by when all is translated.
  static void late(Assembler& a, const Code& change) {
    const Label not_yet = a.newLabel();
    a.cmp(r::rbx, 2);
    a.jne(not_yet);
    change(a);
    a.bind(not_yet);
  }
};

TEST_F(SystemCalls, go_there_and_back) {
  run([](Assembler&) {});
  expect_all_calls();
}

TEST_F(SystemCalls, keep_the_flags_that_are_not_masked) {
  twins.state.sfmask = rflags::kCf | rflags::kOf;
  run([](Assembler& a) { a.xor_(r::r11, 0x8D4); });
  expect_all_calls();
}

TEST_F(SystemCalls, return_other_flags) {
  run([](Assembler& a) {
    a.xor_(r::r11, static_cast<int>(rflags::kDf | rflags::kIopl | rflags::kNt | rflags::kId | rflags::kCf));
    late(a, [](Assembler& late) { late.or_(r::r11, static_cast<int>(rflags::kAc | rflags::kRf)); });
  });
  expect_all_calls();
}

TEST_F(SystemCalls, have_each_their_own_rights) {
  run([](Assembler& a) { a.mov(r::qword_ptr(Twins::kSupervisor), r::rbx); },
      [](Assembler& a) { late(a, [](Assembler& late) { late.mov(r::rax, r::qword_ptr(Twins::kSupervisor)); }); });
  EXPECT_EQ(twins.exception(), x86::vector::kPf);
  EXPECT_EQ(twins.right.state.cr2, Twins::kSupervisor);
}

TEST_F(SystemCalls, keep_supervisors_out_of_user_pages_under_smap) {
  twins.state.cr4 |= x86::cr4::kSmap;
  twins.state.rflags_without_of |= rflags::kAc;
  twins.state.gpr[x86::kRsp] = Twins::kSupervisor + 0x800;
  for (const std::uint64_t page : {Twins::kGdt, Twins::kIdt, Twins::kTss, Twins::kKernelStack - 0x1000})
    twins.poke(Twins::entry_of(page), page | 3);
  twins.place_code(kCodeAddress, [](Assembler& a) {
    const Label again = a.newLabel();
    a.bind(again);
    a.mov(r::rax, r::qword_ptr(Twins::kData));
    a.syscall();
    a.dec(r::rbx);
    a.jnz(again);
    a.ud2();
  });
  twins.place_code(kKernel, [](Assembler& a) {
    a.pushfq();
    a.pop(r::rsi);
    a.stac();
    a.mov(r::rax, r::qword_ptr(Twins::kData));
    a.clac();
    late(a, [](Assembler& late) { late.mov(r::rax, r::qword_ptr(Twins::kData + 8)); });
    a.embed("\x48\x0F\x07", 3);
  });
  twins.state.rip = kCodeAddress;
  twins.run_and_compare();
  EXPECT_EQ(twins.exception(), x86::vector::kPf);
  EXPECT_EQ(twins.right.state.cr2, Twins::kData + 8);
}

TEST_F(SystemCalls, read_segment_registers_and_cr2) {
  twins.state.cr2 = 0x1234'5678'9ABC;
  run([](Assembler& a) {
    a.mov(r::rdx, -1);
    a.mov(r::edx, r::ds);
    a.add(r::rsi, r::rdx);
    a.mov(r::r9, -1);
    a.mov(r::r9d, r::es);
    a.add(r::rsi, r::r9);
    a.mov(r::rdx, -1);
    a.mov(r::dx, r::ss);
    a.add(r::rsi, r::rdx);
    a.mov(r::r10, -1);
    a.mov(r::r10w, r::cs);
    a.add(r::rsi, r::r10);
    a.mov(r::rdx, r::cr2);
    a.add(r::rsi, r::rdx);
    a.mov(r::r9, r::cr2);
    a.add(r::rsi, r::r9);
  });
  expect_all_calls();
}

TEST_F(SystemCalls, push_the_flag_that_stac_sets) {
  twins.state.cr4 |= x86::cr4::kSmap;
  for (const std::uint64_t page : {Twins::kGdt, Twins::kIdt, Twins::kTss, Twins::kKernelStack - 0x1000})
    twins.poke(Twins::entry_of(page), page | 3);
  // The flags are pushed to the user's stack, which only STAC permits.
  twins.place_code(kCodeAddress, [](Assembler& a) {
    const Label again = a.newLabel();
    a.bind(again);
    a.syscall();
    a.dec(r::rbx);
    a.jnz(again);
    a.ud2();
  });
  twins.place_code(kKernel, [](Assembler& a) {
    a.stac();
    a.pushfq();
    a.pop(r::rdx);
    a.imul(r::rsi, r::rsi, 31);
    a.add(r::rsi, r::rdx);
    a.mov(r::qword_ptr(Twins::kData), r::rsi);
    a.clac();
    a.mov(r::qword_ptr(Twins::kSupervisor), r::rsi);
    a.embed("\x48\x0F\x07", 3);
  });
  twins.state.rip = kCodeAddress;
  twins.run_and_compare();
  expect_all_calls();
}

TEST_F(SystemCalls, return_to_no_address) {
  run([](Assembler& a) { late(a, [](Assembler& late) { late.mov(r::rcx, std::uint64_t{1} << 60); }); });
  EXPECT_TRUE(twins.exception());
  EXPECT_EQ(twins.right.state.gpr[x86::kRbx], 2U);
}

TEST_F(SystemCalls, return_into_a_single_step) {
  run([](Assembler& a) { late(a, [](Assembler& late) { late.or_(r::r11, static_cast<int>(rflags::kTf)); }); });
  EXPECT_EQ(twins.exception(), x86::vector::kDb);
}

TEST_F(SystemCalls, return_into_alignment_checks) {
  twins.state.cr0 |= x86::cr0::kAm;
  run([](Assembler& a) { late(a, [](Assembler& late) { late.or_(r::r11, static_cast<int>(rflags::kAc)); }); },
      [](Assembler& a) { a.mov(r::rax, r::qword_ptr(Twins::kData + 1)); });
  EXPECT_EQ(twins.exception(), x86::vector::kAc);
  EXPECT_EQ(twins.right.state.gpr[x86::kRbx], 2U);
}

TEST_F(SystemCalls, return_to_an_interrupt_that_waits) {
  constexpr std::uint8_t kVector = 0x40;
  for (Side* side : {&twins.left, &twins.right}) side->io.interrupts.push_back(kVector);
  run([](Assembler& a) { late(a, [](Assembler& late) { late.or_(r::r11, static_cast<int>(rflags::kIf)); }); });
  EXPECT_EQ(twins.exception(), kVector);
  EXPECT_EQ(twins.right.state.gpr[x86::kRbx], 2U);
}

TEST_F(SystemCalls, follow_their_registers) {
  run([](Assembler& a) {
    late(a, [](Assembler& late) {
      for (const auto [number, low, high] :
           {std::array<unsigned, 3>{0xC000'0082, kKernel + 0x800, 0}, {0xC000'0084, 0x8D5, 0}}) {
        late.mov(r::r13, r::rcx);
        late.mov(r::ecx, number);
        late.mov(r::eax, low);
        late.mov(r::edx, high);
        late.wrmsr();
        late.mov(r::rcx, r::r13);
      }
    });
  });
  // Nothing is at the new place but zeros: an ADD to where RAX points to.
  EXPECT_EQ(twins.right.state.gpr[x86::kRbx], 1U);
}

TEST_F(SystemCalls, end_when_they_are_disabled) {
  run([](Assembler& a) {
    late(a, [](Assembler& late) {
      late.mov(r::r13, r::rcx);
      late.mov(r::ecx, 0xC000'0080);
      late.rdmsr();
      late.and_(r::eax, ~1);
      late.wrmsr();
      late.mov(r::rcx, r::r13);
    });
  });
  EXPECT_EQ(twins.exception(), x86::vector::kUd);
  EXPECT_EQ(twins.right.state.gpr[x86::kRbx], 2U);
}

TEST_F(SystemCalls, see_another_address_space) {
  run([](Assembler& a) {
    a.mov(r::rax, r::cr3);
    a.mov(r::cr3, r::rax);
    late(a, [](Assembler& late) {
      late.mov(r::qword_ptr(static_cast<std::uint64_t>(Twins::entry_of(kCodeAddress))),
               static_cast<int>(Twins::kSupervisor | 7));
      late.mov(r::cr3, r::rax);
    });
  });
  // Zeros again, in place of the user's code.
  EXPECT_TRUE(twins.exception());
}

TEST_F(SystemCalls, take_the_tsc_from_users_by_tsd) {
  run(
      [](Assembler& a) {
        a.mov(r::rax, r::cr4);
        late(a, [](Assembler& late) { late.or_(r::rax, static_cast<int>(x86::cr4::kTsd)); });
        a.mov(r::cr4, r::rax);
      },
      [](Assembler& a) { a.rdtsc(); });
  EXPECT_EQ(twins.exception(), x86::vector::kGp);
  EXPECT_EQ(twins.right.state.gpr[x86::kRbx], 2U);
}

TEST_F(SystemCalls, change_segment_bases) {
  twins.state.cr4 |= x86::cr4::kFsgsbase;
  twins.poke<std::uint64_t>(Twins::kData + 0x100, 0x1111);
  twins.poke<std::uint64_t>(Twins::kData + 0x200, 0x2222);
  twins.state.kernel_gs_base = Twins::kData + 0x200;
  Assembler* emitter = nullptr;
  const auto base = [&emitter](unsigned op, unsigned reg) {
    const unsigned char bytes[] = {0xF3, 0x48, 0x0F, 0xAE, static_cast<unsigned char>(0xC0 | op << 3 | reg)};
    emitter->embed(bytes, sizeof bytes);
  };
  run([&](Assembler& a) {
    emitter = &a;
    a.swapgs();
    a.mov(r::rax, static_cast<std::uint64_t>(Twins::kData + 0x100));
    base(2, 0);  // WRFSBASE RAX
    a.lea(r::rax, r::ptr(r::rax, r::rbx, 3));
    base(1, 2);  // RDGSBASE RDX
    a.add(r::rsi, r::rdx);
    base(0, 2);  // RDFSBASE RDX
    a.add(r::rsi, r::rdx);
    a.swapgs();
    late(a, [&](Assembler& late) {
      late.mov(r::rax, std::uint64_t{1} << 50);
      base(3, 0);  // WRGSBASE RAX
    });
  });
  EXPECT_EQ(twins.exception(), x86::vector::kGp);
}

}  // namespace
}  // namespace doppel::engine::test
