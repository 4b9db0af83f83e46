#include "x86/descriptor.h"
#include "x86/transfer.h"

/// The fast system calls load flat segments of fixed attributes without looking at their descriptors; SDM vol. 2,
/// SYSCALL, SYSENTER; APM vol. 3. Intel's and AMD's processors differ; the guest's vendor decides.
namespace doppel::x86 {

namespace {

constexpr std::uint32_t kCode64 = kFlatCode64, kCode32 = 0xC09B, kData32 = kFlatData32, kDpl3 = 3 << 5;
constexpr std::uint64_t kDr6Bs = bit(14);

bool is_amd(const Cpu& cpu) {
  return cpu.ports.cpuid.vendor() == CpuidModel::Vendor::Amd;
}

void set_flat(Segment& segment, std::uint64_t selector, std::uint32_t attributes) {
  segment.selector = static_cast<std::uint16_t>(selector);
  segment.base = 0;
  segment.limit = 0xFFFF'FFFF;
  segment.attributes = attributes;
}

void enter_level_0(CpuState& state, std::uint64_t selector, bool code_64) {
  set_flat(state.seg(SegReg::Cs), selector & 0xFFFC, code_64 ? kCode64 : kCode32);
  set_flat(state.seg(SegReg::Ss), (selector & 0xFFFC) + 8, kData32);
}

void enter_level_3(CpuState& state, std::uint64_t code, std::uint64_t stack, bool code_64) {
  set_flat(state.seg(SegReg::Cs), code | 3, (code_64 ? kCode64 : kCode32) | kDpl3);
  set_flat(state.seg(SegReg::Ss), stack | 3, kData32 | kDpl3);
}

/// #UD of SYSCALL and SYSRET: AMD has them in every protected mode, Intel in 64-bit mode only.
void check_available(const Cpu& cpu) {
  const CpuState& state = cpu.state;
  if ((state.efer & efer::kSce) == 0 || !state.protected_mode()) raise_ud();
  if (!state.code_64() && !is_amd(cpu)) raise_ud();
}

/// #UD and #GP of SYSENTER and SYSEXIT: AMD has none in long mode.
void check_sysenter(const Cpu& cpu) {
  const CpuState& state = cpu.state;
  if (state.long_mode_active() && is_amd(cpu)) raise_ud();
  if (!state.protected_mode() || (state.sysenter_cs & 0xFFFC) == 0) raise_gp(0);
}

}  // namespace

void syscall(Cpu& cpu) {
  using namespace rflags;
  check_available(cpu);
  CpuState& state = cpu.state;
  const std::uint64_t selector = bits(state.star, 47, 32);
  if (state.long_mode_active()) {
    const bool from_64 = state.code_64();
    state.gpr[kRcx] = state.rip;
    state.gpr[kR11] = state.rflags() & ~kRf;
    enter_level_0(state, selector, true);
    state.rip = from_64 ? state.lstar : state.cstar;
    state.set_rflags(state.rflags() & ~(state.sfmask | kRf));
  } else {
    state.gpr[kRcx] = state.rip;
    enter_level_0(state, selector, false);
    state.rip = bits(state.star, 31, 0);
    state.set_rflags(state.rflags() & ~(kVm | kIf | kRf));
  }
  // TF counts as it is after the instruction, so that a debugger steps over a system call and not into it.
  cpu.single_step = (state.rflags_without_of & kTf) != 0;
  cpu.mmu.refresh_view();
}

void sysret(Cpu& cpu, unsigned operand_size) {
  using namespace rflags;
  check_available(cpu);
  CpuState& state = cpu.state;
  if (state.cpl() != 0) raise_gp(0);
  const bool to_64 = operand_size == 8;
  const std::uint64_t rip = to_64 ? state.gpr[kRcx] : state.gpr[kRcx] & 0xFFFF'FFFF;
  // AMD faults when the first instruction is fetched, at level 3.
  if (!is_canonical(rip) && !is_amd(cpu)) raise_gp(0);

  const std::uint64_t selector = bits(state.star, 63, 48);
  if (state.long_mode_active()) {
    constexpr std::uint64_t kLoaded = kStatus | kTf | kIf | kDf | kIopl | kNt | kAc | kVif | kVip | kId;
    state.set_rflags(state.gpr[kR11] & kLoaded);
  } else {
    state.set_rflags(state.rflags() | kIf);
  }
  enter_level_3(state, to_64 ? selector + 16 : selector, selector + 8, to_64);
  state.rip = rip;
  // Unlike IRET, SYSRET traps at once when it sets TF, whether it was stepped or not.
  cpu.single_step = false;
  if ((state.rflags_without_of & kTf) != 0) state.pending_debug |= kDr6Bs;
  cpu.mmu.refresh_view();
}

void sysenter(Cpu& cpu) {
  using namespace rflags;
  check_sysenter(cpu);
  CpuState& state = cpu.state;
  const bool to_64 = state.long_mode_active();
  const std::uint64_t mask = to_64 ? ~std::uint64_t{0} : 0xFFFF'FFFF;
  enter_level_0(state, state.sysenter_cs, to_64);
  state.rip = state.sysenter_eip & mask;
  state.gpr[kRsp] = state.sysenter_esp & mask;
  state.set_rflags(state.rflags() & ~(kVm | kIf | kRf));
  cpu.mmu.refresh_view();
}

void sysexit(Cpu& cpu, unsigned operand_size) {
  CpuState& state = cpu.state;
  if (state.cpl() != 0) raise_gp(0);
  check_sysenter(cpu);
  const bool to_64 = operand_size == 8;
  const std::uint64_t mask = to_64 ? ~std::uint64_t{0} : 0xFFFF'FFFF;
  const std::uint64_t rip = state.gpr[kRdx] & mask, rsp = state.gpr[kRcx] & mask;
  if (!is_canonical(rip) || !is_canonical(rsp)) raise_gp(0);

  const std::uint64_t code = (state.sysenter_cs & 0xFFFC) + (to_64 ? 32 : 16);
  enter_level_3(state, code, code + 8, to_64);
  state.rip = rip;
  state.gpr[kRsp] = rsp;
  cpu.mmu.refresh_view();
}

}  // namespace doppel::x86
