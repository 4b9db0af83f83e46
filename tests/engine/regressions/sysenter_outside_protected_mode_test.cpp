#include "engine/guest_program.h"

/// SYSENTER and SYSEXIT raised #UD in real and virtual-8086 mode. It is #GP in real mode; in virtual-8086 mode SYSENTER
/// works as in protected mode.
namespace doppel::engine::test {
namespace {

class SysenterOutsideProtectedMode : public OnEachEngine {
 protected:
  static constexpr std::uint64_t kCode = 0x700, kHandler = 0x600;

  SysenterOutsideProtectedMode() {
    state.efer = 0;
    state.cr4 = 0;
    state.cr0 &= ~(x86::cr0::kPe | x86::cr0::kPg);
    for (Segment& segment : state.segment) {
      segment.selector = 0;
      segment.base = 0;
      segment.limit = 0xFFFF;
      segment.attributes &= ~(Segment::kL | Segment::kDb | Segment::kG);
    }
    state.gpr[x86::kRsp] = 0x7000;
    state.rip = kCode;
  }

  void expect_gp(std::initializer_list<unsigned> code) {
    state.idtr = {0, 0x3FF};
    memory.write_value(std::uint64_t{4} * x86::vector::kGp, std::uint32_t{kHandler});
    place(kHandler, {0xF4});
    place(kCode, code);
    ASSERT_EQ(run(), ExitReason::Halted);
    EXPECT_EQ(state.rip, kHandler + 1);
    EXPECT_EQ(peek_physical<std::uint16_t>(state.gpr[x86::kRsp]), kCode);
  }
};

TEST_P(SysenterOutsideProtectedMode, SysenterInRealMode) {
  state.sysenter_cs = 0x10;
  expect_gp({0x0F, 0x34, 0xF4});
}

TEST_P(SysenterOutsideProtectedMode, SysexitInRealMode) {
  state.sysenter_cs = 0x10;
  expect_gp({0x0F, 0x35, 0xF4});
}

TEST_P(SysenterOutsideProtectedMode, SysenterInVirtual8086Mode) {
  state.cr0 |= x86::cr0::kPe;
  state.set_rflags(x86::rflags::kVm);
  for (Segment& segment : state.segment) segment.attributes |= 3U << 5;
  state.sysenter_cs = 0x10;
  state.sysenter_eip = kHandler;
  state.sysenter_esp = 0x6800;
  place(kHandler, {0xF4});
  place(kCode, {0x0F, 0x34, 0xF4});
  ASSERT_EQ(run(), ExitReason::Halted);
  EXPECT_EQ(state.rip, kHandler + 1);
  EXPECT_EQ(state.gpr[x86::kRsp], 0x6800U);
  EXPECT_FALSE(state.virtual_8086());
}

DOPPEL_TEST_ON_EACH_ENGINE(SysenterOutsideProtectedMode);

}  // namespace
}  // namespace doppel::engine::test
