#include "engine/dbt/twins.h"

/// AH, CH, DH and BH beside memory: guest RCX is kept where CH cannot be named.
namespace doppel::engine::test {
namespace {

namespace r = asmjit::x86;
using asmjit::Label;
using asmjit::x86::Assembler;

TEST(HighBytes, are_stored_added_and_compared) {
  Twins twins;
  for (const TwinMode mode : {TwinMode::User64, TwinMode::Protected32}) {
    twins.enter(mode);
    twins.state.gpr[x86::kRcx] = 0x8765'4321;
    twins.state.gpr[x86::kRbx] = Twins::kData + 16;
    twins.state.gpr[x86::kRsi] = 5;
    twins.place_code(kCodeAddress, [](Assembler& a) {
      const Label again = a.newLabel();
      a.mov(r::edi, 30);
      a.bind(again);
      a.mov(r::byte_ptr(r::ebx, r::esi), r::ch);
      a.add(r::ch, 0x35);
      a.add(r::byte_ptr(r::ebx, r::esi, 0, 1), r::ch);
      a.adc(r::byte_ptr(r::ebx, 2), r::ah);
      a.cmp(r::byte_ptr(r::ebx, 1), r::ch);
      a.sbb(r::edx, 7);
      a.sub(r::dh, r::byte_ptr(r::ebx, r::esi));
      a.xor_(r::ch, r::byte_ptr(r::ebx, r::esi));
      a.xchg(r::byte_ptr(r::ebx, 7), r::ch);
      a.test(r::byte_ptr(r::ebx, 2), r::bh);
      a.setz(r::ah);
      a.dec(r::edi);
      a.jnz(again);
      a.ud2();
    });
    twins.state.rip = kCodeAddress;
    twins.run_and_compare();
    EXPECT_EQ(twins.exception(), x86::vector::kUd);
    EXPECT_EQ(twins.right.state.gpr[x86::kRdi], 0U);
  }
}

TEST(HighBytes, that_are_only_read_need_no_interpreter) {
  Twins twins;
  twins.enter(TwinMode::User64);
  twins.state.gpr[x86::kRcx] = 0x1234;
  twins.place_code(kCodeAddress, [](Assembler& a) {
    const Label again = a.newLabel();
    a.mov(r::edi, 100);
    a.bind(again);
    a.mov(r::byte_ptr(Twins::kData), r::ch);
    a.dec(r::edi);
    a.jnz(again);
    a.ud2();
  });
  twins.state.rip = kCodeAddress;
  twins.run_and_compare();
  EXPECT_LT(twins.right.vcpu->stats()["interpreted"].get<unsigned>(), 10U);
}

}  // namespace
}  // namespace doppel::engine::test
