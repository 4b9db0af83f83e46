#include "isa/system_fixture.h"

namespace doppel::isa {
namespace {

namespace cr0 = x86::cr0;
namespace cr4 = x86::cr4;
using x86::vector::kGp;

class SystemControl : public test::SystemTest {};

TEST_F(SystemControl, MovFromControlRegisters) {
  cpu.state.cr2 = 0x1234'5678'9ABC'DEF0;
  execute({0x0F, 0x20, 0xD3});  // mov rbx, cr2
  EXPECT_EQ(gpr(x86::kRbx), cpu.state.cr2);
  io.task_priority = 7;
  execute({0x44, 0x0F, 0x20, 0xC1});  // mov rcx, cr8
  EXPECT_EQ(gpr(x86::kRcx), 7U);
}

TEST_F(SystemControl, MovToControlRegistersMovesWholeRegisters) {
  gpr(x86::kRax) = 0xFFFF'8000'1234'5678;
  execute({0x66, 0x0F, 0x22, 0xD0});  // mov cr2, rax: the operand size prefix means nothing
  EXPECT_EQ(cpu.state.cr2, gpr(x86::kRax));
  enter_protected_32(0);
  gpr(x86::kRax) = 0xFFFF'FFFF'0000'1000;
  execute({0x0F, 0x22, 0xD0});
  EXPECT_EQ(cpu.state.cr2, 0x1000U);
}

TEST_F(SystemControl, Cr8TakesFourBits) {
  gpr(x86::kRax) = 0xF;
  execute({0x44, 0x0F, 0x22, 0xC0});
  EXPECT_EQ(io.task_priority, 0xF);
  gpr(x86::kRax) = 0x10;
  EXPECT_FAULT_CODE(kGp, 0, execute({0x44, 0x0F, 0x22, 0xC0}));
}

TEST_F(SystemControl, ControlAndDebugRegistersArePrivileged) {
  enter_64_bit(3);
  EXPECT_FAULT_CODE(kGp, 0, execute({0x0F, 0x20, 0xC0}));
  EXPECT_FAULT_CODE(kGp, 0, execute({0x0F, 0x22, 0xC0}));
  EXPECT_FAULT_CODE(kGp, 0, execute({0x0F, 0x21, 0xF8}));
  EXPECT_FAULT_CODE(kGp, 0, execute({0x0F, 0x23, 0xF8}));
  enter_virtual_8086(3);
  EXPECT_FAULT_CODE(kGp, 0, execute({0x0F, 0x20, 0xC0}));
}

TEST_F(SystemControl, DebugRegisters) {
  gpr(x86::kRax) = 0x1122'3344'5566;
  execute({0x0F, 0x23, 0xC0});  // mov dr0, rax
  EXPECT_EQ(cpu.state.dr[0], gpr(x86::kRax));
  execute({0x0F, 0x21, 0xC3});  // mov rbx, dr0
  EXPECT_EQ(gpr(x86::kRbx), gpr(x86::kRax));
}

TEST_F(SystemControl, CltsClearsTsOnly) {
  cpu.state.cr0 |= cr0::kTs | cr0::kMp;
  execute({0x0F, 0x06});
  EXPECT_EQ(cpu.state.cr0, cr0::kEt | cr0::kPe | cr0::kMp);
  enter_64_bit(3);
  EXPECT_FAULT_CODE(kGp, 0, execute({0x0F, 0x06}));
}

TEST_F(SystemControl, LmswSetsButNeverClearsPe) {
  enter_real_mode();
  gpr(x86::kRax) = 0xFFF9;
  execute({0x0F, 0x01, 0xF0});
  EXPECT_EQ(cpu.state.cr0, cr0::kEt | cr0::kPe | cr0::kTs);
  gpr(x86::kRax) = 0;
  execute({0x0F, 0x01, 0xF0});
  EXPECT_EQ(cpu.state.cr0, cr0::kEt | cr0::kPe);
  enter_64_bit(3);
  EXPECT_FAULT_CODE(kGp, 0, execute({0x0F, 0x01, 0xF0}));
}

TEST_F(SystemControl, SmswWidths) {
  cpu.state.cr0 |= cr0::kNe;
  gpr(x86::kRax) = ~std::uint64_t{0};
  execute({0x0F, 0x01, 0xE0});  // smsw eax
  EXPECT_EQ(gpr(x86::kRax), cpu.state.cr0);
  gpr(x86::kRax) = ~std::uint64_t{0};
  execute({0x66, 0x0F, 0x01, 0xE0});
  EXPECT_EQ(gpr(x86::kRax), ~std::uint64_t{0xFFFF} | cpu.state.cr0);
  gpr(x86::kRbx) = kData;
  poke_physical(kData, ~std::uint64_t{0});
  execute({0x0F, 0x01, 0x23});  // smsw [rbx]
  EXPECT_EQ(peek<std::uint64_t>(kData), ~std::uint64_t{0xFFFF} | cpu.state.cr0);
}

TEST_F(SystemControl, UmipKeepsUsersOut) {
  enter_64_bit(3);
  gpr(x86::kRbx) = kData;
  const std::vector<std::vector<std::uint8_t>> instructions = {
      {0x0F, 0x01, 0xE0},  // smsw eax
      {0x0F, 0x01, 0x03},  // sgdt [rbx]
      {0x0F, 0x01, 0x0B},  // sidt [rbx]
      {0x0F, 0x00, 0xC0},  // sldt eax
      {0x0F, 0x00, 0xC8},  // str eax
  };
  for (const auto& bytes : instructions) execute(bytes);
  cpu.state.cr4 |= cr4::kUmip;
  for (const auto& bytes : instructions) EXPECT_FAULT_CODE(kGp, 0, execute(bytes));
}

TEST_F(SystemControl, LgdtIn64BitModeWantsACanonicalBase) {
  gpr(x86::kRbx) = kData;
  poke_physical<std::uint16_t>(kData, 0x7F);
  poke_physical<std::uint64_t>(kData + 2, 0xFFFF'8000'0000'1000);
  execute({0x0F, 0x01, 0x13});
  EXPECT_EQ(cpu.state.gdtr.base, 0xFFFF'8000'0000'1000U);
  EXPECT_EQ(cpu.state.gdtr.limit, 0x7F);
  poke_physical<std::uint64_t>(kData + 2, 0x0000'8000'0000'0000);
  EXPECT_FAULT_CODE(kGp, 0, execute({0x0F, 0x01, 0x13}));
  EXPECT_EQ(cpu.state.gdtr.base, 0xFFFF'8000'0000'1000U);
}

TEST_F(SystemControl, LidtWith16BitOperandsTakes24BitsOfBase) {
  enter_real_mode();
  gpr(x86::kRbx) = kData;
  poke_physical<std::uint16_t>(kData, 0x3FF);
  poke_physical<std::uint32_t>(kData + 2, 0x8912'3456);
  execute({0x0F, 0x01, 0x1F});  // lidt [bx]
  EXPECT_EQ(cpu.state.idtr.base, 0x12'3456U);
  execute({0x66, 0x0F, 0x01, 0x1F});
  EXPECT_EQ(cpu.state.idtr.base, 0x8912'3456U);
  EXPECT_EQ(cpu.state.idtr.limit, 0x3FF);
}

TEST_F(SystemControl, SgdtStoresLimitAndBase) {
  cpu.state.gdtr = {0xFFFF'8000'0000'1000, 0x7F};
  gpr(x86::kRbx) = kData;
  execute({0x0F, 0x01, 0x03});
  EXPECT_EQ(peek<std::uint16_t>(kData), 0x7F);
  EXPECT_EQ(peek<std::uint64_t>(kData + 2), 0xFFFF'8000'0000'1000U);
}

TEST_F(SystemControl, LoadsOfTablesArePrivileged) {
  enter_64_bit(3);
  EXPECT_FAULT_CODE(kGp, 0, execute({0x0F, 0x01, 0x13}));  // lgdt
  EXPECT_FAULT_CODE(kGp, 0, execute({0x0F, 0x01, 0x1B}));  // lidt
  EXPECT_FAULT_CODE(kGp, 0, execute({0x0F, 0x00, 0xD0}));  // lldt ax
  EXPECT_FAULT_CODE(kGp, 0, execute({0x0F, 0x00, 0xD8}));  // ltr ax
}

TEST_F(SystemControl, LldtOfTheNullSelectorUnloads) {
  cpu.state.ldtr.selector = 0x18;
  gpr(x86::kRax) = 0;
  execute({0x0F, 0x00, 0xD0});
  EXPECT_EQ(cpu.state.ldtr.selector, 0);
  EXPECT_TRUE(cpu.state.ldtr.unusable());
  EXPECT_FAULT_CODE(kGp, 0, execute({0x0F, 0x00, 0xD8}));  // but TR has to point somewhere
}

TEST_F(SystemControl, SldtZeroExtendsIntoRegisters) {
  cpu.state.ldtr.selector = 0x18;
  gpr(x86::kRax) = ~std::uint64_t{0};
  execute({0x0F, 0x00, 0xC0});
  EXPECT_EQ(gpr(x86::kRax), 0x18U);
}

}  // namespace
}  // namespace doppel::isa
