#include "engine/dbt/twins.h"

/// The interpreter, coming by a jump to an instruction that goes over into the next page, did not ask again where that
/// page is.
namespace doppel::engine::test {
namespace {

TEST(JumpToInsnAcrossPages, FindsTheSecondPageWhereItIsNow) {
  constexpr std::uint64_t kNext = kCodeAddress + 0x1000, kElsewhere = kCodeAddress + 0x2'0000, kAll = 7;
  Twins twins;
  twins.enter(TwinMode::User64);
  // mov eax, imm32, of which the last two bytes are in the second page.
  twins.place_code(kCodeAddress, [](asmjit::x86::Assembler& a) { a.jmp(kNext - 3); });
  const auto place_end = [&](std::uint64_t address, std::uint16_t value) {
    twins.poke(address, value);
    twins.place_code(address + 2, [](asmjit::x86::Assembler& a) { a.ud2(); });
  };
  twins.poke<std::uint8_t>(kNext - 3, 0xB8);
  twins.poke<std::uint16_t>(kNext - 2, 0x1111);
  place_end(kNext, 0x2222);
  place_end(kElsewhere, 0x3333);
  twins.run_and_compare("at first");
  EXPECT_EQ(twins.left.state.gpr[x86::kRax], 0x2222'1111U);
  twins.poke(Twins::entry_of(kNext), kElsewhere | kAll);
  twins.run_and_compare("with another second page");
  EXPECT_EQ(twins.left.state.gpr[x86::kRax], 0x3333'1111U);
}

}  // namespace
}  // namespace doppel::engine::test
