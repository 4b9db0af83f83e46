#include "engine/dbt/twins.h"

/// A null selector kept its RPL over an IRET to user code, of which the processor leaves nothing.
namespace doppel::engine::test {
namespace {

namespace r = asmjit::x86;

TEST(NullSelectorsAfterIret, AreZero) {
  static constexpr unsigned kUserStack = 0x1B, kUserCode = 0x23;
  static constexpr std::uint64_t kUserAddress = kCodeAddress + 0x800;
  Twins twins;
  twins.enter(TwinMode::Supervisor64);
  twins.place_code(kCodeAddress, [](r::Assembler& a) {
    a.mov(r::ecx, 3);
    for (const r::SReg& segment : {r::ds, r::es, r::fs, r::gs}) a.mov(segment, r::ecx);
    a.push(kUserStack);
    a.push(static_cast<int>(kStackTop));
    a.push(2);
    a.push(kUserCode);
    a.push(static_cast<int>(kUserAddress));
    a.iretq();
  });
  twins.place_code(kUserAddress, [](r::Assembler& a) {
    a.mov(r::eax, r::ds);
    a.mov(r::ebx, r::es);
    a.mov(r::esi, r::fs);
    a.mov(r::edi, r::gs);
    a.ud2();
  });
  twins.run_and_compare();
  EXPECT_EQ(twins.exception(), x86::vector::kUd);
  for (const unsigned reg : {x86::kRax, x86::kRbx, x86::kRsi, x86::kRdi}) EXPECT_EQ(twins.right.state.gpr[reg], 0U);
}

}  // namespace
}  // namespace doppel::engine::test
