#include "engine/dbt/twins.h"

/// Linear addresses: when a translation may be kept, and what rights it has.
namespace doppel::engine::test {
namespace {

namespace r = asmjit::x86;
using asmjit::Label;
using asmjit::x86::Assembler;

class Translation : public ::testing::Test {
 protected:
  Twins twins;
  static constexpr std::uint64_t kPage = Twins::kData, kElsewhere = Twins::kData + 0x1000;
  static constexpr std::uint64_t kAccessed = 0x20, kDirty = 0x40, kGlobal = 0x100;
  static constexpr int kEntry = Twins::kPageTable + 8 * (kPage >> 12);

  void SetUp() override {
    twins.enter(TwinMode::Supervisor64);
    twins.poke<std::uint64_t>(kPage, 1);
    twins.poke<std::uint64_t>(kElsewhere, 2);
    twins.state.gpr[x86::kRbx] = kPage;
  }
  void run(const std::function<void(Assembler&)>& write) {
    twins.place_code(kCodeAddress, [&](Assembler& a) {
      write(a);
      a.hlt();
    });
    twins.state.rip = kCodeAddress;
    twins.run_and_compare();
  }
  std::uint64_t result(x86::Gpr reg = x86::kRax) const { return twins.right.state.gpr[reg]; }
  std::pair<std::uint64_t, std::uint64_t> entries(std::uint64_t address) const {
    std::uint64_t left = 0, right = 0;
    EXPECT_TRUE(twins.left.memory->read_value(address, left));
    EXPECT_TRUE(twins.right.memory->read_value(address, right));
    return {left, right};
  }
  void only_for_supervisor() {
    for (std::uint64_t address = 0; address < kTwinRam; address += 4096) {
      if (address != kPage) twins.poke(Twins::entry_of(address), address | 3);
    }
  }
  static void map_elsewhere(Assembler& a) { a.mov(r::qword_ptr(kEntry), static_cast<int>(kElsewhere | 7)); }
};

TEST_F(Translation, invlpg_drops_one) {
  run([](Assembler& a) {
    a.mov(r::rax, r::qword_ptr(r::rbx));
    map_elsewhere(a);
    a.invlpg(r::ptr(r::rbx, 0x123));
    a.mov(r::rcx, r::qword_ptr(r::rbx));
    a.mov(r::qword_ptr(r::rbx, 8), r::rcx);
  });
  EXPECT_EQ(result(x86::kRcx), 2);
}

TEST_F(Translation, a_load_of_cr3_drops_all_but_the_global_ones) {
  twins.poke(Twins::entry_of(kElsewhere), kElsewhere | 7 | kGlobal);
  run([](Assembler& a) {
    a.mov(r::rax, r::qword_ptr(r::rbx));
    a.mov(r::rdx, r::qword_ptr(r::rbx, 0x1000));
    map_elsewhere(a);
    a.mov(r::rcx, r::cr3);
    a.mov(r::cr3, r::rcx);
    a.mov(r::rcx, r::qword_ptr(r::rbx));
    a.mov(r::rsi, r::qword_ptr(r::rbx, 0x1000));
  });
  EXPECT_EQ(result(x86::kRcx), 2);
  EXPECT_EQ(result(x86::kRsi), 2);
}

TEST_F(Translation, a_change_of_cr4_pge_drops_global_ones) {
  twins.poke(Twins::entry_of(kPage), kPage | 7 | kGlobal);
  run([](Assembler& a) {
    a.mov(r::rax, r::qword_ptr(r::rbx));
    map_elsewhere(a);
    a.mov(r::rcx, r::cr4);
    a.mov(r::rdx, r::rcx);
    a.and_(r::rdx, ~0x80);
    a.mov(r::cr4, r::rdx);
    a.mov(r::cr4, r::rcx);
    a.mov(r::rcx, r::qword_ptr(r::rbx));
  });
  EXPECT_EQ(result(x86::kRcx), 2);
}

TEST_F(Translation, invlpg_drops_all_of_a_large_page) {
  // 0x400000 and 0x600000 are large pages; both are made to lead to RAM.
  constexpr int kPd = 0x3000;
  twins.poke<std::uint64_t>(kPd + 16, 0x87 | 0x20'0000);
  twins.state.gpr[x86::kRbx] = 0x40'0000 + (kPage - 0x20'0000);
  run([](Assembler& a) {
    a.mov(r::rax, r::qword_ptr(r::rbx));
    a.mov(r::rdx, r::qword_ptr(r::rbx, 0x1000));
    a.mov(r::qword_ptr(r::rbx, 0x2008), r::rdx);
    a.mov(r::qword_ptr(kPd + 16), 0x87);
    a.invlpg(r::ptr(0x40'0000));
    a.mov(r::rcx, r::qword_ptr(r::rbx));
    a.mov(r::rsi, r::qword_ptr(r::rbx, 0x1000));
    a.mov(r::qword_ptr(r::rbx, 0x2010), r::rdx);
  });
  EXPECT_EQ(result(), 1);
  EXPECT_EQ(result(x86::kRcx), entries(kPage - 0x20'0000).first);
}

TEST_F(Translation, code_follows_its_mapping) {
  static constexpr std::uint64_t kFunction = 0x3F'0000, kFirst = 0x3E'0000, kSecond = 0x3E'1000;
  for (const auto& [address, value] : {std::pair{kFirst, 1}, std::pair{kSecond, 2}}) {
    twins.place_code(address, [value = value](Assembler& a) {
      const Label inner = a.newLabel();
      a.lea(r::rax, r::ptr(r::rax, r::rax, 2, value));
      a.jmp(inner);
      a.bind(inner);
      a.ret();
    });
  }
  twins.poke(Twins::entry_of(kFunction), kFirst | 7);
  run([](Assembler& a) {
    const Label loop = a.newLabel();
    a.xor_(r::eax, r::eax);
    a.mov(r::ebx, 8);
    a.mov(r::r12d, kFunction);
    a.bind(loop);
    a.call(r::r12);
    a.xor_(r::qword_ptr(static_cast<int>(Twins::entry_of(kFunction))), static_cast<int>(kFirst ^ kSecond));
    a.invlpg(r::ptr(r::r12));
    a.dec(r::ebx);
    a.jnz(loop);
  });
  EXPECT_NE(result(), 0);
}

TEST_F(Translation, code_at_two_addresses_knows_where_it_runs) {
  static constexpr std::uint64_t kFirst = 0x3E'0000, kAlias = 0x3F'0000;
  twins.poke(Twins::entry_of(kAlias), kFirst | 7);
  twins.place_code(kFirst, [](Assembler& a) {
    const Label here = a.newLabel(), next = a.newLabel();
    a.bind(here);
    a.lea(r::rax, r::ptr(here));
    a.jmp(next);
    a.bind(next);
    a.push(r::rax);
    a.add(r::rax, r::qword_ptr(here));
    a.pop(r::rdx);
    a.ret();
  });
  for (const TwinMode mode : {TwinMode::Supervisor64, TwinMode::User64}) {
    SCOPED_TRACE(static_cast<int>(mode));
    twins.enter(mode);
    twins.poke(Twins::entry_of(kAlias), kFirst | 7);
    twins.place_code(kFirst - 0x1000, [](Assembler& a) { a.nop(); });
    run([](Assembler& a) {
      const Label loop = a.newLabel();
      a.mov(r::ebx, 3);
      a.mov(r::r12d, kFirst);
      a.mov(r::r13d, kAlias);
      a.bind(loop);
      a.call(r::r12);
      a.mov(r::rsi, r::rdx);
      a.call(r::r13);
      a.mov(r::rdi, r::rdx);
      a.dec(r::ebx);
      a.jnz(loop);
    });
    EXPECT_EQ(result(x86::kRsi), kFirst);
    EXPECT_EQ(result(x86::kRdi), kAlias);
  }
}

TEST_F(Translation, code_that_may_no_longer_be_executed) {
  static constexpr std::uint64_t kFunction = 0x3E'0000;
  twins.place_code(kFunction, [](Assembler& a) { a.ret(); });
  run([](Assembler& a) {
    a.mov(r::r12d, kFunction);
    a.call(r::r12);
    a.call(r::r12);
    a.bts(r::qword_ptr(static_cast<int>(Twins::entry_of(kFunction))), 63);
    a.invlpg(r::ptr(r::r12));
    a.call(r::r12);
  });
  EXPECT_EQ(twins.exception(), x86::vector::kPf);
  EXPECT_EQ(twins.right.state.cr2, kFunction);
}

TEST_F(Translation, a_right_that_was_missing_is_looked_for_again) {
  // No INVLPG is needed when rights are added.
  twins.poke(Twins::entry_of(kPage), kPage | 5);
  run([](Assembler& a) {
    a.mov(r::rax, r::qword_ptr(r::rbx));
    a.or_(r::byte_ptr(kEntry), 2);
    a.mov(r::qword_ptr(r::rbx), 5);
    a.mov(r::rcx, r::qword_ptr(r::rbx));
  });
  EXPECT_EQ(result(x86::kRcx), 5);
}

TEST_F(Translation, accessed_and_dirty_are_set_as_the_accesses_come) {
  run([](Assembler& a) {
    a.mov(r::rax, r::qword_ptr(r::rbx));
    a.mov(r::rcx, r::qword_ptr(kEntry));
    a.mov(r::qword_ptr(r::rbx), r::rax);
    a.mov(r::rdx, r::qword_ptr(kEntry));
    a.mov(r::qword_ptr(kEntry), static_cast<int>(kPage | 7));
    a.invlpg(r::ptr(r::rbx));
    a.mov(r::rsi, r::qword_ptr(r::rbx));
  });
  EXPECT_EQ(result(x86::kRcx), kPage | 7 | kAccessed);
  EXPECT_EQ(result(x86::kRdx), kPage | 7 | kAccessed | kDirty);
  const auto [left, right] = entries(Twins::entry_of(kPage));
  EXPECT_EQ(left, kPage | 7 | kAccessed);
  EXPECT_EQ(right, left);
}

TEST_F(Translation, cr0_wp_decides_for_supervisors) {
  twins.poke(Twins::entry_of(kPage), kPage | 1);
  twins.state.cr0 &= ~std::uint64_t{x86::cr0::kWp};
  run([](Assembler& a) {
    a.mov(r::qword_ptr(r::rbx), 9);
    a.mov(r::rcx, r::cr0);
    a.bts(r::rcx, 16);
    a.mov(r::cr0, r::rcx);
    a.mov(r::rdx, r::qword_ptr(r::rbx));
    a.mov(r::qword_ptr(r::rbx), 10);
  });
  EXPECT_EQ(result(x86::kRdx), 9);
  EXPECT_EQ(twins.exception(), x86::vector::kPf);
}

TEST_F(Translation, smap_keeps_supervisors_out_until_stac) {
  only_for_supervisor();
  twins.state.cr4 |= x86::cr4::kSmap;
  run([](Assembler& a) {
    const Label loop = a.newLabel();
    a.mov(r::edx, 3);
    a.bind(loop);
    a.stac();
    a.mov(r::rax, r::qword_ptr(r::rbx));
    a.inc(r::qword_ptr(r::rbx));
    a.clac();
    a.dec(r::edx);
    a.jnz(loop);
    a.mov(r::rcx, r::qword_ptr(r::rbx));
  });
  EXPECT_EQ(twins.exception(), x86::vector::kPf);
  EXPECT_EQ(result(), 3);
  EXPECT_EQ(twins.right.state.cr2, kPage);
}

TEST_F(Translation, smep_keeps_supervisors_from_executing) {
  only_for_supervisor();
  twins.place_code(kPage, [](Assembler& a) { a.ret(); });
  twins.state.cr4 |= x86::cr4::kSmep;
  run([](Assembler& a) { a.call(r::rbx); });
  EXPECT_EQ(twins.exception(), x86::vector::kPf);
}

TEST_F(Translation, changing_address_spaces_changes_code_and_data) {
  // A second hierarchy in which kPage and the function's page are others.
  static constexpr std::uint64_t kPml4 = 0x20'8000, kPdpt = 0x20'9000, kPd = 0x20'A000, kPt = 0x20'B000;
  static constexpr std::uint64_t kFunction = 0x3E'0000, kFunction2 = 0x3E'1000;
  twins.poke(kPml4, kPdpt | 7);
  twins.poke(kPdpt, kPd | 7);
  twins.poke(kPd, Twins::kPageTable | 7);
  twins.poke(kPd + 8, kPt | 7);
  for (std::uint64_t i = 0; i < 512; ++i) twins.poke(kPt + 8 * i, (0x20'0000 + i * 4096) | 7);
  twins.poke(kPt + 8 * (kPage >> 12 & 511), kElsewhere | 7);
  twins.poke(kPt + 8 * (kFunction >> 12 & 511), kFunction2 | 7);
  twins.place_code(kFunction, [](Assembler& a) {
    a.add(r::rax, r::qword_ptr(r::rbx));
    a.ret();
  });
  twins.place_code(kFunction2, [](Assembler& a) {
    a.imul(r::rax, r::qword_ptr(r::rbx));
    a.inc(r::qword_ptr(r::rbx));
    a.ret();
  });
  run([](Assembler& a) {
    const Label loop = a.newLabel();
    a.mov(r::eax, 3);
    a.mov(r::edi, 6);
    a.mov(r::r12d, kFunction);
    a.mov(r::r13, r::cr3);
    a.mov(r::r14d, kPml4);
    a.bind(loop);
    a.call(r::r12);
    a.mov(r::cr3, r::r14);
    a.call(r::r12);
    a.mov(r::cr3, r::r13);
    a.dec(r::edi);
    a.jnz(loop);
  });
  EXPECT_GT(result(), 1000U);
}

TEST_F(Translation, faults_have_the_address_of_the_second_page) {
  for (const int offset : {-1, -3, -4, -7}) {
    SCOPED_TRACE(offset);
    twins.enter(TwinMode::User64);
    twins.state.gpr[x86::kRbx] = Twins::kAbsent + static_cast<std::uint64_t>(std::int64_t{offset});
    twins.poke(Twins::entry_of(Twins::kReadOnly), Twins::kReadOnly | 7);
    run([](Assembler& a) { a.add(r::qword_ptr(r::rbx), r::rbx); });
    EXPECT_EQ(twins.exception(), x86::vector::kPf);
    EXPECT_EQ(twins.right.state.cr2, Twins::kAbsent);
  }
}

TEST_F(Translation, branches_to_non_canonical_addresses_fault_where_they_are) {
  constexpr std::uint64_t kNowhere = 0x8000'1234'5678'0000;
  using Write = std::function<void(Assembler&)>;
  const std::vector<std::pair<bool, Write>> branches{
      {false, [](Assembler& a) { a.jmp(r::rcx); }},
      {false, [](Assembler& a) { a.jmp(r::qword_ptr(r::rbx)); }},
      {false,
       [](Assembler& a) {
         a.push(r::rcx);
         a.ret();
       }},
      {false,
       [](Assembler& a) {
         a.push(1);
         a.push(r::rcx);
         a.ret(8);
       }},
      {true, [](Assembler& a) { a.call(r::rcx); }},
      {true, [](Assembler& a) { a.call(r::qword_ptr(r::rbx)); }},
  };
  for (const auto& [pushes, write] : branches) {
    for (const TwinMode mode : {TwinMode::Supervisor64, TwinMode::User64}) {
      twins.enter(mode);
      twins.poke(kPage, kNowhere);
      twins.state.gpr[x86::kRbx] = kPage;
      twins.state.gpr[x86::kRcx] = kNowhere;
      twins.place_code(kCodeAddress, write);
      twins.run();
      // The translator's CALL has left its return address below the stack pointer.
      EXPECT_EQ(lockstep::differences(twins.left.state, twins.right.state), std::vector<std::string>{});
      EXPECT_TRUE(pushes || twins.difference().empty()) << twins.difference();
      EXPECT_EQ(twins.exception(), x86::vector::kGp);
      // What the two leave behind must not be found again.
      for (Side* side : {&twins.left, &twins.right})
        ASSERT_TRUE(side->memory->write_value(kStackTop - 8, std::uint64_t{0}));
    }
  }
}

TEST_F(Translation, a_jump_past_the_last_page_faults_there) {
  run([](Assembler& a) {
    a.mov(r::r12, 0x7FFF'FFFF'F000);
    a.jmp(r::r12);
  });
  EXPECT_EQ(twins.exception(), x86::vector::kPf);
  EXPECT_EQ(twins.right.state.cr2, 0x7FFF'FFFF'F000);
}

}  // namespace
}  // namespace doppel::engine::test
