#include "isa/decoded_insn.h"

namespace doppel::isa {
namespace {

using x86::SegReg;

class DecoderTest : public test::DecodedInsn {};

TEST_F(DecoderTest, rex_counts_only_right_before_the_opcode) {
  // REX.W, then 66h: the REX prefix is void, and the operand 16 bits wide.
  ASSERT_EQ(decode({0x48, 0x66, 0x01, 0xC8}), DecodeStatus::Ok);
  EXPECT_EQ(insn.mnemonic, ZYDIS_MNEMONIC_ADD);
  EXPECT_EQ(insn.op[0].size, 2);
  ASSERT_EQ(decode({0x66, 0x48, 0x01, 0xC8}), DecodeStatus::Ok);
  EXPECT_EQ(insn.op[0].size, 8);
}

TEST_F(DecoderTest, byte_registers_depend_on_rex) {
  ASSERT_EQ(decode({0x88, 0xE0}), DecodeStatus::Ok);  // mov al, ah
  EXPECT_EQ(insn.op[1].kind, OperandKind::GprHigh);
  EXPECT_EQ(insn.op[1].reg, 0);
  ASSERT_EQ(decode({0x40, 0x88, 0xE0}), DecodeStatus::Ok);  // mov al, spl
  EXPECT_EQ(insn.op[1].kind, OperandKind::Gpr);
  EXPECT_EQ(insn.op[1].reg, x86::kRsp);
  ASSERT_EQ(decode({0x45, 0x88, 0xC8}), DecodeStatus::Ok);  // mov r8b, r9b
  EXPECT_EQ(insn.op[0].reg, x86::kR8);
  EXPECT_EQ(insn.op[1].reg, x86::kR9);
}

TEST_F(DecoderTest, the_last_of_several_repeat_prefixes_counts) {
  ASSERT_EQ(decode({0xF2, 0xF3, 0xA6}), DecodeStatus::Ok);
  EXPECT_TRUE(insn.rep);
  EXPECT_FALSE(insn.repne);
  ASSERT_EQ(decode({0xF3, 0xF2, 0xA6}), DecodeStatus::Ok);
  EXPECT_TRUE(insn.repne);
}

TEST_F(DecoderTest, repne_repeats_moves_too) {
  ASSERT_EQ(decode({0xF2, 0xA4}), DecodeStatus::Ok);
  EXPECT_TRUE(insn.string);
  EXPECT_TRUE(insn.repne);
}

TEST_F(DecoderTest, an_instruction_of_16_bytes_is_too_long) {
  EXPECT_EQ(decode({0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90}),
            DecodeStatus::TooLong);
  EXPECT_EQ(decode({0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x90}),
            DecodeStatus::Ok);
  EXPECT_EQ(decode({0x66, 0x66, 0x66}), DecodeStatus::NeedsMoreBytes);
  EXPECT_EQ(decode({0x48, 0xB8, 1, 2, 3}), DecodeStatus::NeedsMoreBytes);
}

TEST_F(DecoderTest, lock_belongs_to_few_instructions_and_to_memory) {
  EXPECT_EQ(decode({0xF0, 0x01, 0x08}), DecodeStatus::Ok);         // lock add [rax], ecx
  EXPECT_EQ(decode({0xF0, 0x01, 0xC8}), DecodeStatus::Undefined);  // lock add eax, ecx
  EXPECT_EQ(decode({0xF0, 0x89, 0x08}), DecodeStatus::Undefined);  // lock mov [rax], ecx
  EXPECT_EQ(decode({0xF0, 0x90}), DecodeStatus::Undefined);
}

TEST_F(DecoderTest, opcode_90_is_xchg_with_rex_b_and_pause_with_f3) {
  ASSERT_EQ(decode({0x90}), DecodeStatus::Ok);
  EXPECT_EQ(insn.mnemonic, ZYDIS_MNEMONIC_NOP);
  ASSERT_EQ(decode({0x49, 0x90}), DecodeStatus::Ok);
  EXPECT_EQ(insn.mnemonic, ZYDIS_MNEMONIC_XCHG);
  ASSERT_EQ(decode({0xF3, 0x90}), DecodeStatus::Ok);
  EXPECT_EQ(insn.mnemonic, ZYDIS_MNEMONIC_PAUSE);
}

TEST_F(DecoderTest, endbr_and_hint_space_do_nothing) {
  for (const auto& bytes : {std::initializer_list<unsigned>{0xF3, 0x0F, 0x1E, 0xFA},
                            {0xF3, 0x0F, 0x1E, 0xFB},
                            {0x0F, 0x1F, 0x00},
                            {0x0F, 0x19, 0xC0},
                            {0x0F, 0x1A, 0x00},
                            {0x0F, 0x1C, 0x00}}) {
    ASSERT_EQ(decode(bytes), DecodeStatus::Ok);
    EXPECT_EQ(insn.mnemonic, ZYDIS_MNEMONIC_NOP);
  }
}

TEST_F(DecoderTest, what_the_processor_lacks_is_undefined) {
  EXPECT_EQ(decode({0x62, 0xF1, 0x7C, 0x48, 0x58, 0xC1}), DecodeStatus::Undefined);  // AVX-512
  EXPECT_EQ(decode({0x0F, 0x0F, 0xC1, 0x9E}), DecodeStatus::Undefined);              // 3DNow!
  EXPECT_EQ(decode({0x8F, 0xE9, 0x78, 0x01, 0xC8}), DecodeStatus::Undefined);        // XOP
  EXPECT_EQ(decode({0xC4, 0xE3, 0xF9, 0x69, 0xC1, 0x20}), DecodeStatus::Undefined);  // FMA4
  EXPECT_EQ(decode({0x0F, 0x01, 0xD5}), DecodeStatus::Undefined);                    // XEND
  EXPECT_EQ(decode({0xC4, 0xE2, 0x7B, 0x49, 0xC0}), DecodeStatus::Undefined);        // TILEZERO
}

TEST_F(DecoderTest, vex_exists_in_protected_mode_only) {
  EXPECT_EQ(decode({0xC5, 0xF8, 0x58, 0xC1}, CodeSize::Bits16, false), DecodeStatus::Undefined);
  EXPECT_EQ(decode({0xC5, 0xF8, 0x58, 0xC1}, CodeSize::Bits32, true), DecodeStatus::Ok);
  // With a memory operand the same byte is LDS there.
  ASSERT_EQ(decode({0xC5, 0x06, 0x34, 0x12}, CodeSize::Bits16, false), DecodeStatus::Ok);
  EXPECT_EQ(insn.mnemonic, ZYDIS_MNEMONIC_LDS);
}

TEST_F(DecoderTest, sizes_follow_the_mode_and_its_prefixes) {
  ASSERT_EQ(decode({0x01, 0x08}, CodeSize::Bits32), DecodeStatus::Ok);
  EXPECT_EQ(insn.operand_size, 4);
  EXPECT_EQ(insn.mem.address_size, 4);
  ASSERT_EQ(decode({0x67, 0x66, 0x01, 0x07}, CodeSize::Bits32), DecodeStatus::Ok);  // add [bx], ax
  EXPECT_EQ(insn.operand_size, 2);
  EXPECT_EQ(insn.mem.address_size, 2);
  EXPECT_EQ(insn.mem.base, x86::kRbx);
  ASSERT_EQ(decode({0x8B, 0x42, 0x05}, CodeSize::Bits16), DecodeStatus::Ok);  // mov ax, [bp+si+5]
  EXPECT_EQ(insn.mem.base, x86::kRbp);
  EXPECT_EQ(insn.mem.index, x86::kRsi);
  EXPECT_EQ(insn.mem.displacement, 5);
  EXPECT_EQ(insn.mem.segment, SegReg::Ss);
  ASSERT_EQ(decode({0x50}), DecodeStatus::Ok);
  EXPECT_EQ(insn.operand_size, 8);
}

TEST_F(DecoderTest, only_fs_and_gs_override_in_64_bit_mode) {
  ASSERT_EQ(decode({0x65, 0x48, 0x8B, 0x04, 0x25, 0x10, 0, 0, 0}), DecodeStatus::Ok);
  EXPECT_EQ(insn.mem.segment, SegReg::Gs);
  EXPECT_EQ(insn.mem.displacement, 0x10);
  EXPECT_EQ(insn.mem.base, kNoRegister);
  ASSERT_EQ(decode({0x2E, 0x8B, 0x00}), DecodeStatus::Ok);
  EXPECT_EQ(insn.mem.segment, SegReg::Ds);
}

TEST_F(DecoderTest, rip_relative_operands) {
  ASSERT_EQ(decode({0x8B, 0x05, 0xF0, 0xFF, 0xFF, 0xFF}), DecodeStatus::Ok);
  EXPECT_EQ(insn.mem.base, kRipRegister);
  EXPECT_EQ(insn.mem.displacement, -16);
}

TEST_F(DecoderTest, immediates_are_extended_as_the_manual_says) {
  ASSERT_EQ(decode({0x48, 0x83, 0xC0, 0xFF}), DecodeStatus::Ok);  // add rax, -1
  EXPECT_EQ(insn.imm[0], ~std::uint64_t{0});
  ASSERT_EQ(decode({0x48, 0xC7, 0xC0, 0, 0, 0, 0x80}), DecodeStatus::Ok);  // mov rax, -80000000h
  EXPECT_EQ(insn.imm[0], 0xFFFF'FFFF'8000'0000);
  ASSERT_EQ(decode({0x48, 0xA1, 1, 2, 3, 4, 5, 6, 7, 8}), DecodeStatus::Ok);  // mov rax, [moffs]
  EXPECT_EQ(static_cast<std::uint64_t>(insn.mem.displacement), 0x0807'0605'0403'0201);
  ASSERT_EQ(decode({0xC8, 0x10, 0x20, 0x03}), DecodeStatus::Ok);  // enter 2010h, 3
  EXPECT_EQ(insn.imm[0], 0x2010);
  EXPECT_EQ(insn.imm[1], 3);
  ASSERT_EQ(decode({0x9A, 1, 0, 0, 0, 8, 0}, CodeSize::Bits32), DecodeStatus::Ok);  // call 8:1
  EXPECT_TRUE(insn.far_branch);
  EXPECT_EQ(insn.imm[0], 1);
  EXPECT_EQ(insn.imm[1], 8);
}

TEST_F(DecoderTest, string_instructions_know_their_source_segment) {
  ASSERT_EQ(decode({0x64, 0xA4}), DecodeStatus::Ok);  // movsb with FS
  EXPECT_TRUE(insn.string);
  EXPECT_EQ(insn.mem.segment, SegReg::Fs);
  EXPECT_EQ(insn.mem.base, x86::kRsi);
  ASSERT_EQ(decode({0xF2, 0x0F, 0x10, 0xC1}), DecodeStatus::Ok);  // movsd xmm0, xmm1
  EXPECT_FALSE(insn.string);
}

TEST_F(DecoderTest, units_decide_what_must_be_enabled) {
  ASSERT_EQ(decode({0xD9, 0xE8}), DecodeStatus::Ok);  // fld1
  EXPECT_EQ(insn.unit, Unit::X87);
  ASSERT_EQ(decode({0x0F, 0xFC, 0xC1}), DecodeStatus::Ok);  // paddb mm0, mm1
  EXPECT_EQ(insn.unit, Unit::Mmx);
  ASSERT_EQ(decode({0x66, 0x0F, 0xFC, 0xC1}), DecodeStatus::Ok);
  EXPECT_EQ(insn.unit, Unit::Sse);
  ASSERT_EQ(decode({0xC5, 0xF9, 0xFC, 0xC1}), DecodeStatus::Ok);
  EXPECT_EQ(insn.unit, Unit::Avx);
  ASSERT_EQ(decode({0xC4, 0xE2, 0x70, 0xF2, 0xC2}), DecodeStatus::Ok);  // andn
  EXPECT_EQ(insn.unit, Unit::Integer);
  ASSERT_EQ(decode({0x0F, 0xC3, 0x08}), DecodeStatus::Ok);  // movnti
  EXPECT_EQ(insn.unit, Unit::Integer);
}

}  // namespace
}  // namespace doppel::isa
