#include "engine/guest_program.h"

/// Results and flags that the manuals give (SDM vol. 2; AMD APM vol. 3), not those that the host happens to compute.
namespace doppel::engine::test {
namespace {

namespace r = asmjit::x86;
using Assembler = asmjit::x86::Assembler;
using namespace x86::rflags;  // NOLINT(google-build-using-namespace): CF, ZF … are what these tests are about

class ArithmeticTest : public OnEachEngine {
 protected:
  std::uint64_t& rax() { return state.gpr[x86::kRax]; }
  std::uint64_t& rcx() { return state.gpr[x86::kRcx]; }
  std::uint64_t& rdx() { return state.gpr[x86::kRdx]; }
  void expect_flags(std::uint64_t mask, std::uint64_t expected) { EXPECT_EQ(status_flags() & mask, expected); }
};

TEST_P(ArithmeticTest, add_sets_all_flags) {
  rax() = 0x7F;
  run([](Assembler& a) { a.add(r::al, 1); });
  EXPECT_EQ(rax(), 0x80);
  expect_flags(kStatus, kOf | kSf | kAf);
  rax() = 0xFF;
  run([](Assembler& a) { a.add(r::al, 1); });
  EXPECT_EQ(rax(), 0);
  expect_flags(kStatus, kCf | kZf | kAf | kPf);
}

TEST_P(ArithmeticTest, writes_of_32_bits_clear_the_upper_half_and_narrower_ones_do_not) {
  rax() = rcx() = rdx() = ~0ULL;
  run([](Assembler& a) {
    a.add(r::eax, 1);
    a.mov(r::cx, 5);
    a.mov(r::dh, 7);
  });
  EXPECT_EQ(rax(), 0);
  EXPECT_EQ(rcx(), 0xFFFF'FFFF'FFFF'0005);
  EXPECT_EQ(rdx(), 0xFFFF'FFFF'FFFF'07FF);
}

TEST_P(ArithmeticTest, cmov_clears_the_upper_half_even_when_it_does_not_move) {
  rax() = ~0ULL;
  state.set_rflags(0);
  run([](Assembler& a) { a.cmovz(r::eax, r::ecx); });
  EXPECT_EQ(rax(), 0xFFFF'FFFF);
}

TEST_P(ArithmeticTest, inc_and_dec_leave_the_carry_alone) {
  rax() = ~0ULL;
  state.set_rflags(kCf);
  run([](Assembler& a) { a.inc(r::rax); });
  EXPECT_EQ(rax(), 0);
  expect_flags(kStatus, kCf | kZf | kAf | kPf);
}

TEST_P(ArithmeticTest, adc_and_sbb_take_the_carry) {
  rax() = ~0ULL;
  state.set_rflags(kCf);
  run([](Assembler& a) { a.adc(r::rax, 0); });
  EXPECT_EQ(rax(), 0);
  expect_flags(kCf | kZf, kCf | kZf);
  rax() = 0;
  state.set_rflags(kCf);
  run([](Assembler& a) { a.sbb(r::rax, 0); });
  EXPECT_EQ(rax(), ~0ULL);
  expect_flags(kCf | kZf | kSf, kCf | kSf);
}

TEST_P(ArithmeticTest, a_shift_by_zero_changes_no_flag_but_clears_the_upper_half) {
  rax() = 0xFFFF'FFFF'8000'0001;
  rcx() = 32;  // masked to 0
  state.set_rflags(kCf | kOf | kZf);
  run([](Assembler& a) { a.shl(r::eax, r::cl); });
  EXPECT_EQ(rax(), 0x8000'0001);
  expect_flags(kStatus, kCf | kOf | kZf);
}

TEST_P(ArithmeticTest, shift_counts_are_masked_to_5_or_6_bits) {
  rax() = 1;
  rcx() = 65;
  run([](Assembler& a) { a.shl(r::rax, r::cl); });
  EXPECT_EQ(rax(), 2);
  rax() = 0x81;
  rcx() = 1;
  run([](Assembler& a) { a.shl(r::al, r::cl); });
  EXPECT_EQ(rax(), 2);
  expect_flags(kCf | kOf, kCf | kOf);
}

TEST_P(ArithmeticTest, rotates_through_carry_of_bytes_and_words_count_modulo_9_and_17) {
  rax() = 0x5A;
  rcx() = 9;
  state.set_rflags(kCf);
  run([](Assembler& a) { a.rcl(r::al, r::cl); });
  EXPECT_EQ(rax(), 0x5A);
  expect_flags(kCf, kCf);
  rax() = 0x1234;
  rcx() = 18;
  state.set_rflags(0);
  run([](Assembler& a) { a.rcr(r::ax, r::cl); });
  EXPECT_EQ(rax(), 0x091A);
}

TEST_P(ArithmeticTest, double_shifts) {
  rax() = 0x8000'0000'0000'0001;
  rdx() = 0xF000'0000'0000'0000;
  run([](Assembler& a) { a.shld(r::rax, r::rdx, 4); });
  EXPECT_EQ(rax(), 0x1F);
  expect_flags(kCf, 0);
}

TEST_P(ArithmeticTest, multiplication_and_its_overflow) {
  rax() = 0x1'0000'0000;
  rcx() = 0x1'0000'0000;
  run([](Assembler& a) { a.mul(r::rcx); });
  EXPECT_EQ(rax(), 0);
  EXPECT_EQ(rdx(), 1);
  expect_flags(kCf | kOf, kCf | kOf);
  rax() = 0xAAAA'0000'0000'0002;
  rdx() = 0xBBBB'0000'0000'1234;
  rcx() = 0xFFFF;
  run([](Assembler& a) { a.mul(r::cx); });  // DX:AX
  EXPECT_EQ(rax(), 0xAAAA'0000'0000'FFFE);
  EXPECT_EQ(rdx(), 0xBBBB'0000'0000'0001);
  rax() = 0xFFFF'FFFF'FFFF'0000;
  rcx() = 7;
  run([](Assembler& a) { a.imul(r::ax, r::cx, 3); });
  EXPECT_EQ(rax(), 0xFFFF'FFFF'FFFF'0015);
}

TEST_P(ArithmeticTest, division_and_its_errors) {
  rax() = 100;
  rdx() = 0;
  rcx() = 7;
  run([](Assembler& a) { a.div(r::rcx); });
  EXPECT_EQ(rax(), 14);
  EXPECT_EQ(rdx(), 2);
  rcx() = 0;
  run([](Assembler& a) { a.div(r::rcx); });
  EXPECT_EQ(exception(), x86::vector::kDe);
  EXPECT_EQ(faulting_rip(), kCodeAddress);
  EXPECT_EQ(rax(), 14);
  EXPECT_EQ(rdx(), 2);
}

TEST_P(ArithmeticTest, the_most_negative_number_divided_by_minus_one_is_an_error) {
  rax() = 0x8000'0000;
  rdx() = 0xFFFF'FFFF;
  rcx() = 0xFFFF'FFFF;
  run([](Assembler& a) {
    a.nop();
    a.idiv(r::ecx);
  });
  EXPECT_EQ(exception(), x86::vector::kDe);
  EXPECT_EQ(faulting_rip(), kCodeAddress + 1);
}

TEST_P(ArithmeticTest, division_by_memory_faults_with_everything_as_it_was) {
  state.gpr[x86::kRbx] = kDataAddress;
  rax() = 5;
  poke_physical<std::uint32_t>(kDataAddress, 0);
  run([](Assembler& a) { a.div(r::dword_ptr(r::rbx)); });
  EXPECT_EQ(exception(), x86::vector::kDe);
  EXPECT_EQ(rax(), 5);
}

TEST_P(ArithmeticTest, cmpxchg_moves_one_way_or_the_other) {
  state.gpr[x86::kRbx] = kDataAddress;
  poke_physical<std::uint64_t>(kDataAddress, 5);
  rax() = 5;
  rcx() = 9;
  run([](Assembler& a) { a.lock().cmpxchg(r::qword_ptr(r::rbx), r::rcx); });
  EXPECT_EQ(peek_physical<std::uint64_t>(kDataAddress), 9);
  expect_flags(kZf, kZf);
  run([](Assembler& a) { a.lock().cmpxchg(r::qword_ptr(r::rbx), r::rcx); });
  EXPECT_EQ(rax(), 9);
  expect_flags(kZf, 0);
}

TEST_P(ArithmeticTest, cmpxchg16b_compares_pairs_and_wants_alignment) {
  state.gpr[x86::kRsi] = kDataAddress;
  poke_physical<std::uint64_t>(kDataAddress, 1);
  poke_physical<std::uint64_t>(kDataAddress + 8, 2);
  rax() = 1;
  rdx() = 2;
  state.gpr[x86::kRbx] = 3;
  rcx() = 4;
  run([](Assembler& a) { a.lock().cmpxchg16b(r::ptr(r::rsi)); });
  EXPECT_EQ(peek_physical<std::uint64_t>(kDataAddress), 3);
  EXPECT_EQ(peek_physical<std::uint64_t>(kDataAddress + 8), 4);
  EXPECT_EQ(state.gpr[x86::kRbx], 3);
  expect_flags(kZf, kZf);
  state.gpr[x86::kRsi] = kDataAddress + 8;
  run([](Assembler& a) { a.lock().cmpxchg16b(r::ptr(r::rsi)); });
  EXPECT_EQ(exception(), x86::vector::kGp);
}

TEST_P(ArithmeticTest, xadd_and_xchg_of_one_register_with_itself) {
  rax() = 3;
  run([](Assembler& a) { a.xadd(r::rax, r::rax); });
  EXPECT_EQ(rax(), 6);
  rax() = 0x1234;
  run([](Assembler& a) { a.xchg(r::al, r::ah); });
  EXPECT_EQ(rax(), 0x3412);
}

TEST_P(ArithmeticTest, bit_offsets_in_registers_reach_beyond_the_operand) {
  state.gpr[x86::kRbx] = kDataAddress + 8;
  poke_physical<std::uint64_t>(kDataAddress, 0);
  poke_physical<std::uint64_t>(kDataAddress + 16, 0);
  rcx() = 65 + 64;
  run([](Assembler& a) { a.bts(r::qword_ptr(r::rbx), r::rcx); });
  EXPECT_EQ(peek_physical<std::uint64_t>(kDataAddress + 16 + 8), 2);
  rcx() = static_cast<std::uint64_t>(-1);
  run([](Assembler& a) { a.bts(r::qword_ptr(r::rbx), r::rcx); });
  EXPECT_EQ(peek_physical<std::uint64_t>(kDataAddress), 0x8000'0000'0000'0000);
  expect_flags(kCf, 0);
  run([](Assembler& a) { a.bt(r::qword_ptr(r::rbx), r::rcx); });
  expect_flags(kCf, kCf);
}

TEST_P(ArithmeticTest, bsf_of_zero_sets_zf) {
  rax() = 0x55;
  rcx() = 0;
  run([](Assembler& a) { a.bsf(r::rax, r::rcx); });
  EXPECT_EQ(rax(), 0x55);
  expect_flags(kZf, kZf);
}

TEST_P(ArithmeticTest, lea_computes_in_its_address_size) {
  rax() = 0xFFFF'FFFF'0000'0010;
  rcx() = 4;
  run([](Assembler& a) {
    a.lea(r::rdx, r::ptr(r::rax, r::rcx, 3, -1));
    a.lea(r::esi, r::ptr(r::rax, 2));
    a.lea(r::di, r::ptr(r::rax, 2));
  });
  EXPECT_EQ(rdx(), 0xFFFF'FFFF'0000'002F);
  EXPECT_EQ(state.gpr[x86::kRsi], 0x12);
  EXPECT_EQ(state.gpr[x86::kRdi], 0x12);
}

TEST_P(ArithmeticTest, legacy_vector_instructions_keep_the_upper_half_and_vex_ones_clear_it) {
  state.ymm[0].qword = {1, 2, 3, 4};
  state.ymm[1].qword = {10, 20, 30, 40};
  state.ymm[2].qword = {1, 2, 3, 4};
  run([](Assembler& a) {
    a.paddq(r::xmm0, r::xmm1);
    a.vpaddq(r::xmm2, r::xmm2, r::xmm1);
  });
  EXPECT_EQ(state.ymm[0].qword, (std::array<std::uint64_t, 4>{11, 22, 3, 4}));
  EXPECT_EQ(state.ymm[2].qword, (std::array<std::uint64_t, 4>{11, 22, 0, 0}));
}

TEST_P(ArithmeticTest, simd_errors_are_recorded_and_raised_when_unmasked) {
  state.ymm[0].qword = {0x3FF0'0000'0000'0000, 0, 0, 0};  // 1.0
  state.ymm[1].qword = {0, 0, 0, 0};
  run([](Assembler& a) { a.divsd(r::xmm0, r::xmm1); });
  EXPECT_EQ(state.ymm[0].qword[0], 0x7FF0'0000'0000'0000);  // infinity
  EXPECT_EQ(state.fpu.mxcsr, 0x1F84U);

  state.ymm[0].qword = {0x3FF0'0000'0000'0000, 0, 0, 0};
  state.fpu.mxcsr = 0x1F80 & ~0x200U;
  run([](Assembler& a) { a.divsd(r::xmm0, r::xmm1); });
  EXPECT_EQ(exception(), x86::vector::kXm);
  EXPECT_EQ(state.ymm[0].qword[0], 0x3FF0'0000'0000'0000);
  EXPECT_EQ(state.fpu.mxcsr, 0x1D84U);

  state.cr4 &= ~x86::cr4::kOsxmmexcpt;
  state.fpu.mxcsr = 0x1F80 & ~0x200U;
  run([](Assembler& a) { a.divsd(r::xmm0, r::xmm1); });
  EXPECT_EQ(exception(), x86::vector::kUd);
}

TEST_P(ArithmeticTest, the_guests_rounding_mode_counts) {
  state.ymm[1].qword = {0x3FF8'0000'0000'0000, 0, 0, 0};  // 1.5
  run([](Assembler& a) { a.cvtsd2si(r::rax, r::xmm1); });
  EXPECT_EQ(rax(), 2);
  state.fpu.mxcsr = 0x7F80;  // towards zero
  run([](Assembler& a) { a.cvtsd2si(r::rax, r::xmm1); });
  EXPECT_EQ(rax(), 1);
}

TEST_P(ArithmeticTest, aligned_operands_are_checked) {
  state.gpr[x86::kRbx] = kDataAddress + 8;
  run([](Assembler& a) { a.movups(r::xmm0, r::ptr(r::rbx)); });
  EXPECT_FALSE(exception());
  run([](Assembler& a) { a.movaps(r::xmm0, r::ptr(r::rbx)); });
  EXPECT_EQ(exception(), x86::vector::kGp);
  run([](Assembler& a) { a.vmovaps(r::ptr(r::rbx), r::ymm0); });
  EXPECT_EQ(exception(), x86::vector::kGp);
  run([](Assembler& a) { a.vaddps(r::ymm0, r::ymm1, r::ptr(r::rbx)); });
  EXPECT_FALSE(exception());
}

TEST_P(ArithmeticTest, x87_computes_with_its_stack_and_control_word) {
  run([](Assembler& a) {
    a.fninit();
    a.fld1();
    a.fldpi();
    a.fadd(r::st0, r::st1);
  });
  // pi + 1 = 4.14159…: exponent 2, TOP 6.
  EXPECT_EQ(state.fpu.st[0].sign_exponent, 0x4001);
  EXPECT_EQ(state.fpu.st[0].significand >> 32, 0x8487'ED51U);
  EXPECT_EQ(state.fpu.st[1].sign_exponent, 0x3FFF);
  EXPECT_EQ(state.fpu.fsw >> 11 & 7, 6);
  EXPECT_EQ(state.fpu.ftw, 0xC0);
}

TEST_P(ArithmeticTest, x87_errors_are_raised_by_the_next_waiting_instruction) {
  state.fpu.fcw = 0x37F & ~4U;  // division by zero unmasked
  run([](Assembler& a) {
    a.fld1();
    a.fldz();
    a.fdivp(r::st1);
    a.nop();
    a.fnstsw(r::ax);
    a.fld1();
  });
  EXPECT_EQ(exception(), x86::vector::kMf);
  EXPECT_EQ(rax() & 0x8084, 0x8084U);
  EXPECT_EQ(faulting_rip(), kCodeAddress + 2 + 2 + 2 + 1 + 2);
}

TEST_P(ArithmeticTest, units_that_are_off_raise_nm_or_ud) {
  state.cr0 |= x86::cr0::kTs;
  for (const auto& write : std::vector<std::function<void(Assembler&)>>{
           [](Assembler& a) { a.fld1(); }, [](Assembler& a) { a.addps(r::xmm0, r::xmm1); },
           [](Assembler& a) { a.vaddps(r::xmm0, r::xmm0, r::xmm1); }, [](Assembler& a) { a.paddb(r::mm0, r::mm1); }}) {
    run(write);
    EXPECT_EQ(exception(), x86::vector::kNm);
  }
  state.cr0 &= ~x86::cr0::kTs;
  state.cr4 &= ~(x86::cr4::kOsfxsr | x86::cr4::kOsxsave);
  run([](Assembler& a) { a.addps(r::xmm0, r::xmm1); });
  EXPECT_EQ(exception(), x86::vector::kUd);
  run([](Assembler& a) { a.vaddps(r::xmm0, r::xmm0, r::xmm1); });
  EXPECT_EQ(exception(), x86::vector::kUd);
}

TEST_P(ArithmeticTest, mmx_registers_are_those_of_x87) {
  state.fpu.fsw = 3 << 11;
  state.fpu.st[5].significand = 0x0102'0304'0506'0708;  // physical register 0
  run([](Assembler& a) { a.paddb(r::mm1, r::mm0); });
  EXPECT_EQ(state.fpu.fsw >> 11 & 7, 0);
  EXPECT_EQ(state.fpu.ftw, 0xFF);
  EXPECT_EQ(state.fpu.st[0].significand, 0x0102'0304'0506'0708);
  EXPECT_EQ(state.fpu.st[1].significand, 0x0102'0304'0506'0708);
  EXPECT_EQ(state.fpu.st[1].sign_exponent, 0xFFFF);
}

TEST_P(ArithmeticTest, gathers_load_what_the_mask_selects_and_clear_it) {
  for (unsigned i = 0; i < 8; ++i) poke_physical<std::uint32_t>(kDataAddress + 4 * i, 100 + i);
  state.gpr[x86::kRbx] = kDataAddress;
  state.ymm[1].qword = {0x0000'0001'0000'0007, 0x0000'0002'0000'0000, 5, 6};
  state.ymm[2].qword = {0x8000'0000'8000'0000, 0x8000'0000'0000'0000, ~0ULL, ~0ULL};
  state.ymm[0].qword = {0, 0x0000'0000'0000'0042, 9, 9};
  run([](Assembler& a) { a.vpgatherdd(r::xmm0, r::ptr(r::rbx, r::xmm1, 2), r::xmm2); });
  EXPECT_EQ(state.ymm[0].qword, (std::array<std::uint64_t, 4>{101ULL << 32 | 107, 102ULL << 32 | 0x42, 0, 0}));
  EXPECT_EQ(state.ymm[2].qword, (std::array<std::uint64_t, 4>{}));
}

TEST_P(ArithmeticTest, masked_moves_leave_the_rest_alone) {
  state.gpr[x86::kRbx] = kDataAddress;
  poke_physical<std::uint64_t>(kDataAddress, 0x1111'1111'1111'1111);
  state.ymm[0].qword = {0xAAAA'AAAA'BBBB'BBBB, 0, 0, 0};
  state.ymm[1].qword = {0x8000'0000'0000'0000, 0, 0, 0};
  run([](Assembler& a) { a.vpmaskmovd(r::ptr(r::rbx), r::xmm1, r::xmm0); });
  EXPECT_EQ(peek_physical<std::uint64_t>(kDataAddress), 0xAAAA'AAAA'1111'1111);
  run([](Assembler& a) { a.vpmaskmovd(r::xmm3, r::xmm1, r::ptr(r::rbx)); });
  EXPECT_EQ(state.ymm[3].qword[0], 0xAAAA'AAAA'0000'0000);
}

DOPPEL_TEST_ON_EACH_ENGINE(ArithmeticTest);

}  // namespace
}  // namespace doppel::engine::test
