#include "isa/canonical.h"

#include <gtest/gtest.h>

#include <vector>

#include "isa/decoder.h"
#include "isa/op_table.h"

namespace doppel::isa {
namespace {

namespace rflags = x86::rflags;

class CanonicalTest : public ::testing::Test {
 protected:
  x86::CpuidModel cpuid = x86::CpuidModel::for_host(1);
  Decoder decoder{cpuid};
  Insn insn;
  Canonical canonical;

  bool make(std::initializer_list<unsigned> bytes, CodeSize size = CodeSize::Bits64) {
    std::vector<std::byte> raw;
    for (const unsigned byte : bytes) raw.push_back(static_cast<std::byte>(byte));
    EXPECT_EQ(decoder.decode(raw, size, true, insn), DecodeStatus::Ok);
    return canonicalize(insn, canonical);
  }
  std::vector<unsigned> bytes() const { return {canonical.bytes.begin(), canonical.bytes.begin() + canonical.length}; }
};

TEST_F(CanonicalTest, registers_get_fixed_places_whatever_the_guest_names) {
  ASSERT_TRUE(make({0x48, 0x01, 0xD8}));  // add rax, rbx
  const auto first = bytes();
  EXPECT_EQ(first, (std::vector<unsigned>{0x4D, 0x01, 0xC8}));  // add r8, r9
  ASSERT_TRUE(make({0x4C, 0x01, 0xFE}));                        // add rsi, r15
  EXPECT_EQ(bytes(), first);
}

TEST_F(CanonicalTest, memory_is_where_r11_points) {
  ASSERT_TRUE(make({0x48, 0x8B, 0x44, 0xCB, 0x10}));              // mov rax, [rbx+rcx*8+16]
  EXPECT_EQ(bytes(), (std::vector<unsigned>{0x4D, 0x8B, 0x03}));  // mov r8, [r11]
  EXPECT_TRUE(canonical.has_memory);
  EXPECT_TRUE(canonical.memory_read);
  EXPECT_FALSE(canonical.memory_written);
  EXPECT_EQ(canonical.memory_size, 8);
}

TEST_F(CanonicalTest, immediates_become_operands_where_that_is_the_same) {
  ASSERT_TRUE(make({0x83, 0xC0, 0x05}));                          // add eax, 5
  EXPECT_EQ(bytes(), (std::vector<unsigned>{0x45, 0x01, 0xC8}));  // add r8d, r9d
  EXPECT_EQ(canonical.slot[1].source, OperandSource::Immediate);
  ASSERT_TRUE(make({0x69, 0xC1, 4, 3, 2, 1}));  // imul eax, ecx, 01020304h
  EXPECT_EQ(canonical.slot[0].source, OperandSource::Immediate);
  ASSERT_TRUE(make({0xC1, 0xE0, 0x05}));  // shl eax, 5 keeps it
  EXPECT_EQ(bytes().back(), 5U);
}

TEST_F(CanonicalTest, flags_that_may_stay_are_loaded_before) {
  ASSERT_TRUE(make({0x01, 0xD8}));  // add
  EXPECT_EQ(canonical.flags_read, 0);
  EXPECT_EQ(canonical.flags_written, rflags::kStatus);
  ASSERT_TRUE(make({0xFF, 0xC0}));  // inc
  EXPECT_EQ(canonical.flags_read, rflags::kCf);
  ASSERT_TRUE(make({0xD3, 0xE0}));  // shl eax, cl: by zero, perhaps
  EXPECT_EQ(canonical.flags_read, rflags::kStatus);
  ASSERT_TRUE(make({0x11, 0xD8}));  // adc
  EXPECT_EQ(canonical.flags_tested, rflags::kCf);
  ASSERT_TRUE(make({0x0F, 0x44, 0xC3}));  // cmovz
  EXPECT_EQ(canonical.flags_tested, rflags::kZf);
  EXPECT_EQ(canonical.flags_written, 0);
}

TEST_F(CanonicalTest, implied_registers_are_found) {
  ASSERT_TRUE(make({0x48, 0xF7, 0xF1}));  // div rcx
  EXPECT_EQ(canonical.gpr_read, 1 << x86::kRax | 1 << x86::kRdx);
  EXPECT_EQ(canonical.gpr_written, 1 << x86::kRax | 1 << x86::kRdx);
  EXPECT_TRUE(canonical.may_fault);
  ASSERT_TRUE(make({0x66, 0x0F, 0x38, 0x14, 0xC1}));  // blendvps xmm0, xmm1, <xmm0>
  EXPECT_TRUE(canonical.xmm0_read);
  ASSERT_TRUE(make({0x48, 0x0F, 0xC7, 0x0F}));  // cmpxchg16b [rdi]
  EXPECT_EQ(canonical.gpr_read, 0xF);
  EXPECT_EQ(canonical.gpr_written, 1 << x86::kRax | 1 << x86::kRdx);
}

TEST_F(CanonicalTest, code_of_other_modes_is_written_for_64_bits) {
  ASSERT_TRUE(make({0x40}, CodeSize::Bits32));  // inc eax
  EXPECT_EQ(bytes(), (std::vector<unsigned>{0x41, 0xFF, 0xC0}));
  ASSERT_TRUE(make({0x8D, 0x40, 0x01}, CodeSize::Bits16));  // lea ax, [bx+si+1]
  EXPECT_TRUE(canonical.address_only);
}

TEST_F(CanonicalTest, only_rounding_instructions_load_mxcsr) {
  ASSERT_TRUE(make({0x0F, 0x58, 0xC1}));  // addps
  EXPECT_TRUE(canonical.uses_mxcsr);
  ASSERT_TRUE(make({0x0F, 0x28, 0xC1}));  // movaps
  EXPECT_FALSE(canonical.uses_mxcsr);
  ASSERT_TRUE(make({0x66, 0x0F, 0xFE, 0xC1}));  // paddd
  EXPECT_FALSE(canonical.uses_mxcsr);
}

TEST_F(CanonicalTest, system_instructions_are_never_the_hosts) {
  for (const auto& bytes : {std::initializer_list<unsigned>{0x0F, 0x05},
                            {0x0F, 0x31},
                            {0x0F, 0xA2},
                            {0xF4},
                            {0xE4, 0x10},
                            {0x0F, 0x20, 0xC0},
                            {0x8E, 0xD8},
                            {0xCD, 0x80},
                            {0xCF},
                            {0xFA}}) {
    make(bytes);
    EXPECT_EQ(op_class(insn), OpClass::System) << ZydisMnemonicGetString(insn.mnemonic);
  }
  make({0x0F, 0x0B});
  EXPECT_NE(op_class(insn), OpClass::HostAlu);
}

TEST_F(CanonicalTest, string_and_vector_moves_of_one_name_are_told_apart) {
  make({0xA5});
  EXPECT_EQ(op_class(insn), OpClass::Cpp);
  make({0xF2, 0x0F, 0x10, 0xC1});
  EXPECT_EQ(op_class(insn), OpClass::HostAlu);
}

}  // namespace
}  // namespace doppel::isa
