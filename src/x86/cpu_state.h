#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "x86/registers.h"

namespace doppel::state {
class Visitor;
}

namespace doppel::x86 {

/// A segment register with its hidden part. Attributes are the descriptor's bits 40–47 and 52–55 as VMX and SVM pack
/// them: bits 0–3 type, 4 S, 5–6 DPL, 7 P, 12 AVL, 13 L, 14 D/B, 15 G; bit 16 set = unusable (SDM vol. 3, 24.4.1).
struct Segment {
  std::uint64_t base = 0;
  std::uint32_t limit = 0;  ///< in bytes, granularity already applied
  std::uint32_t attributes = 0;
  std::uint16_t selector = 0;

  static constexpr std::uint32_t kTypeMask = 0xF, kS = 1 << 4, kP = 1 << 7, kL = 1 << 13, kDb = 1 << 14, kG = 1 << 15,
                                 kUnusable = 1 << 16;
  unsigned type() const { return attributes & kTypeMask; }
  bool code_or_data() const { return (attributes & kS) != 0; }
  unsigned dpl() const { return (attributes >> 5) & 3; }
  bool present() const { return (attributes & kP) != 0; }
  bool long_mode() const { return (attributes & kL) != 0; }
  bool default_32() const { return (attributes & kDb) != 0; }
  bool unusable() const { return (attributes & kUnusable) != 0; }
  bool is_code() const { return code_or_data() && (type() & 8) != 0; }
  bool expand_down() const { return code_or_data() && (type() & 0xC) == 4; }

  void describe(state::Visitor& visitor);
};

/// GDTR and IDTR.
struct TableRegister {
  std::uint64_t base = 0;
  std::uint16_t limit = 0;

  void describe(state::Visitor& visitor);
};

/// One 256-bit register; XMMn is its low half.
struct alignas(32) Ymm {
  std::array<std::uint64_t, 4> qword{};

  void describe(state::Visitor& visitor);
};

/// x87, MMX and MXCSR, laid out as the legacy region of the 64-bit FXSAVE image (SDM vol. 1, table 10-2), so that a
/// thunk can FXRSTOR and FXSAVE it. `st[i]` is ST(i), relative to TOP; MMX instructions make TOP 0, so MMn is then
/// st[n].
struct alignas(16) FpuState {
  std::uint16_t fcw = 0x37F;
  std::uint16_t fsw = 0;
  std::uint8_t ftw = 0;  ///< abridged: 1 = not empty, by physical register
  std::uint8_t reserved = 0;
  std::uint16_t fop = 0;
  std::uint64_t fip = 0;
  std::uint64_t fdp = 0;
  std::uint32_t mxcsr = 0x1F80;
  std::uint32_t mxcsr_mask = 0;  ///< written by FXSAVE, not state
  struct St {
    std::uint64_t significand = 0;
    std::uint16_t sign_exponent = 0;
    std::array<std::uint16_t, 3> reserved{};
    void describe(state::Visitor& visitor);
  };
  std::array<St, 8> st{};
  /// Where FXSAVE puts XMM registers and leaves room; not state (XMM is in CpuState::ymm).
  std::array<std::uint64_t, 44> scratch{};

  void describe(state::Visitor& visitor);
};
static_assert(sizeof(FpuState) == 512);

/// What a logical processor is doing between instructions; SDM vol. 3, 24.4.2 and 8.4.
enum class Activity : std::uint8_t { Running, Halted, WaitForSipi, Shutdown };

/// Everything architectural of one logical processor, apart from its local APIC. The canonical form: engines may keep
/// parts of it elsewhere while they run, and put it back in VcpuRunner::store. Owned by the vCPU; touched by its thread
/// only, or by the machine's owner while the VM is paused. Values after power-up are those of SDM vol. 3, table 9-1,
/// but for what every firmware does next: FNINIT, and the MTRRs.
struct CpuState {
  std::array<std::uint64_t, 16> gpr{};
  std::uint64_t rip = 0xFFF0;

  /// RFLAGS is kept in two pieces, so that saving arithmetic flags is LAHF and SETO. Use rflags() and set_rflags().
  std::uint64_t rflags_without_of = rflags::kReserved1;
  std::uint8_t of = 0;
  std::uint64_t rflags() const { return rflags_without_of | (std::uint64_t{of} << 11); }
  void set_rflags(std::uint64_t value) {
    rflags_without_of = (value & ~rflags::kOf) | rflags::kReserved1;
    of = static_cast<std::uint8_t>((value >> 11) & 1);
  }

  std::array<Segment, 6> segment = power_up_segments();  ///< by SegReg
  Segment ldtr{0, 0xFFFF, Segment::kP | 2, 0}, tr{0, 0xFFFF, Segment::kP | 11, 0};
  TableRegister gdtr{0, 0xFFFF}, idtr{0, 0xFFFF};

  std::uint64_t cr0 = 0x6000'0010, cr2 = 0, cr3 = 0, cr4 = 0;  ///< CR8 is the local APIC's TPR
  std::array<std::uint64_t, 4> dr{};
  std::uint64_t dr6 = 0xFFFF'0FF0, dr7 = 0x400;
  std::uint64_t xcr0 = 1;
  /// The four PDPTEs, loaded by MOV CR3 in PAE mode outside long mode (SDM vol. 3, 4.4.1).
  std::array<std::uint64_t, 4> pdpte{};

  // Model-specific registers that are CPU state; those of the local APIC live there.
  std::uint64_t efer = 0;
  std::uint64_t star = 0, lstar = 0, cstar = 0, sfmask = 0,
                kernel_gs_base = 0;  ///< FS.base and GS.base are in the segments
  std::uint64_t sysenter_cs = 0, sysenter_esp = 0, sysenter_eip = 0;
  std::uint64_t pat = 0x0007'0406'0007'0406;
  std::uint64_t tsc_offset = 0;  ///< guest TSC = VM clock ticks + this; what WRMSR(TSC) and TSC_ADJUST change
  std::uint64_t tsc_adjust = 0;
  std::uint32_t tsc_aux = 0;
  std::uint64_t misc_enable = 1;  ///< fast strings
  std::uint64_t spec_ctrl = 0;
  std::uint64_t mcg_status = 0;
  /// Enabled, write-back: as firmware leaves it, for no firmware runs before a kernel that we load ourselves.
  std::uint64_t mtrr_def_type = 0xC06;
  std::array<std::uint64_t, 11> mtrr_fixed{};
  std::array<std::uint64_t, 16> mtrr_variable{};  ///< base and mask pairs
  // KVM paravirtual interface (Linux, Documentation/virt/kvm/x86/msr.rst).
  std::uint64_t kvm_system_time = 0, kvm_wall_clock = 0, kvm_async_pf = 0, kvm_steal_time = 0, kvm_pv_eoi = 0,
                kvm_poll_control = 1;

  FpuState fpu;
  std::array<Ymm, 16> ymm{};

  Activity activity = Activity::Running;
  std::uint8_t sipi_vector = 0;
  /// Interrupts are held off until the instruction after this one: by STI, or by a load of SS (that holds off #DB and
  /// NMI too).
  bool sti_shadow = false;
  bool ss_shadow = false;
  bool nmi_blocked = false;
  bool nmi_pending = false;
  /// Debug exceptions of the instruction that has just ended, as DR6 bits, still to be delivered as a trap.
  std::uint64_t pending_debug = 0;
  /// A x87 error with CR0.NE clear has frozen the processor's FERR# output high.
  bool ferr = false;

  static constexpr std::array<Segment, 6> power_up_segments() {
    constexpr Segment kData{0, 0xFFFF, Segment::kP | Segment::kS | 3, 0};
    constexpr Segment kCode{0xFFFF'0000, 0xFFFF, Segment::kP | Segment::kS | 3, 0xF000};
    return {kData, kCode, kData, kData, kData, kData};
  }

  Segment& seg(SegReg reg) { return segment[static_cast<std::size_t>(reg)]; }
  const Segment& seg(SegReg reg) const { return segment[static_cast<std::size_t>(reg)]; }

  bool protected_mode() const { return (cr0 & cr0::kPe) != 0; }
  bool virtual_8086() const { return (rflags_without_of & rflags::kVm) != 0; }
  bool long_mode_active() const { return (efer & efer::kLma) != 0; }
  bool code_64() const { return long_mode_active() && seg(SegReg::Cs).long_mode(); }
  /// CPL: SS.DPL in protected mode (SDM vol. 3, 24.4.1), 0 in real mode, 3 in virtual-8086 mode.
  unsigned cpl() const { return protected_mode() ? (virtual_8086() ? 3 : seg(SegReg::Ss).dpl()) : 0; }

  /// Power-up (`init` false) or INIT (SDM vol. 3, 9.1.1). `bootstrap`: the BSP runs from the reset vector, others wait
  /// for SIPI.
  void reset(bool init, bool bootstrap);
  void describe(state::Visitor& visitor);
};

}  // namespace doppel::x86
