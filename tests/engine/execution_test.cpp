#include "engine/guest_program.h"

/// Memory, control flow, changes of code, repetition and modes: what lies between instructions.
namespace doppel::engine::test {
namespace {

namespace r = asmjit::x86;
using Assembler = asmjit::x86::Assembler;
using asmjit::Label;
using x86::Attention;

class ExecutionTest : public OnEachEngine {
 protected:
  std::uint64_t& gpr(x86::Gpr reg) { return state.gpr[reg]; }
  static constexpr std::uint64_t kPd = 0x3000, kPt = 0x6000;

  /// Maps the 2 MiB from `address` by 4 KiB pages of their own, so that single ones can be taken away.
  void split_large_page(std::uint64_t address) {
    for (std::uint64_t i = 0; i < 512; ++i) poke_physical<std::uint64_t>(kPt + 8 * i, (address + (i << 12)) | 3);
    poke_physical<std::uint64_t>(kPd + 8 * (address >> 21), kPt | 3);
  }
  void unmap(std::uint64_t address) { poke_physical<std::uint64_t>(kPt + 8 * (address >> 12 & 511), 0); }
  void map(std::uint64_t address, std::uint64_t physical) {
    poke_physical<std::uint64_t>(kPt + 8 * (address >> 12 & 511), physical | 3);
  }
};

TEST_P(ExecutionTest, loads_and_stores_of_every_size_and_address_form) {
  gpr(x86::kRbx) = kDataAddress;
  gpr(x86::kRcx) = 2;
  gpr(x86::kRax) = 0x8899'AABB'CCDD'EEFF;
  run([](Assembler& a) {
    a.mov(r::qword_ptr(r::rbx), r::rax);
    a.mov(r::byte_ptr(r::rbx, 16), r::al);
    a.mov(r::word_ptr(r::rbx, r::rcx, 3, 8), r::ax);
    a.movzx(r::edx, r::byte_ptr(r::rbx, r::rcx, 0));
    a.movsx(r::rsi, r::word_ptr(r::rbx, r::rcx, 1));
    a.movsxd(r::rdi, r::dword_ptr(r::rbx, 4));
    a.add(r::dword_ptr(r::rbx), 1);
  });
  EXPECT_EQ(peek_physical<std::uint64_t>(kDataAddress), 0x8899'AABB'CCDD'EF00);
  EXPECT_EQ(peek_physical<std::uint8_t>(kDataAddress + 16), 0xFF);
  EXPECT_EQ(peek_physical<std::uint16_t>(kDataAddress + 24), 0xEEFF);
  EXPECT_EQ(gpr(x86::kRdx), 0xDD);
  EXPECT_EQ(gpr(x86::kRsi), 0xFFFF'FFFF'FFFF'AABB);
  EXPECT_EQ(gpr(x86::kRdi), 0xFFFF'FFFF'8899'AABB);
}

TEST_P(ExecutionTest, fs_and_gs_have_bases) {
  state.seg(SegReg::Gs).base = kDataAddress;
  poke_physical<std::uint64_t>(kDataAddress + 0x28, 77);
  gpr(x86::kRcx) = 0x20;
  run([](Assembler& a) {
    asmjit::x86::Mem mem = r::qword_ptr(r::rcx, 8);
    mem.setSegment(r::gs);
    a.mov(r::rax, mem);
    a.add(mem, r::rax);
  });
  EXPECT_EQ(gpr(x86::kRax), 77);
  EXPECT_EQ(peek_physical<std::uint64_t>(kDataAddress + 0x28), 154);
}

TEST_P(ExecutionTest, addresses_relative_to_rip) {
  run([](Assembler& a) {
    const Label data = a.newLabel(), past = a.newLabel();
    a.mov(r::rax, r::qword_ptr(data));
    a.lea(r::rcx, r::ptr(data));
    a.jmp(past);
    a.bind(data);
    a.embedUInt64(0x1122'3344'5566'7788);
    a.bind(past);
  });
  EXPECT_EQ(gpr(x86::kRax), 0x1122'3344'5566'7788);
  EXPECT_EQ(peek_physical<std::uint64_t>(gpr(x86::kRcx)), 0x1122'3344'5566'7788);
}

TEST_P(ExecutionTest, accesses_across_pages) {
  gpr(x86::kRbx) = kDataAddress + 0xFFC;
  poke_physical<std::uint64_t>(kDataAddress + 0xFFC, 10);
  run([](Assembler& a) {
    a.add(r::qword_ptr(r::rbx), 5);
    a.lock().add(r::qword_ptr(r::rbx), 5);
    a.mov(r::rax, r::qword_ptr(r::rbx));
    a.movups(r::xmm0, r::ptr(r::rbx));
  });
  EXPECT_EQ(gpr(x86::kRax), 20);
  EXPECT_EQ(state.ymm[0].qword[0], 20);
}

TEST_P(ExecutionTest, cmpxchg16b_wants_alignment_before_it_wants_a_page) {
  split_large_page(0x20'0000);
  unmap(0x20'2000);
  gpr(x86::kRsi) = 0x20'2008;
  run([](Assembler& a) { a.lock().cmpxchg16b(r::ptr(r::rsi)); });
  EXPECT_EQ(exception(), x86::vector::kGp);
  gpr(x86::kRsi) = 0x20'2010;
  run([](Assembler& a) { a.lock().cmpxchg16b(r::ptr(r::rsi)); });
  EXPECT_EQ(exception(), x86::vector::kPf);
}

TEST_P(ExecutionTest, a_store_across_pages_changes_nothing_when_the_second_is_missing) {
  split_large_page(0x20'0000);
  unmap(0x20'2000);
  gpr(x86::kRbx) = 0x20'1FFC;
  gpr(x86::kRax) = ~0ULL;
  state.gpr[x86::kRsp] = 0x10'0000;
  poke_physical<std::uint64_t>(0x20'1FF8, 0);
  run([](Assembler& a) { a.mov(r::qword_ptr(r::rbx), r::rax); });
  EXPECT_EQ(exception(), x86::vector::kPf);
  EXPECT_EQ(state.cr2, 0x20'2000);
  EXPECT_EQ(peek_physical<std::uint32_t>(0x20'1FFC), 0);
  EXPECT_EQ(faulting_rip(true), kCodeAddress);
}

TEST_P(ExecutionTest, non_canonical_addresses_fault_by_segment) {
  gpr(x86::kRbx) = 0x0000'8000'0000'0000;
  run([](Assembler& a) { a.mov(r::rax, r::qword_ptr(r::rbx)); });
  EXPECT_EQ(exception(), x86::vector::kGp);
  gpr(x86::kRbp) = 0x0000'8000'0000'0000;
  run([](Assembler& a) { a.mov(r::rax, r::qword_ptr(r::rbp)); });
  EXPECT_EQ(exception(), x86::vector::kSs);
  run([](Assembler& a) { a.jmp(r::rbx); });
  EXPECT_EQ(exception(), x86::vector::kGp);
  EXPECT_EQ(faulting_rip(true), kCodeAddress);
}

TEST_P(ExecutionTest, mmio_goes_to_the_platform) {
  gpr(x86::kRbx) = 0x2000'0000;  // mapped, but no RAM
  io.mmio_bytes[0x2000'0000] = 0x34;
  io.mmio_bytes[0x2000'0001] = 0x12;
  run([](Assembler& a) {
    a.movzx(r::eax, r::word_ptr(r::rbx));
    a.mov(r::dword_ptr(r::rbx, 8), r::eax);
  });
  EXPECT_EQ(gpr(x86::kRax), 0x1234);
  ASSERT_EQ(io.mmio_writes.size(), 1);
  EXPECT_EQ(io.mmio_writes[0].address, 0x2000'0008);
  EXPECT_EQ(io.mmio_writes[0].value, 0x1234);
}

TEST_P(ExecutionTest, the_stack) {
  run([](Assembler& a) {
    const Label function = a.newLabel(), past = a.newLabel();
    a.jmp(past);
    a.bind(function);
    a.push(r::rbp);
    a.mov(r::rbp, r::rsp);
    a.mov(r::rax, r::qword_ptr(r::rbp, 16));
    a.leave();
    a.ret(8);
    a.bind(past);
    a.push(-2);
    a.call(function);
    a.push(r::rsp);
    a.pop(r::rcx);
    a.push(7);
    a.pop(r::qword_ptr(r::rsp, 8));  // the address counts from RSP after the POP
    a.mov(r::rdx, r::qword_ptr(r::rsp, 8));
    a.push(r::word_ptr(r::rsp));
  });
  EXPECT_EQ(gpr(x86::kRax), ~1ULL);
  EXPECT_EQ(gpr(x86::kRcx), kStackTop);
  EXPECT_EQ(gpr(x86::kRdx), 7);
  EXPECT_EQ(gpr(x86::kRsp), kStackTop - 2);
}

TEST_P(ExecutionTest, conditions) {
  // One bit for each of the 16 conditions that holds, after comparing 1 with 2.
  run([](Assembler& a) {
    a.xor_(r::eax, r::eax);
    a.mov(r::ecx, 1);
    using Jump = asmjit::Error (Assembler::*)(const Label&);
    (void)sizeof(Jump);
    for (unsigned condition = 0; condition < 16; ++condition) {
      a.mov(r::edx, 1);
      a.cmp(r::rdx, 2);
      const std::uint8_t jump[] = {static_cast<std::uint8_t>(0x70 | (condition ^ 1)), 6};
      a.embed(jump, 2);
      a.or_(r::eax, asmjit::imm(0x10000U << condition));  // 81 /1 is long: 05-form of 5 bytes
      a.nop();
    }
  });
  // CF, SF, PF (FFh has eight ones), AF: B, BE, S, P, L, LE; and NO, NZ.
  constexpr unsigned kExpected = 1U << 1 | 1U << 2 | 1U << 5 | 1U << 6 | 1U << 8 | 1U << 10 | 1U << 12 | 1U << 14;
  EXPECT_EQ(gpr(x86::kRax) >> 16, kExpected);
}

TEST_P(ExecutionTest, loops_count_in_their_address_size) {
  gpr(x86::kRcx) = 0xFFFF'FFFF'0000'0003;
  gpr(x86::kRax) = 0;
  place(kCodeAddress, {0xFF, 0xC0,        // inc eax
                       0x67, 0xE2, 0xFB,  // loop with ECX
                       0x67, 0xE3, 0x01,  // jecxz past the next
                       0xF4,              // hlt
                       0xF4});
  state.rip = kCodeAddress;
  run();
  EXPECT_EQ(gpr(x86::kRax), 3);
  EXPECT_EQ(gpr(x86::kRcx), 0);
  EXPECT_EQ(state.rip, kCodeAddress + 10);
}

TEST_P(ExecutionTest, code_that_changes_itself) {
  // The immediate of the MOV after the store, in the same block; then again, as a loop.
  gpr(x86::kRbx) = kCodeAddress;
  run([](Assembler& a) {
    const Label again = a.newLabel(), patched = a.newLabel();
    a.xor_(r::edx, r::edx);
    a.bind(again);
    a.inc(r::edx);
    a.lea(r::rsi, r::ptr(patched));
    a.mov(r::dword_ptr(r::rsi, 1), r::edx);
    a.bind(patched);
    a.mov(r::eax, 0x5555'5555);
    a.add(r::ecx, r::eax);
    a.cmp(r::edx, 100);
    a.jne(again);
  });
  EXPECT_EQ(gpr(x86::kRax), 100);
  EXPECT_EQ(gpr(x86::kRcx) & 0xFFFF'FFFF, 5050);
}

TEST_P(ExecutionTest, code_changed_by_a_device_between_runs) {
  run([](Assembler& a) { a.mov(r::eax, 1); });
  EXPECT_EQ(gpr(x86::kRax), 1);
  place(kCodeAddress + 1, {2});
  state.rip = kCodeAddress;
  run();
  EXPECT_EQ(gpr(x86::kRax), 2);
}

TEST_P(ExecutionTest, an_instruction_across_pages_follows_a_change_of_the_second) {
  // MOV EAX, imm32 with three of its bytes on the second page; a loop that changes them.
  split_large_page(0x20'0000);
  const std::uint64_t start = 0x20'0FFE;
  place(start, {0xB8, 1, 0, 0, 0, 0xC3});
  gpr(x86::kRbx) = start;
  gpr(x86::kRsp) = 0x10'0000;
  run([](Assembler& a) {
    a.call(r::rbx);
    a.mov(r::ecx, r::eax);
    a.mov(r::byte_ptr(r::rbx, 3), 1);
    a.call(r::rbx);
  });
  EXPECT_EQ(gpr(x86::kRcx), 1);
  EXPECT_EQ(gpr(x86::kRax), 0x01'0001);
}

TEST_P(ExecutionTest, an_instruction_across_pages_follows_a_change_of_the_mapping) {
  split_large_page(0x20'0000);
  place(0x20'0FFE, {0xB8, 1});
  place(0x20'1000, {0, 0, 0, 0xC3});
  place(0x20'5000, {0, 0, 7, 0xC3});
  gpr(x86::kRbx) = 0x20'0FFE;
  gpr(x86::kRsp) = 0x10'0000;
  gpr(x86::kRsi) = kPt + 8;
  run([](Assembler& a) {
    a.call(r::rbx);
    a.mov(r::ecx, r::eax);
    a.mov(r::qword_ptr(r::rsi), 0x20'5003);
    a.invlpg(r::ptr(r::rbx, 2));
    a.call(r::rbx);
  });
  EXPECT_EQ(gpr(x86::kRcx), 1);
  EXPECT_EQ(gpr(x86::kRax), 0x0700'0001);
}

TEST_P(ExecutionTest, a_fetch_from_the_second_page_faults_with_its_address) {
  split_large_page(0x20'0000);
  place(0x20'0FFE, {0xB8, 1});
  unmap(0x20'1000);
  gpr(x86::kRbx) = 0x20'0FFE;
  gpr(x86::kRsp) = 0x10'0000;
  run([](Assembler& a) { a.jmp(r::rbx); });
  EXPECT_EQ(exception(), x86::vector::kPf);
  EXPECT_EQ(state.cr2, 0x20'1000);
  EXPECT_EQ(faulting_rip(true), 0x20'0FFE);
}

TEST_P(ExecutionTest, repeated_moves_and_fills) {
  for (unsigned i = 0; i < 6000; ++i) poke_physical<std::uint8_t>(kDataAddress + i, static_cast<std::uint8_t>(i * 7));
  gpr(x86::kRsi) = kDataAddress;
  gpr(x86::kRdi) = kDataAddress + 0x10'0123;
  gpr(x86::kRcx) = 6000;
  run([](Assembler& a) { a.rep().movsb(); });
  EXPECT_EQ(gpr(x86::kRcx), 0);
  EXPECT_EQ(gpr(x86::kRsi), kDataAddress + 6000);
  for (unsigned i = 0; i < 6000; ++i)
    ASSERT_EQ(peek_physical<std::uint8_t>(kDataAddress + 0x10'0123 + i), static_cast<std::uint8_t>(i * 7));

  gpr(x86::kRdi) = kDataAddress + 3;
  gpr(x86::kRcx) = 1000;
  gpr(x86::kRax) = 0x1122'3344'5566'7788;
  run([](Assembler& a) { a.rep().stosq(); });
  EXPECT_EQ(gpr(x86::kRdi), kDataAddress + 3 + 8000);
  EXPECT_EQ(peek_physical<std::uint64_t>(kDataAddress + 3 + 7992), 0x1122'3344'5566'7788);
}

TEST_P(ExecutionTest, an_overlapping_move_repeats_its_pattern) {
  place(kDataAddress, {1, 2, 3, 0, 0, 0, 0, 0, 0, 0});
  gpr(x86::kRsi) = kDataAddress;
  gpr(x86::kRdi) = kDataAddress + 3;
  gpr(x86::kRcx) = 6;
  run([](Assembler& a) { a.rep().movsb(); });
  EXPECT_EQ(peek_physical<std::uint64_t>(kDataAddress), 0x0201'0302'0103'0201);
}

TEST_P(ExecutionTest, backward_moves) {
  place(kDataAddress, {1, 2, 3, 4});
  gpr(x86::kRsi) = kDataAddress + 3;
  gpr(x86::kRdi) = kDataAddress + 5;
  gpr(x86::kRcx) = 4;
  run([](Assembler& a) {
    a.std();
    a.rep().movsb();
  });
  EXPECT_EQ(peek_physical<std::uint32_t>(kDataAddress + 2), 0x0403'0201U);
  EXPECT_EQ(gpr(x86::kRsi), kDataAddress - 1);
}

TEST_P(ExecutionTest, a_repetition_that_faults_keeps_what_is_done) {
  split_large_page(0x20'0000);
  unmap(0x20'1000);
  gpr(x86::kRdi) = 0x20'0FF0;
  gpr(x86::kRcx) = 10;
  gpr(x86::kRax) = 0;
  gpr(x86::kRsp) = 0x10'0000;
  run([](Assembler& a) { a.rep().stosq(); });
  EXPECT_EQ(exception(), x86::vector::kPf);
  EXPECT_EQ(gpr(x86::kRcx), 8);
  EXPECT_EQ(gpr(x86::kRdi), 0x20'1000);
  EXPECT_EQ(faulting_rip(true), kCodeAddress);
}

TEST_P(ExecutionTest, a_repetition_of_nothing_touches_nothing) {
  gpr(x86::kRdi) = 0x0000'8000'0000'0000;
  gpr(x86::kRcx) = 0;
  run([](Assembler& a) { a.rep().stosq(); });
  EXPECT_FALSE(exception());
}

TEST_P(ExecutionTest, an_interrupt_gets_between_iterations) {
  state.set_rflags(x86::rflags::kIf);
  io.interrupts.push_back(0x40);
  attention.set(Attention::kInterrupt);
  gpr(x86::kRdi) = kDataAddress;
  gpr(x86::kRcx) = 100'000;
  place(kCodeAddress, {0xF3, 0xAA, 0xF4});
  state.rip = kCodeAddress;
  run();
  EXPECT_EQ(exception(), 0x40U);
  EXPECT_EQ(faulting_rip(), kCodeAddress);
  EXPECT_EQ(gpr(x86::kRdi) - kDataAddress + gpr(x86::kRcx), 100'000);
}

TEST_P(ExecutionTest, scans_stop_where_they_find) {
  place(kDataAddress, {'h', 'e', 'l', 'l', 'o', 0});
  gpr(x86::kRdi) = kDataAddress;
  gpr(x86::kRcx) = ~0ULL;
  gpr(x86::kRax) = 0;
  run([](Assembler& a) { a.repne().scasb(); });
  EXPECT_EQ(~gpr(x86::kRcx) - 1, 5);
  EXPECT_NE(status_flags() & x86::rflags::kZf, 0);
}

TEST_P(ExecutionTest, compares_set_flags_as_subtraction_does) {
  place(kDataAddress, {5, 6, 7, 8});
  place(kDataAddress + 16, {5, 6, 9, 8});
  gpr(x86::kRsi) = kDataAddress;
  gpr(x86::kRdi) = kDataAddress + 16;
  gpr(x86::kRcx) = 4;
  run([](Assembler& a) { a.repe().cmpsb(); });
  EXPECT_EQ(gpr(x86::kRcx), 1);
  EXPECT_EQ(status_flags(), x86::rflags::kCf | x86::rflags::kSf | x86::rflags::kAf);  // 7 - 9 = FEh
}

TEST_P(ExecutionTest, sti_holds_interrupts_off_for_one_instruction) {
  io.interrupts.push_back(0x41);
  attention.set(Attention::kInterrupt);
  gpr(x86::kRax) = gpr(x86::kRcx) = 0;
  run([](Assembler& a) {
    a.sti();
    a.inc(r::eax);
    a.inc(r::ecx);
  });
  EXPECT_EQ(exception(), 0x41U);
  EXPECT_EQ(gpr(x86::kRax), 1);
  EXPECT_EQ(gpr(x86::kRcx), 0);
}

TEST_P(ExecutionTest, the_trap_flag_traps_after_each_instruction) {
  run([](Assembler& a) {
    a.pushfq();
    a.or_(r::dword_ptr(r::rsp), 0x100);
    a.popfq();
    a.nop();  // executed, then trapped
    a.nop();
  });
  EXPECT_EQ(exception(), x86::vector::kDb);
  EXPECT_NE(state.dr6 & bit(14), 0);
  EXPECT_EQ(faulting_rip(), kCodeAddress + 1 + 7 + 1 + 1);
}

TEST_P(ExecutionTest, a_data_breakpoint_traps_after_the_access) {
  state.dr[0] = kDataAddress + 4;
  state.dr7 = 0x401 | 0xD0000;  // L0, write, 4 bytes
  gpr(x86::kRbx) = kDataAddress;
  run([](Assembler& a) {
    a.mov(r::dword_ptr(r::rbx), 1);
    a.mov(r::dword_ptr(r::rbx, 4), 2);
    a.mov(r::dword_ptr(r::rbx, 8), 3);
  });
  EXPECT_EQ(exception(), x86::vector::kDb);
  EXPECT_EQ(state.dr6 & 0xF, 1);
  EXPECT_EQ(peek_physical<std::uint32_t>(kDataAddress + 4), 2);
  EXPECT_EQ(peek_physical<std::uint32_t>(kDataAddress + 8), 0);
}

TEST_P(ExecutionTest, undefined_and_too_long_instructions) {
  place(kCodeAddress, {0x90, 0x0F, 0x0B});
  state.rip = kCodeAddress;
  run();
  EXPECT_EQ(exception(), x86::vector::kUd);
  EXPECT_EQ(faulting_rip(), kCodeAddress + 1);
  std::vector<std::byte> prefixes(16, std::byte{0x66});
  place(kCodeAddress, prefixes);
  state.rip = kCodeAddress;
  run();
  EXPECT_EQ(exception(), x86::vector::kGp);
}

TEST_P(ExecutionTest, a_triple_fault_shuts_the_processor_down) {
  state.idtr.limit = 0;
  place(kCodeAddress, {0x0F, 0x0B});
  state.rip = kCodeAddress;
  EXPECT_EQ(run(), ExitReason::Shutdown);
}

TEST_P(ExecutionTest, stop_leaves_at_once_and_resumes) {
  place(kCodeAddress, {0xEB, 0xFE});  // for ever
  state.rip = kCodeAddress;
  attention.set(Attention::kStop);
  EXPECT_EQ(run(), ExitReason::Stopped);
  EXPECT_FALSE(attention.any());
  EXPECT_EQ(state.rip, kCodeAddress);
}

TEST_P(ExecutionTest, a_debugger_steps_and_breaks) {
  place(kCodeAddress, assemble(kCodeAddress, [](Assembler& a) {
          a.inc(r::eax);
          a.inc(r::eax);
          a.inc(r::eax);
          a.hlt();
        }));
  gpr(x86::kRax) = 0;
  state.rip = kCodeAddress;
  DebugRequest request;
  request.breakpoints = {kCodeAddress + 4};
  vcpu->set_debug(request);
  EXPECT_EQ(run(), ExitReason::Breakpoint);
  EXPECT_EQ(gpr(x86::kRax), 2);
  EXPECT_EQ(state.rip, kCodeAddress + 4);
  request.breakpoints.clear();
  request.single_step = true;
  vcpu->set_debug(request);
  EXPECT_EQ(run(), ExitReason::Stepped);
  EXPECT_EQ(gpr(x86::kRax), 3);
  vcpu->set_debug({});
  EXPECT_EQ(run(), ExitReason::Halted);
}

TEST_P(ExecutionTest, a_breakpoint_within_a_loop_is_reported_each_time_round) {
  place(kCodeAddress, assemble(kCodeAddress, [](Assembler& a) {
          const Label loop = a.newLabel();
          a.mov(r::ecx, 3);
          a.bind(loop);
          a.inc(r::rax);  // at kCodeAddress + 5
          a.inc(r::rbx);  // + 8
          a.dec(r::ecx);
          a.jnz(loop);
          a.hlt();
        }));
  gpr(x86::kRax) = gpr(x86::kRbx) = 0;
  state.rip = kCodeAddress;
  DebugRequest request;
  request.breakpoints = {kDataAddress, kCodeAddress + 8};
  vcpu->set_debug(request);
  for (unsigned round = 1; round <= 3; ++round) {
    ASSERT_EQ(run(), ExitReason::Breakpoint);
    EXPECT_EQ(state.rip, kCodeAddress + 8);
    EXPECT_EQ(gpr(x86::kRax), round);
    EXPECT_EQ(gpr(x86::kRbx), round - 1);
  }
  EXPECT_EQ(run(), ExitReason::Halted);
  EXPECT_EQ(gpr(x86::kRbx), 3);
}

TEST_P(ExecutionTest, a_debuggers_watchpoint_reports_the_access) {
  DebugRequest request;
  request.watchpoints.push_back({kDataAddress + 8, 8, false, true});
  vcpu->set_debug(request);
  gpr(x86::kRbx) = kDataAddress;
  EXPECT_EQ(run([](Assembler& a) {
              a.mov(r::rax, r::qword_ptr(r::rbx, 8));
              a.mov(r::qword_ptr(r::rbx, 8), r::rbx);
              a.nop();
            }),
            ExitReason::Watchpoint);
  EXPECT_EQ(peek_physical<std::uint64_t>(kDataAddress + 8), kDataAddress);
}

/// Real mode, as after reset but with CS:IP low.
class RealModeTest : public ExecutionTest {
 protected:
  void SetUp() override {
    state = CpuState{};
    state.reset(false, true);
    for (Segment& segment : state.segment) {
      segment.selector = 0;
      segment.base = 0;
    }
    state.seg(SegReg::Cs).selector = 0x1000;
    state.seg(SegReg::Cs).base = 0x10000;
    state.seg(SegReg::Ds).selector = 0x2000;
    state.seg(SegReg::Ds).base = 0x20000;
    state.rip = 0;
    state.gpr[x86::kRsp] = 0x8000;
    // Every vector's handler is a HLT at 0:500h.
    for (unsigned vector = 0; vector < 256; ++vector) poke_physical<std::uint32_t>(4 * vector, 0x500);
    poke_physical<std::uint8_t>(0x500, 0xF4);
  }
};

TEST_P(RealModeTest, segments_are_paragraphs) {
  poke_physical<std::uint16_t>(0x20010, 0x1234);
  place(0x10000, {0xA1, 0x10, 0x00,  // mov ax, [10h]
                  0xBB, 0x08, 0x00,  // mov bx, 8
                  0x89, 0x47, 0x0A,  // mov [bx+10], ax
                  0x50,              // push ax
                  0x66, 0x40,        // inc eax
                  0xE8, 0x01, 0x00,  // call past the next
                  0xF4,              // hlt
                  0x59,              // pop cx: the return address
                  0xF4});
  EXPECT_EQ(run(), ExitReason::Halted);
  EXPECT_EQ(peek_physical<std::uint16_t>(0x20012), 0x1234);
  EXPECT_EQ(peek_physical<std::uint16_t>(0x7FFE), 0x1234);
  EXPECT_EQ(gpr(x86::kRcx), 15);
  EXPECT_EQ(gpr(x86::kRsp), 0x7FFE);
}

TEST_P(RealModeTest, word_accesses_past_the_limit_fault) {
  place(0x10000, {0xA1, 0xFF, 0xFF});  // mov ax, [FFFFh]
  run();
  EXPECT_EQ(state.rip, 0x501);
  EXPECT_EQ(peek_physical<std::uint16_t>(gpr(x86::kRsp)), 0);  // IP of the MOV
}

TEST_P(RealModeTest, jumps_wrap_at_64_kib) {
  state.rip = 0xFFF0;
  place(0x1FFF0, {0xEB, 0x20});  // jmp FFF2h + 20h = 12h
  place(0x10012, {0xF4});
  run();
  EXPECT_EQ(state.rip, 0x13);
}

TEST_P(RealModeTest, string_instructions_use_16_bit_registers) {
  gpr(x86::kRsi) = 0xABCD'0000;
  gpr(x86::kRdi) = 0x1234'0100;
  gpr(x86::kRcx) = 0xFFFF'0003;
  poke_physical<std::uint32_t>(0x20000, 0x00CC'BBAA);
  place(0x10000, {0xF3, 0xA4, 0xF4});
  run();
  EXPECT_EQ(gpr(x86::kRsi), 0xABCD'0003);
  EXPECT_EQ(gpr(x86::kRdi), 0x1234'0103);
  EXPECT_EQ(gpr(x86::kRcx), 0xFFFF'0000);
  EXPECT_EQ(peek_physical<std::uint32_t>(0x100) & 0xFF'FFFF, 0xCC'BBAAU);
}

/// 32-bit protected mode, flat segments, no paging.
class ProtectedModeTest : public ExecutionTest {
 protected:
  void SetUp() override {
    state.efer = 0;
    state.cr0 &= ~x86::cr0::kPg;
    state.seg(SegReg::Cs) = flat_segment(0x08, true, false);
    state.rip = kCodeAddress;
  }
  ExitReason run32(const std::function<void(Assembler&)>& write) {
    place(kCodeAddress, assemble(
                            kCodeAddress,
                            [&write](Assembler& a) {
                              write(a);
                              a.hlt();
                            },
                            asmjit::Arch::kX86));
    state.rip = kCodeAddress;
    return run();
  }
};

TEST_P(ProtectedModeTest, flat_32_bit_code) {
  gpr(x86::kRbx) = 0xDEAD'0000'0000'0000 | kDataAddress;  // upper halves do not exist
  EXPECT_EQ(run32([](Assembler& a) {
              a.mov(r::eax, 7);
              a.mov(r::dword_ptr(r::ebx, 4), r::eax);
              a.add(r::dword_ptr(r::ebx, 4), 1);
              a.push(r::dword_ptr(r::ebx, 4));
              a.pop(r::ecx);
              a.inc(r::ecx);
            }),
            ExitReason::Halted);
  EXPECT_EQ(gpr(x86::kRcx), 9);
  EXPECT_EQ(gpr(x86::kRsp), kStackTop);
}

TEST_P(ProtectedModeTest, segment_bases_and_limits) {
  state.seg(SegReg::Fs).base = kDataAddress;
  state.seg(SegReg::Fs).limit = 0xFFF;
  poke_physical<std::uint32_t>(kDataAddress + 8, 42);
  run32([](Assembler& a) {
    r::Mem mem = r::dword_ptr(8);
    mem.setSegment(r::fs);
    a.mov(r::eax, mem);
  });
  EXPECT_EQ(gpr(x86::kRax), 42);
}

TEST_P(ProtectedModeTest, legacy_vector_state_and_bcd) {
  gpr(x86::kRax) = 0x79;
  place(kCodeAddress, {0x04, 0x35, 0x27, 0xF4});  // add al, 35h; daa
  run();
  EXPECT_EQ(gpr(x86::kRax) & 0xFF, 0x14U);
  EXPECT_NE(status_flags() & x86::rflags::kCf, 0);
}

TEST_P(ProtectedModeTest, a_task_switch_that_faults_in_the_new_task_stays_there) {
  constexpr std::uint64_t kGdt = 0x4000, kIdt = 0x5000, kOldTss = 0x6000, kNewTss = 0x7000, kEntry = 0x18'0000;
  constexpr std::uint64_t kTsHandler = 0x9000, kAbsentSelector = 0x100;
  poke_physical<std::uint64_t>(kGdt + 0x08, 0x00CF'9B00'0000'FFFF);
  poke_physical<std::uint64_t>(kGdt + 0x10, 0x00CF'9300'0000'FFFF);
  poke_physical<std::uint64_t>(kGdt + 0x18, 0x0000'8B00'0000'0067 | kOldTss << 16);
  poke_physical<std::uint64_t>(kGdt + 0x20, 0x0000'8900'0000'0067 | kNewTss << 16);
  poke_physical<std::uint64_t>(kIdt + 8 * x86::vector::kTs, 0x0000'8E00'0008'0000 | kTsHandler);
  poke_physical<std::uint8_t>(kTsHandler, 0xF4);
  state.gdtr = {kGdt, 0x27};
  state.idtr = {kIdt, 0x7FF};
  state.tr = {kOldTss, 0x67, 0x8B, 0x18};
  poke_physical<std::uint32_t>(kNewTss + 0x20, static_cast<std::uint32_t>(kEntry));
  poke_physical<std::uint32_t>(kNewTss + 0x38, static_cast<std::uint32_t>(kStackTop));
  for (const auto& [field, selector] : {std::pair{0x4C, 0x08}, {0x50, 0x10}, {0x54, int{kAbsentSelector}}})
    poke_physical<std::uint32_t>(kNewTss + static_cast<unsigned>(field), static_cast<std::uint32_t>(selector));
  place(kCodeAddress, {0xEA, 0, 0, 0, 0, 0x20, 0});  // jmp 20h:0
  EXPECT_EQ(run(), ExitReason::Halted);
  EXPECT_EQ(state.rip, kTsHandler + 1);
  EXPECT_EQ(state.tr.selector, 0x20);
  EXPECT_EQ(peek_physical<std::uint32_t>(state.gpr[x86::kRsp]), kAbsentSelector);
  EXPECT_EQ(peek_physical<std::uint32_t>(state.gpr[x86::kRsp] + 4), kEntry) << "EIP in the frame";
}

/// Level 3 with alignment checks, on pages of its own.
class AlignmentCheckTest : public ExecutionTest {
 protected:
  void SetUp() override {
    for (const std::uint64_t entry : {std::uint64_t{0x1000}, std::uint64_t{0x2000}}) {
      poke_physical<std::uint64_t>(entry, peek_physical<std::uint64_t>(entry) | 4);
    }
    for (std::uint64_t i = 0; i < 8; ++i) poke_physical<std::uint64_t>(kPd + 8 * i, i << 21 | 0x87);
    state.cr0 |= x86::cr0::kAm;
    state.set_rflags(x86::rflags::kAc);
    for (Segment& segment : state.segment) segment.attributes |= 3 << 5;
    gpr(x86::kRbx) = kDataAddress + 2;
  }
  /// The vector that ends the program, which runs at level 3 without a way to handle it: shutdown, or none.
  bool faults(const std::function<void(Assembler&)>& write) {
    place(kCodeAddress, assemble(kCodeAddress, [&write](Assembler& a) {
            write(a);
            a.ud2();
          }));
    state.rip = kCodeAddress;
    state.idtr = {0, 0};
    run();
    return state.rip == kCodeAddress;
  }
};

TEST_P(AlignmentCheckTest, every_kind_of_access_is_checked) {
  EXPECT_TRUE(faults([](Assembler& a) { a.mov(r::rax, r::qword_ptr(r::rbx)); }));
  EXPECT_TRUE(faults([](Assembler& a) { a.mov(r::dword_ptr(r::rbx), r::eax); }));
  EXPECT_TRUE(faults([](Assembler& a) { a.add(r::dword_ptr(r::rbx), 1); }));
  EXPECT_TRUE(faults([](Assembler& a) { a.lock().inc(r::qword_ptr(r::rbx)); }));
  EXPECT_TRUE(faults([](Assembler& a) { a.movsd(r::xmm0, r::qword_ptr(r::rbx)); }));
  EXPECT_TRUE(faults([](Assembler& a) { a.fld(r::qword_ptr(r::rbx)); }));
  EXPECT_TRUE(faults([](Assembler& a) { a.jmp(r::qword_ptr(r::rbx)); }));
  gpr(x86::kRsp) = kStackTop + 4;
  EXPECT_TRUE(faults([](Assembler& a) { a.push(r::rax); }));
  EXPECT_TRUE(faults([](Assembler& a) { a.pop(r::rax); }));
  EXPECT_TRUE(faults([](Assembler& a) { a.ret(); }));
  gpr(x86::kRdi) = kDataAddress + 1;
  gpr(x86::kRcx) = 8;
  EXPECT_TRUE(faults([](Assembler& a) { a.rep().stosd(); }));
  EXPECT_EQ(gpr(x86::kRcx), 8);
}

TEST_P(AlignmentCheckTest, aligned_accesses_and_bytes_pass) {
  EXPECT_FALSE(faults([](Assembler& a) { a.mov(r::ax, r::word_ptr(r::rbx)); }));
  EXPECT_FALSE(faults([](Assembler& a) { a.mov(r::al, r::byte_ptr(r::rbx, 1)); }));
  EXPECT_FALSE(faults([](Assembler& a) { a.mov(r::rax, r::qword_ptr(r::rbx, 6)); }));
  EXPECT_FALSE(faults([](Assembler& a) { a.push(r::rax); }));
}

TEST_P(AlignmentCheckTest, nothing_is_checked_without_the_flag) {
  state.set_rflags(0);
  EXPECT_FALSE(faults([](Assembler& a) { a.mov(r::rax, r::qword_ptr(r::rbx)); }));
}

DOPPEL_TEST_ON_EACH_ENGINE(ExecutionTest);
DOPPEL_TEST_ON_EACH_ENGINE(RealModeTest);
DOPPEL_TEST_ON_EACH_ENGINE(ProtectedModeTest);
DOPPEL_TEST_ON_EACH_ENGINE(AlignmentCheckTest);

}  // namespace
}  // namespace doppel::engine::test
