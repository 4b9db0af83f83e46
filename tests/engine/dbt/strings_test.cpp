#include "engine/dbt/twins.h"

/// Repeated string instructions, which translated code executes page by page.
namespace doppel::engine::test {
namespace {

namespace r = asmjit::x86;
using asmjit::Label;
using asmjit::x86::Assembler;
using Code = std::function<void(Assembler&)>;

class Strings : public ::testing::Test {
 protected:
  Twins twins;
  static constexpr std::uint64_t kFrom = Twins::kData, kTo = Twins::kData + 2 * 4096;

  void SetUp() override {
    twins.enter(TwinMode::User64);
    for (std::uint64_t i = 0; i < 4096; ++i) twins.poke(kFrom + i, static_cast<std::uint8_t>(i * 31 + 7));
    for (unsigned i = 0; i < 16; ++i) {
      if (i != x86::kRsp) twins.state.gpr[i] = 0x0123'4567'89AB'CDEF * (2 * i + 1);
    }
    // CF, PF, AF, SF and OF.
    twins.state.rflags_without_of |= 0x95;
    twins.state.of = 1;
  }
  void run(std::uint64_t from, std::uint64_t to, std::uint64_t count, const Code& code) {
    twins.state.gpr[x86::kRsi] = from;
    twins.state.gpr[x86::kRdi] = to;
    twins.state.gpr[x86::kRcx] = count;
    twins.place_code(kCodeAddress, [&](Assembler& a) {
      code(a);
      a.pushfq();
      a.pop(r::rdx);
      a.ud2();
    });
    twins.state.rip = kCodeAddress;
    twins.run_and_compare();
  }
  std::uint64_t interpreted() const { return twins.right.vcpu->stats()["interpreted"].get<std::uint64_t>(); }
  std::uint64_t rcx() const { return twins.right.state.gpr[x86::kRcx]; }
};

void movsb(Assembler& a) {
  a.rep().movsb();
}
void stosb(Assembler& a) {
  a.rep().stosb();
}

TEST_F(Strings, of_every_element_are_moved_and_stored) {
  const std::array<Code, 8> all{movsb,
                                [](Assembler& a) { a.rep().movsw(); },
                                [](Assembler& a) { a.rep().movsd(); },
                                [](Assembler& a) { a.rep().movsq(); },
                                stosb,
                                [](Assembler& a) { a.rep().stosw(); },
                                [](Assembler& a) { a.rep().stosd(); },
                                [](Assembler& a) { a.rep().stosq(); }};
  for (std::size_t i = 0; i < all.size(); ++i) {
    SCOPED_TRACE(i);
    run(kFrom + 3, kTo + 8, 100, all[i]);
    EXPECT_EQ(twins.exception(), x86::vector::kUd);
    EXPECT_EQ(rcx(), 0U);
    EXPECT_EQ(twins.right.state.gpr[x86::kRdi], kTo + 8 + (100U << i % 4));
  }
}

TEST_F(Strings, are_not_left_to_the_interpreter) {
  run(kFrom + 1, kTo + 5, 6000, [](Assembler& a) {
    const Label again = a.newLabel();
    a.mov(r::ebx, 50);
    a.bind(again);
    a.mov(r::ecx, 6000);
    a.mov(r::rsi, kFrom + 1);
    a.mov(r::rdi, kTo + 5);
    movsb(a);
    a.dec(r::ebx);
    a.jnz(again);
  });
  EXPECT_EQ(twins.exception(), x86::vector::kUd);
  EXPECT_LT(interpreted(), 10U);
}

TEST_F(Strings, of_no_element_touch_nothing) {
  run(Twins::kAbsent, std::uint64_t{1} << 60, 0, movsb);
  EXPECT_EQ(twins.exception(), x86::vector::kUd);
}

TEST_F(Strings, stop_where_the_source_is_absent) {
  run(Twins::kAbsent - 100, kFrom, 200, movsb);
  EXPECT_EQ(twins.exception(), x86::vector::kPf);
  EXPECT_EQ(rcx(), 100U);
  EXPECT_EQ(twins.right.state.cr2, Twins::kAbsent);
}

TEST_F(Strings, stop_where_the_destination_may_not_be_written) {
  run(kFrom, Twins::kReadOnly - 16, 40, [](Assembler& a) { a.rep().movsq(); });
  EXPECT_EQ(twins.exception(), x86::vector::kPf);
  EXPECT_EQ(rcx(), 38U);
  EXPECT_EQ(twins.right.state.cr2, Twins::kReadOnly);
}

TEST_F(Strings, stop_at_a_page_of_the_supervisor) {
  run(kFrom, Twins::kSupervisor, 8, stosb);
  EXPECT_EQ(twins.exception(), x86::vector::kPf);
  EXPECT_EQ(rcx(), 8U);
}

TEST_F(Strings, have_elements_in_two_pages) {
  run(kFrom + 5, kTo - 13, 700, [](Assembler& a) { a.rep().movsq(); });
  EXPECT_EQ(twins.exception(), x86::vector::kUd);
  run(kFrom + 4093, kTo + 4094, 3, [](Assembler& a) { a.rep().movsd(); });
  EXPECT_EQ(twins.exception(), x86::vector::kUd);
}

TEST_F(Strings, may_overlap) {
  run(kFrom, kFrom + 1, 5000, movsb);
  EXPECT_EQ(twins.exception(), x86::vector::kUd);
  std::uint8_t last = 0;
  ASSERT_TRUE(twins.right.memory->read_value(kFrom + 5000, last));
  EXPECT_EQ(last, 7U);
}

TEST_F(Strings, go_downwards) {
  run(kFrom + 300, kTo + 300, 200, [](Assembler& a) {
    a.std();
    movsb(a);
    a.pushfq();
    a.pop(r::rax);
    a.cld();
    a.mov(r::ecx, 10);
    movsb(a);
  });
  EXPECT_EQ(twins.exception(), x86::vector::kUd);
  EXPECT_EQ(twins.right.state.gpr[x86::kRdi], kTo + 110);
  EXPECT_NE(twins.right.state.gpr[x86::kRax] & x86::rflags::kDf, 0U);
}

TEST_F(Strings, do_not_reach_addresses_that_are_none) {
  run(kFrom, 0x7FFF'FFFF'FFF0, 32, stosb);
  EXPECT_EQ(twins.exception(), x86::vector::kPf);
  run(kFrom, std::uint64_t{1} << 60, 32, stosb);
  EXPECT_EQ(twins.exception(), x86::vector::kGp);
  run(std::uint64_t{1} << 60 | kFrom, kTo, 32, movsb);
  EXPECT_EQ(twins.exception(), x86::vector::kGp);
}

TEST_F(Strings, write_over_their_own_block) {
  run(kFrom, kTo, 2, [](Assembler& a) {
    const Label patched = a.newLabel();
    a.lea(r::rdi, r::ptr(patched));
    a.mov(r::eax, 0x90);
    a.mov(r::ecx, 2);
    stosb(a);
    a.bind(patched);
    a.ud2();
    a.mov(r::eax, 42);
  });
  EXPECT_EQ(twins.exception(), x86::vector::kUd);
  EXPECT_EQ(twins.right.state.gpr[x86::kRax], 42U);
}

TEST_F(Strings, reach_pages_by_their_new_mapping) {
  twins.enter(TwinMode::Supervisor64);
  run(kFrom, kTo, 64, [](Assembler& a) {
    movsb(a);
    a.mov(r::qword_ptr(static_cast<std::uint64_t>(Twins::entry_of(kTo))), static_cast<int>((kTo + 4096) | 7));
    a.invlpg(r::ptr(kTo));
    a.mov(r::rsi, kFrom);
    a.mov(r::rdi, kTo);
    a.mov(r::ecx, 16);
    movsb(a);
  });
  EXPECT_EQ(twins.exception(), x86::vector::kUd);
}

}  // namespace
}  // namespace doppel::engine::test
