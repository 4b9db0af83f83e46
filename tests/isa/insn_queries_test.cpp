#include "isa/insn_queries.h"

#include "isa/decoded_insn.h"

namespace doppel::isa {
namespace {

class InsnQueries : public test::DecodedInsn {};

TEST_F(InsnQueries, the_memory_operand_is_the_explicit_one) {
  ASSERT_EQ(decode({0x01, 0x08}), DecodeStatus::Ok);  // add [rax], ecx
  EXPECT_EQ(memory_operand(insn), &insn.op[0]);
  ASSERT_EQ(decode({0x03, 0x08}), DecodeStatus::Ok);  // add ecx, [rax]
  EXPECT_EQ(memory_operand(insn), &insn.op[1]);
  ASSERT_EQ(decode({0x50}), DecodeStatus::Ok);  // push rax
  EXPECT_EQ(memory_operand(insn), nullptr);
}

TEST_F(InsnQueries, a_bit_string_reaches_whole_operands_away_in_both_directions) {
  x86::CpuState state;
  ASSERT_EQ(decode({0x0F, 0xAB, 0x08}), DecodeStatus::Ok);  // bts [rax], ecx
  EXPECT_TRUE(is_bit_string(insn));
  state.gpr[x86::kRcx] = 31;
  EXPECT_EQ(bit_string_offset(state, insn), 0);
  state.gpr[x86::kRcx] = 64;
  EXPECT_EQ(bit_string_offset(state, insn), 8);
  state.gpr[x86::kRcx] = 0xFFFF'FFFF;  // bit -1 is in the operand before
  EXPECT_EQ(bit_string_offset(state, insn), -4);
  ASSERT_EQ(decode({0x48, 0x0F, 0xA3, 0x08}), DecodeStatus::Ok);  // bt [rax], rcx
  EXPECT_EQ(bit_string_offset(state, insn), 0x1FFF'FFF8);
}

TEST_F(InsnQueries, a_bit_number_that_is_an_immediate_or_of_a_register_reaches_nowhere) {
  x86::CpuState state;
  state.gpr[x86::kRcx] = 1000;
  ASSERT_EQ(decode({0x0F, 0xBA, 0x28, 0x7F}), DecodeStatus::Ok);  // bts dword ptr [rax], 127
  EXPECT_EQ(bit_string_offset(state, insn), 0);
  ASSERT_EQ(decode({0x0F, 0xAB, 0xC8}), DecodeStatus::Ok);  // bts eax, ecx
  EXPECT_FALSE(is_bit_string(insn));
}

TEST_F(InsnQueries, conditions_are_numbered_as_encoded) {
  for (unsigned condition = 0; condition < kJumpConditions; ++condition) {
    ASSERT_EQ(decode({0x70 + condition, 0x10}), DecodeStatus::Ok);
    EXPECT_EQ(jump_condition(insn.mnemonic), condition);
  }
  EXPECT_EQ(jump_condition(ZYDIS_MNEMONIC_JRCXZ), std::nullopt);
}

}  // namespace
}  // namespace doppel::isa
