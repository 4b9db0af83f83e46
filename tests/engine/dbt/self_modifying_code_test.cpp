#include "engine/dbt/twins.h"

/// Code that is stored to, by every way in which a store can happen.
namespace doppel::engine::test {
namespace {

namespace r = asmjit::x86;
using asmjit::Label;
using asmjit::x86::Assembler;

class SelfModifyingCode : public ::testing::Test {
 protected:
  Twins twins;
  static constexpr std::uint64_t kOther = kCodeAddress + 0x3000;

  void SetUp() override { twins.enter(TwinMode::Supervisor64); }
  std::uint64_t result(x86::Gpr reg = x86::kRax) const { return twins.right.state.gpr[reg]; }

  /// mov ecx, imm32; add rax, rcx; ret, whose operand is one byte further.
  void place_adder(std::uint64_t address, std::uint32_t value) {
    twins.place_code(address, [value](Assembler& a) {
      a.mov(r::ecx, value);
      a.add(r::rax, r::rcx);
      a.ret();
    });
  }
  /// Calls the adder five times, and after each time lets `patch` change its operand, which rdi points to, to rdx.
  void run_patched(const std::function<void(Assembler&)>& patch, std::uint64_t adder = kOther) {
    place_adder(adder, 1);
    twins.place_code(kCodeAddress, [&](Assembler& a) {
      const Label loop = a.newLabel();
      a.mov(r::ebx, 5);
      a.mov(r::edi, adder + 1);
      a.mov(r::edx, 10);
      a.xor_(r::eax, r::eax);
      a.bind(loop);
      a.mov(r::r12d, adder);
      a.call(r::r12);
      patch(a);
      a.lea(r::rdx, r::ptr(r::rdx, r::rdx, 2));
      a.dec(r::ebx);
      a.jnz(loop);
      a.hlt();
    });
    twins.run_and_compare();
    EXPECT_EQ(result(), 1 + 10 + 50 + 250 + 1250);
  }
};

TEST_F(SelfModifyingCode, a_store) {
  run_patched([](Assembler& a) { a.mov(r::dword_ptr(r::rdi), r::edx); });
}

TEST_F(SelfModifyingCode, stores_of_bytes) {
  run_patched([](Assembler& a) {
    a.mov(r::byte_ptr(r::rdi), r::dl);
    a.mov(r::byte_ptr(r::rdi, 1), r::dh);
  });
}

TEST_F(SelfModifyingCode, a_push) {
  twins.state.gpr[x86::kRsp] = kStackTop;
  run_patched([](Assembler& a) {
    a.mov(r::r13, r::rsp);
    a.mov(r::ecx, r::dword_ptr(r::rdi, 4));
    a.shl(r::rcx, 32);
    a.or_(r::rcx, r::rdx);
    a.lea(r::rsp, r::ptr(r::rdi, 8));
    a.push(r::rcx);
    a.mov(r::rsp, r::r13);
  });
}

TEST_F(SelfModifyingCode, a_locked_exchange) {
  run_patched([](Assembler& a) {
    a.mov(r::ecx, r::edx);
    a.xchg(r::dword_ptr(r::rdi), r::ecx);
  });
}

TEST_F(SelfModifyingCode, an_addition_to_memory) {
  run_patched([](Assembler& a) {
    a.mov(r::ecx, r::edx);
    a.sub(r::ecx, r::dword_ptr(r::rdi));
    a.add(r::dword_ptr(r::rdi), r::ecx);
  });
}

TEST_F(SelfModifyingCode, a_vector_store) {
  run_patched([](Assembler& a) {
    a.movups(r::xmm1, r::ptr(r::rdi));
    a.pinsrd(r::xmm1, r::edx, 0);
    a.movups(r::ptr(r::rdi), r::xmm1);
  });
}

TEST_F(SelfModifyingCode, an_x87_store) {
  run_patched([](Assembler& a) {
    a.mov(r::dword_ptr(r::rsp, -64), r::edx);
    a.fild(r::dword_ptr(r::rsp, -64));
    a.fistp(r::dword_ptr(r::rdi));
  });
}

TEST_F(SelfModifyingCode, a_repeated_move) {
  run_patched([](Assembler& a) {
    a.mov(r::dword_ptr(r::rsp, -64), r::edx);
    a.mov(r::r14, r::rdi);
    a.lea(r::rsi, r::ptr(r::rsp, -64));
    a.mov(r::ecx, 4);
    a.rep().movsb();
    a.mov(r::rdi, r::r14);
  });
}

TEST_F(SelfModifyingCode, in_the_page_of_the_caller) {
  run_patched([](Assembler& a) { a.mov(r::dword_ptr(r::rdi), r::edx); }, kCodeAddress + 0x800);
}

TEST_F(SelfModifyingCode, in_the_line_of_the_caller) {
  run_patched([](Assembler& a) { a.mov(r::dword_ptr(r::rdi), r::edx); }, kCodeAddress + 0x60);
}

TEST_F(SelfModifyingCode, through_another_mapping) {
  constexpr std::uint64_t kAlias = 0x3F'F000;
  twins.poke(Twins::entry_of(kAlias), kOther | 7);
  run_patched([](Assembler& a) { a.mov(r::dword_ptr(r::rdi, static_cast<int>(kAlias - kOther)), r::edx); });
}

TEST_F(SelfModifyingCode, by_a_store_across_pages) {
  // The operand of the adder lies across two pages.
  run_patched([](Assembler& a) { a.mov(r::dword_ptr(r::rdi), r::edx); }, kOther + 0x1000 - 3);
}

TEST_F(SelfModifyingCode, the_part_on_the_second_page_of_an_instruction) {
  // Only bytes of the second page are written, which holds no other code, by a store that has been made before.
  constexpr std::uint64_t kAdder = kOther + 0x1000 - 2;
  twins.poke<std::uint32_t>(kOther + 0x1FF0, 0);
  run_patched(
      [](Assembler& a) {
        a.inc(r::byte_ptr(r::rdi, 0xE00));
        a.mov(r::ecx, r::edx);
        a.mov(r::byte_ptr(r::rdi), r::cl);
        a.mov(r::byte_ptr(r::rdi, 1), r::ch);
      },
      kAdder);
}

TEST_F(SelfModifyingCode, the_next_instruction) {
  twins.place_code(kCodeAddress, [](Assembler& a) {
    const Label loop = a.newLabel(), next = a.newLabel();
    a.mov(r::ebx, 20);
    a.xor_(r::eax, r::eax);
    a.bind(loop);
    a.mov(r::byte_ptr(next, 1), r::bl);
    a.bind(next);
    a.mov(r::ecx, 0);
    a.add(r::eax, r::ecx);
    a.dec(r::ebx);
    a.jnz(loop);
    a.hlt();
  });
  twins.run_and_compare();
  EXPECT_EQ(result(), 210);
}

TEST_F(SelfModifyingCode, an_instruction_becomes_a_branch) {
  twins.place_code(kCodeAddress, [](Assembler& a) {
    const Label again = a.newLabel(), patched = a.newLabel();
    a.xor_(r::eax, r::eax);
    a.bind(again);
    a.inc(r::eax);
    a.bind(patched);
    a.nop();
    a.nop();
    a.cmp(r::eax, 1);
    a.mov(r::word_ptr(patched), 0x10EB);  // JMP over the next 16 bytes
    a.je(again);
    a.mov(r::ecx, 77);
    for (int i = 0; i < 16; ++i) a.nop();
    a.hlt();
    for (int i = 0; i < 16; ++i) a.hlt();
  });
  twins.run_and_compare();
}

TEST_F(SelfModifyingCode, data_beside_code_is_no_code) {
  twins.place_code(kCodeAddress, [](Assembler& a) {
    const Label loop = a.newLabel();
    a.mov(r::ebx, 2000);
    a.bind(loop);
    a.inc(r::dword_ptr(kCodeAddress + 0x7F0));
    a.mov(r::dword_ptr(kCodeAddress + 0x7F4), r::ebx);
    a.dec(r::ebx);
    a.jnz(loop);
    a.hlt();
  });
  twins.run_and_compare();
}

TEST_F(SelfModifyingCode, a_page_written_before_it_is_run) {
  // The write entry for the page is older than its first code.
  twins.place_code(kCodeAddress, [](Assembler& a) {
    const Label loop = a.newLabel();
    a.mov(r::edi, kOther);
    a.mov(r::ebx, 10);
    a.xor_(r::eax, r::eax);
    a.bind(loop);
    a.mov(r::byte_ptr(r::rdi), 0x05);  // add eax, imm32
    a.mov(r::dword_ptr(r::rdi, 1), r::ebx);
    a.mov(r::byte_ptr(r::rdi, 5), 0xC3);
    a.call(r::rdi);
    a.add(r::rdi, 6);
    a.dec(r::ebx);
    a.jnz(loop);
    a.hlt();
  });
  twins.run_and_compare();
  EXPECT_EQ(result(), 55);
}

TEST_F(SelfModifyingCode, of_16_bits_by_code_of_32) {
  // The interpreter executes what the translator does not: it has to be told of the translator's stores as well.
  constexpr std::uint64_t kCode16 = 0xA000;
  twins.enter(TwinMode::Protected32);
  twins.poke<std::uint64_t>(Twins::kGdt + 48, 0x0000'9B00'0000'FFFF);
  twins.state.gdtr.limit = 55;
  twins.place_code(kCodeAddress, [](Assembler& a) {
    const Label loop = a.newLabel();
    a.mov(r::ebx, 10);
    a.xor_(r::eax, r::eax);
    a.bind(loop);
    a.mov(r::word_ptr(kCode16 + 2), r::bx);
    const std::array<std::uint8_t, 7> far_jump{0xEA, 0x00, 0xA0, 0, 0, 0x30, 0};
    a.embed(far_jump.data(), far_jump.size());
    while (a.offset() < 0x40) a.nop();
    a.dec(r::ebx);
    a.jnz(loop);
    a.hlt();
  });
  // add ax, imm16; jmp far 8:kCodeAddress+40h
  const std::array<std::uint8_t, 12> code{0x81, 0xC0, 0, 0, 0x66, 0xEA, 0x40, 0x00, 0x10, 0, 0x08, 0};
  twins.place(kCode16, std::as_bytes(std::span(code)));
  twins.run_and_compare();
  EXPECT_EQ(result(), 55);
}

TEST_F(SelfModifyingCode, by_a_device_between_runs) {
  place_adder(kOther, 1);
  twins.place_code(kCodeAddress, [](Assembler& a) {
    a.mov(r::r12d, kOther);
    a.call(r::r12);
    a.hlt();
  });
  for (std::uint32_t value = 1; value < 5; ++value) {
    twins.poke(kOther + 1, value);
    twins.state.gpr[x86::kRax] = 0;
    twins.run_and_compare();
    EXPECT_EQ(result(), value);
  }
}

}  // namespace
}  // namespace doppel::engine::test
